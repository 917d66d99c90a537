"""The log of a node process: JSON when asked for, slow requests with their keys, and a level that signals change."""

from __future__ import annotations

import json
import signal

from kvcache_client.protocol.verbs import Verb


def lines(node):
    return [json.loads(line) for line in node.log.splitlines()]


def said(node, event):
    return [line for line in lines(node) if line["event"] == event]


def test_every_line_is_json_and_names_its_event_and_node(start_process):
    node = start_process("--log-format", "json", "--id", "n1").serving()
    (serving,) = said(node, "node_serving")
    assert serving["fields"] == {"node": "n1", "cluster": "default", "address": node.address}
    assert {line["node"] for line in lines(node)} == {"n1"}


def test_signals_change_the_level_of_a_node_that_runs(start_process, eventually):
    node = start_process("--log-format", "json").serving()
    for number, level in ((signal.SIGUSR1, "debug"), (signal.SIGUSR2, "info"), (signal.SIGUSR2, "warning")):
        before = len(said(node, "log_level_changed"))
        node.signal(number)
        eventually(lambda before=before: len(said(node, "log_level_changed")) > before, "the level is told")
        assert said(node, "log_level_changed")[-1]["fields"] == {"to": level, "by": number.name}
    assert node.get("/healthz")[0] == 200


def test_a_slow_request_is_told_with_its_first_key_escaped(start_process, eventually):
    node = start_process("--log-format", "json", "--slow-ms", "1").serving()
    keys = [b"slow\n\xff%d" % number for number in range(1000)]
    with node.wire().introduce() as wire:
        eventually(
            lambda: wire.ask(int(Verb.GET_MANY), *keys) and said(node, "slow_request"), "one takes a millisecond"
        )
    fields = said(node, "slow_request")[0]["fields"]
    assert (fields["verb"], fields["keys"], fields["key"]) == ("GET_MANY", 1000, "slow\\n\\xff0")
    assert fields["ms"] >= 1
    assert node.statistics()["requests"]["slow"] >= 1
