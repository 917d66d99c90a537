"""kvcache node: options from every source reach the node, errors reach the user."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request

import pytest

import kvcache.node_process
from kvcache.options import NodeOptions


@pytest.fixture
def started(monkeypatch):
    """Run no node, but keep the options that it would have got."""
    seen: list[NodeOptions] = []

    async def run(options):
        seen.append(options)
        return 0

    monkeypatch.setattr(kvcache.node_process, "run", run)
    monkeypatch.setattr("logging.basicConfig", lambda **_: None)
    return seen


def test_options_come_from_the_command_line_the_environment_and_a_file(run, started, tmp_path):
    path = tmp_path / "node.toml"
    path.write_text('zone = "east"\nweight = 2\nmemory = "64MiB"')
    result = run("node", "--config", str(path), "--memory", "1GiB", env={"KVCACHE_WEIGHT": "3", "KVCACHE_ID": "alpha"})
    assert result.exit_code == 0, result.stderr
    assert started == [NodeOptions(zone="east", weight=3, memory=1 << 30, id="alpha")]


def test_without_anything_the_defaults_hold(run, started):
    assert run("node").exit_code == 0
    assert started == [NodeOptions()]


@pytest.mark.parametrize(
    ("words", "environment", "said"),
    [
        (["--memory", "lots"], {}, "InvalidOption: --memory: 'lots' is not a size"),
        ([], {"KVCACHE_WEIGHT": "0"}, "InvalidOption: KVCACHE_WEIGHT: '0' is not within 1..1000"),
        (["--busy-polling", "0.5"], {}, "InvalidOption: --busy-polling: '0.5' is not within 0..0.001"),
        (["--config", "/no/such/file"], {}, "InvalidOption: cannot read the configuration file /no/such/file"),
        (["--listen", "0.0.0.0:7700"], {}, "InvalidOption: listen '0.0.0.0:7700' is every address"),
    ],
)
def test_a_bad_option_has_code_2_and_one_line(run, started, words, environment, said):
    result = run("node", *words, env=environment)
    assert result.exit_code == 2
    assert result.stderr.startswith(said)
    assert result.stderr.count("\n") == 1
    assert not started


def test_the_exit_code_of_the_node_is_that_of_the_command(run, monkeypatch):
    async def fail(options):
        return 4

    monkeypatch.setattr(kvcache.node_process, "run", fail)
    monkeypatch.setattr("logging.basicConfig", lambda **_: None)
    assert run("node").exit_code == 4


def test_a_node_serves_alone_and_stops_on_sigterm(until):
    from kvcache.commands.local_cluster import LocalPlan, choose_ports

    [port] = choose_ports(LocalPlan(nodes=1, port=0))
    process = subprocess.Popen(
        [sys.executable, "-m", "kvcache", "node", "--listen", f"127.0.0.1:{port}", "--log-level", "error"]
    )
    try:

        def topology():
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/topology", timeout=5) as reply:
                    return json.load(reply)
            except OSError:
                return None

        assert [member["address"] for member in until(topology)["members"]] == [f"127.0.0.1:{port}"]
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait(20)
