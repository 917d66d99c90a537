"""Whom reads avoid because of how it answers, and how it comes back."""

from __future__ import annotations

from typing import Any

import pytest
from memory_network import MemoryNetwork, Weather

from kvcache_client.core.breaker import Breaker
from kvcache_client.core.nodes import Nodes
from kvcache_client.protocol.verbs import Message, Verb


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """A breaker with its surroundings."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.nodes = Nodes()
        self.breaker = Breaker(self.clock, lambda: 1.0, self.nodes)

    def answers(self, seconds: float, *nodes: str, count: int = 128) -> None:
        for node in nodes:
            for _ in range(count):
                self.nodes[node].observe(seconds, self.clock.now)

    def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds * 10)):
            self.clock.now += 0.1
            self.breaker.watch(self.clock.now)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_three_failures_in_a_row_open(bench: Bench) -> None:
    for _ in range(2):
        bench.answers(0.001, "a", count=1)
        bench.breaker.failed("a", "NodeFault")
        assert not bench.breaker.opened
    bench.breaker.failed("a", "NodeFault")
    assert set(bench.breaker.opened) == {"a"}
    assert "NodeFault" in repr(bench.breaker)


def test_failures_among_many_good_answers_do_not_open(bench: Bench) -> None:
    for _ in range(50):
        bench.answers(0.001, "a", count=10)
        bench.breaker.failed("a", "NodeFault")
    assert not bench.breaker.opened


def test_a_batch_of_failures_opens_as_soon_as_half_of_it_is_known(bench: Bench) -> None:
    bench.nodes["a"].observe(0.001, 0.0, replies=20)
    for _ in range(9):
        bench.breaker.failed("a", "NodeFault")
    assert not bench.breaker.opened
    bench.breaker.failed("a", "NodeFault")
    assert "a" in bench.breaker.opened


def test_a_node_that_stays_far_slower_than_its_peers_opens_and_a_short_spell_does_not(bench: Bench) -> None:
    bench.answers(0.002, "a", "b")
    bench.answers(0.05, "c")
    bench.pass_time(0.8)
    bench.answers(0.002, "c")
    bench.pass_time(2)
    assert not bench.breaker.opened
    bench.answers(0.05, "c")
    bench.pass_time(1.2)
    assert set(bench.breaker.opened) == {"c"}
    assert "50.0 ms, its peers 2.0 ms" in bench.breaker.opened["c"].reason


def test_differences_that_nobody_feels_and_slowness_of_all_open_nothing(bench: Bench) -> None:
    bench.answers(0.0002, "a", "b")
    bench.answers(0.004, "c")
    bench.pass_time(5)
    bench.answers(0.5, "a", "b", "c")
    bench.pass_time(5)
    assert not bench.breaker.opened


def test_probes_are_given_out_one_by_one_with_growing_waits_and_a_good_answer_closes(bench: Bench) -> None:
    bench.answers(0.001, "a", "b")
    for _ in range(3):
        bench.breaker.failed("a", "NodeFault")
    waits = []
    for _ in range(7):
        began = bench.clock.now
        assert bench.breaker.due(["b", "a"]) is None
        bench.clock.now = bench.breaker.opened["a"].retry_at
        waits.append(round(bench.clock.now - began, 3))
        assert bench.breaker.due(["b", "a"]) == "a"
    assert waits == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    bench.breaker.probed("a", 1.0)  # an answer, but no better than before
    assert set(bench.breaker.opened) == {"a"}
    bench.breaker.probed("a", 0.001)
    assert not bench.breaker.opened


def test_hedges_wait_for_the_percentile_of_the_node_but_not_for_one_that_is_always_slow(bench: Bench) -> None:
    bench.answers(0.010, "a", "b", "d")
    bench.answers(0.200, "c")
    bench.breaker.watch(bench.clock.now)
    assert bench.nodes["a"].hedge_after == pytest.approx(0.010)
    assert bench.nodes["c"].hedge_after == pytest.approx(0.030)
    bench.answers(0.0001, "a", "b", "c", "d")
    bench.breaker.watch(bench.clock.now)
    assert {state.hedge_after for state in bench.nodes.values()} == {0.005}


def test_reads_avoid_a_node_that_is_slow_and_writes_do_not(network: MemoryNetwork) -> None:
    client = network.client(timeout=2.0)
    slow = network.owners("k")[0]
    network.local_weather[(client.session.name, slow.id)] = Weather(one_way=(0.03, 0.04))
    for number in range(400):
        client.set(f"k{number}", number)
        client.get(f"k{number}")
    assert set(client.brain.breaker.opened) == {slow.id}
    assert set(client.brain.avoided) == {slow.id}
    assert not client.brain.down
    gets, puts = slow.asked[Verb.GET], slow.asked[Verb.PUT]
    for number in range(100):
        client.set(f"k{number}", number)
        call = client.later.get(f"k{number}")
        network.run(until=lambda call=call: call.done)
        assert call.result() == number
        assert call.took < 0.02
    assert slow.asked[Verb.GET] - gets <= 5
    assert slow.asked[Verb.PUT] - puts > 20
    network.local_weather.clear()
    for number in range(400):
        client.set(f"k{number}", number)
        client.get(f"k{number}")
        network.run(seconds=0.05)
    assert not client.brain.avoided


def test_reads_avoid_a_node_that_answers_with_faults(network: MemoryNetwork) -> None:
    client = network.client(balancing="primary")
    bad = network.owners("k")[0]
    client.set("k", 1)
    honest = bad.answer

    def fault(message: Message, *others: Any) -> Message:
        return (message[0], 80, "a bug", None) if message[1] == Verb.GET else honest(message, *others)

    bad.answer = fault  # type: ignore[method-assign]
    for _ in range(5):
        assert client.get("k") == 1
    assert set(client.brain.breaker.opened) == {bad.id}
    bad.answer = honest  # type: ignore[method-assign]
    network.run(seconds=10)
    client.get("k")
    assert not client.brain.avoided
