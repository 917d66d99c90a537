"""The cluster at one moment: rates of two samples, quantiles, and what nodes say of it together."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvcache.histogram import SERVICE_SECONDS, Histogram
from kvcache.transport.http.overview import Sample, overview, quantile
from kvcache_client.core.routing import View
from kvcache_client.placement.layout import Move
from kvcache_client.placement.partitions import PARTITIONS
from kvcache_client.placement.topology import Member, Topology
from kvcache_client.protocol.errors import ConnectFailed


def told(hits=0, life="a", gets=(), events=(), **sections):
    times = Histogram(SERVICE_SECONDS)
    for seconds in gets:
        times.add(seconds)
    return {
        "node": {"incarnation": life},
        "store": {"hits": hits, "misses": 0, "records": 5},
        "requests": {"handling_seconds": {"GET": times.as_dict()}},
        "events": {"recent": list(events)},
        **sections,
    }


@pytest.fixture(scope="module")
def pair() -> View:
    topology = Topology.found("shop", cluster_id="00c0ffee", seed=1, replication_factor=2)
    for id in ("a", "b"):
        topology = topology.with_member(Member(id, f"127.0.0.1:{ord(id)}"))
    return View(topology.settled())


def node(shown, id):
    return next(entry for entry in shown["nodes"] if entry["id"] == id)


def test_two_samples_make_rates_and_one_makes_none(pair):
    first = Sample(10.0, {"a": told(hits=100), "b": told()})
    then = Sample(12.0, {"a": told(hits=150), "b": told()})
    assert node(overview(pair, Sample(0.0), first), "a")["hits_per_second"] is None
    assert node(overview(pair, first, then), "a")["hits_per_second"] == 25.0


def test_counters_of_two_lives_are_not_compared(pair):
    first, then = Sample(10.0, {"a": told(hits=100)}), Sample(12.0, {"a": told(hits=7, life="b")})
    assert node(overview(pair, first, then), "a")["hits_per_second"] is None


def test_a_node_that_does_not_answer_is_shown_with_the_reason(pair):
    shown = overview(pair, Sample(0.0), Sample(1.0, {"a": told(), "b": ConnectFailed("refused", node="b")}))
    assert (node(shown, "a")["answers"], node(shown, "b")["answers"]) == (True, False)
    assert node(shown, "b")["error"].startswith("ConnectFailed: refused")
    assert node(shown, "b")["records"] == 0
    json.dumps(shown)


def test_shares_and_the_ring_add_up(pair):
    shown = overview(pair, Sample(0.0), Sample(1.0))
    assert sum(entry["primaries"] for entry in shown["nodes"]) == PARTITIONS
    assert sum(entry["partitions"] for entry in shown["nodes"]) == 2 * PARTITIONS
    assert [len(band) for band in shown["ring"]] == [360, 360]
    assert {at for band in shown["ring"] for at in band} == {0, 1}
    assert all(first != second for first, second in zip(*shown["ring"], strict=True))


def test_latency_is_that_of_the_last_second_when_enough_was_asked(pair):
    slow, quick = [0.01] * 100, [0.00001] * 100
    first, then = Sample(1.0, {"a": told(gets=slow)}), Sample(2.0, {"a": told(gets=slow + quick)})
    assert overview(pair, first, then)["latency"]["get"]["p99"] <= 0.00001
    assert overview(pair, then, then)["latency"]["get"]["p99"] > 0.005
    assert overview(pair, first, then)["latency"]["put"] == {"p50": None, "p99": None}


@given(st.lists(st.floats(1e-6, 10), min_size=1), st.sampled_from([0.5, 0.99]))
def test_a_quantile_lies_in_the_bucket_of_the_true_one(values, part):
    times = Histogram(SERVICE_SECONDS)
    for value in values:
        times.add(value)
    true = sorted(values)[min(int(len(values) * part), len(values) - 1)]
    if len(values) * part != int(len(values) * part):
        high = next(bound for bound in SERVICE_SECONDS if bound >= true)
        low = max((bound for bound in SERVICE_SECONDS if bound < true), default=0.0)
        assert low <= quantile(times.as_dict()["buckets"], part) <= high * 1.000001


def test_a_move_is_shown_with_its_progress(pair):
    from dataclasses import replace

    move = Move(id="0000000a", stage="stream", target=pair.topology.layout, reason="c joins", rate=7)
    moving = View(replace(pair.topology, move=move, epoch=99))
    numbers = {"move": {"partitions_left": 25, "partitions_promised": 100}, "loading": {"records": 3}}
    shown = overview(moving, Sample(0.0), Sample(1.0, {"a": told(**numbers), "b": told(**numbers)}))["move"]
    assert (shown["reason"], shown["stage"], shown["rate"]) == ("c joins", "stream", 7)
    assert (shown["left"], shown["total"], shown["records"]) == (50, 200, 6)


def test_what_all_nodes_say_of_an_epoch_is_shown_once_and_the_newest_first(pair):
    def event(id, at, name, epoch=None):
        return {"id": id, "at": at, "level": "info", "event": name, "text": name, "epoch": epoch}

    shown = overview(
        pair,
        Sample(0.0),
        Sample(
            1.0,
            {
                "a": told(events=[event("x-1", 1.0, "member_up", 3), event("x-2", 5.0, "stood_still")]),
                "b": told(events=[event("y-1", 1.5, "member_up", 3), event("y-2", 2.0, "stood_still")]),
            },
        ),
    )["events"]
    assert [(it["id"], it["node"]) for it in shown] == [("x-2", "a"), ("y-2", "b"), ("x-1", "")]
