"""cas, add, replace, incr and touch while nodes fail: one owner decides, and what may have arrived is not repeated."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from memory_network import CLEAR, Call, MemoryClient, MemoryNetwork, Weather

from kvcache_client.core.deciding import increment
from kvcache_client.core.effects import Outcome, Within
from kvcache_client.protocol.errors import (
    ConnectionLost,
    InDoubt,
    InvalidOption,
    KvCacheError,
    NotApplied,
    Unavailable,
)
from kvcache_client.protocol.record import NEVER, PayloadType, make_record
from kvcache_client.protocol.verbs import Status, Verb
from kvcache_client.protocol.version import WRITERS


def test_the_next_owner_decides_when_the_primary_is_gone(network: MemoryNetwork) -> None:
    client = network.client()
    version = client.set("k", 1)
    network.owners("k")[0].kill()
    assert client.cas("k", 2, version=version) is True
    assert client.cas("k", 3, version=version) is False
    assert client.incr("k") == 3
    assert client.add("k", 4) is False
    assert client.replace("k", 5) is True
    assert client.touch("k", ttl=50) is True
    assert client.get("k") == 5
    holders = set(network.copies("k"))
    assert holders == {network.owners("k")[1].id, network.stand_ins("k")[0].id}


def test_what_was_decided_survives_the_decider(network: MemoryNetwork) -> None:
    client = network.client()
    network.owners("k")[0].kill()
    assert client.incr("k", by=5) == 5
    network.owners("k")[1].kill()
    assert client.get("k") == 5


def arguments_of(verb: str, version: int) -> tuple[int, ...]:
    return {"incr": (1,), "cas": (2, version), "add": (2,), "replace": (2,), "touch": (10,)}[verb]


@pytest.mark.parametrize("fate", [Weather(drop=1.0), Weather(lose=1.0), Weather(stall=1.0)])
@pytest.mark.parametrize("verb", ["incr", "cas", "add", "replace", "touch"])
def test_a_decision_whose_answers_are_all_lost_is_in_doubt_and_says_under_which_number(
    network: MemoryNetwork, fate: Weather, verb: str
) -> None:
    client = network.client()
    version = client.set("k", 1)
    network.weather = fate
    with pytest.raises(InDoubt) as caught:
        getattr(client, verb)("k", *arguments_of(verb, version))
    assert caught.value.operation is not None
    assert client.brain.counters.asked_again > 0


@pytest.mark.parametrize("fate", [Weather(drop=1.0), Weather(lose=1.0)])
@pytest.mark.parametrize("verb", ["incr", "cas", "replace", "touch"])
def test_a_decision_that_was_in_doubt_can_be_asked_again_and_is_applied_once(
    network: MemoryNetwork, fate: Weather, verb: str
) -> None:
    client = network.client()
    version = client.set("k", 1)
    network.weather = fate
    with pytest.raises(InDoubt) as caught:
        getattr(client, verb)("k", *arguments_of(verb, version))
    network.weather = CLEAR
    network.run()
    results = [
        getattr(network.client(), verb)("k", *arguments_of(verb, version), operation=caught.value.operation)
        for _ in range(3)
    ]
    assert results == [2 if verb == "incr" else True] * 3
    assert client.get("k") == (1 if verb == "touch" else 2)
    assert len(set(network.copies("k").values())) == 1


def test_a_decision_whose_answer_is_lost_once_is_settled_within_the_call(network: MemoryNetwork) -> None:
    client = network.client()
    client.incr("n")
    owner = network.owners("n")[0]
    network.local_weather["c1", owner.id] = Weather(lose=1.0)
    network.after(0.003, lambda: network.local_weather.clear())
    assert client.incr("n") == 2
    assert owner.asked[Verb.INCR] > 2
    assert owner.service.operations.recognised > 0
    assert client.get("n") == 2


def test_the_copies_know_what_the_owner_that_died_had_decided(network: MemoryNetwork) -> None:
    client = network.client()
    assert client.incr("n", operation=77) == 1
    assert client.incr("n") == 2
    network.owners("n")[0].kill()
    assert client.incr("n", operation=77) == 1
    assert client.get("n") == 2


OK = int(Status.OK)
DECIDED = WRITERS * 1000 + 5
"""A version that the decider has stamped, as the writer 5."""
COUNTED = make_record(DECIDED, NEVER, PayloadType.INTEGER, b"7")


def asked_after_a_copy_met(network: MemoryNetwork, newer: int, recalled: Outcome) -> list[Verb]:
    """Return what an incr asks for, whose copy meets a ``newer`` version, and whose decider says ``recalled`` after that."""
    plan = increment(network.client().brain, b"n", 1, 0, NEVER, operation=9)
    answers: list[Any] = [None, (1, OK, COUNTED), [(2, int(Status.SUPERSEDED), newer)], recalled]
    asked = []
    for answer in answers:
        try:
            effect = plan.send(answer)
        except StopIteration:
            break
        _, request = effect.round[0] if isinstance(effect, Within) else effect
        asked.append(request[1])
    return asked


def test_who_meets_what_another_node_has_stamped_asks_the_decider_again(network: MemoryNetwork) -> None:
    alive, forgotten = (3, OK, COUNTED), (3, int(Status.MISS))
    assert asked_after_a_copy_met(network, DECIDED + WRITERS, alive) == [Verb.INCR, Verb.COPY]  # its own, later
    assert asked_after_a_copy_met(network, DECIDED + WRITERS + 1, alive) == [Verb.INCR, Verb.COPY, Verb.RECALL]
    for gone in (forgotten, ConnectionLost("gone")):
        with pytest.raises(InDoubt, match="then another node did") as caught:
            asked_after_a_copy_met(network, DECIDED + WRITERS + 1, gone)
        assert caught.value.operation == 9


def test_an_operation_is_one_of_its_key_and_of_its_kind(network: MemoryNetwork) -> None:
    client = network.client()
    assert client.incr("n", operation=5) == client.incr("m", operation=5) == 1
    client.set("text", "x")
    assert client.touch("text", 10, operation=6) is True
    with pytest.raises(InvalidOption, match="was no incr"):
        client.incr("text", operation=6)


@pytest.mark.parametrize("operation", [0, -1, 1 << 64, True, "7", 1.0])
def test_an_operation_that_can_be_none_is_refused(network: MemoryNetwork, operation: object) -> None:
    for verb, arguments in (("incr", ()), ("cas", (1, 5)), ("add", (1,)), ("replace", (1,)), ("touch", (1,))):
        with pytest.raises(InvalidOption, match="operation="):
            getattr(network.client(), verb)("n", *arguments, operation=operation)


def test_a_decision_that_no_owner_can_make_is_unavailable(network: MemoryNetwork) -> None:
    client = network.client()
    for node in network.owners("k"):
        node.cut()
    with pytest.raises(Unavailable) as caught:
        client.incr("k")
    assert isinstance(caught.value, NotApplied)
    assert all(node.id in str(caught.value) for node in network.owners("k"))
    with pytest.raises(Unavailable, match="avoided: "):
        client.incr("k")  # both are in their back-off now


def test_a_decision_that_cannot_be_copied_is_in_doubt(make_network: Callable[..., MemoryNetwork]) -> None:
    network = make_network(2, 2)
    client = network.client()
    network.owners("n")[1].kill()
    with pytest.raises(InDoubt, match="held by 1 of 2"):
        client.incr("n")


def test_of_many_who_compare_and_set_at_once_one_wins(make_network: Callable[..., MemoryNetwork]) -> None:
    for seed in range(20):
        network = make_network(4, 2, seed=seed)
        seen = network.client().set("k", 0)
        calls = [network.client().later.cas("k", number, version=seen) for number in range(8)]
        network.run(until=lambda calls=calls: all(call.done for call in calls))
        winners = [number for number, call in enumerate(calls) if call.result()]
        assert len(winners) == 1, f"seed {seed}"
        assert network.client().get("k") == winners[0], f"seed {seed}"


def test_of_many_who_add_at_once_one_wins(make_network: Callable[..., MemoryNetwork]) -> None:
    for seed in range(10):
        network = make_network(4, 3, seed=seed)
        calls = [network.client().later.add("k", number) for number in range(8)]
        network.run(until=lambda calls=calls: all(call.done for call in calls))
        assert sum(call.result() for call in calls) == 1, f"seed {seed}"


def test_counting_at_once_counts_everything_and_copies_agree(make_network: Callable[..., MemoryNetwork]) -> None:
    for seed in range(10):
        network = make_network(4, 3, seed=seed)
        clients = [network.client() for _ in range(5)]
        calls = [client.later.incr("n") for client in clients for _ in range(10)]
        network.run(until=lambda calls=calls: all(call.done for call in calls))
        assert sorted(call.result() for call in calls) == list(range(1, 51)), f"seed {seed}"
        assert network.client().get("n") == 50, f"seed {seed}"
        assert len(set(network.copies("n").values())) == 1, f"seed {seed}"


class _Counting:
    """A client that counts up, one call after the other, and keeps account."""

    def __init__(self, client: MemoryClient, calls: int) -> None:
        self.acknowledged = self.in_doubt = 0
        self.seen: list[int] = []
        self._client = client
        self._left = calls
        self._next()

    def _next(self) -> None:
        if self._left:
            self._left -= 1
            call: Call = self._client.later.incr("n")
            if call.done:
                self._settled(call)
            else:
                call.then = self._settled

    def _settled(self, call: Call) -> None:
        if call.error is None:
            self.acknowledged += 1
            self.seen.append(call.result())
        elif isinstance(call.error, InDoubt):
            self.in_doubt += 1
        self._next()

    @property
    def done(self) -> bool:
        return not self._left


def _count(network: MemoryNetwork) -> tuple[int, int, int]:
    """Count with four clients until all are done; returns what was acknowledged, what is in doubt, and the value."""
    countings = [_Counting(network.client(), 40) for _ in range(4)]
    network.run()
    assert all(counting.done for counting in countings)
    network.weather = CLEAR
    seen = [number for counting in countings for number in counting.seen]
    assert len(seen) == len(set(seen)), f"{network!r}: a number was given to two"
    acknowledged = sum(counting.acknowledged for counting in countings)
    return acknowledged, sum(counting.in_doubt for counting in countings), network.client().get("n")


@pytest.mark.parametrize("seed", range(8))
def test_a_counter_stays_within_its_bounds_when_requests_and_answers_get_lost(
    make_network: Callable[..., MemoryNetwork], seed: int
) -> None:
    network = make_network(4, 2, seed=seed, weather=Weather(drop=0.03, lose=0.05, one_way=(0.0001, 0.002)))
    acknowledged, in_doubt, value = _count(network)
    again = sum(session.brain.counters.asked_again for session in network.sessions)
    assert again > 0, f"{network!r}: nothing went wrong, so nothing was tested"
    assert acknowledged <= value <= acknowledged + in_doubt, f"{network!r}"


@pytest.mark.parametrize("seed", range(8))
def test_a_counter_stays_within_its_bounds_when_an_owner_dies(
    make_network: Callable[..., MemoryNetwork], seed: int
) -> None:
    """Requests are not lost here: an owner that misses a copy twice and then decides would decide by the past."""
    network = make_network(4, 2, seed=seed, weather=Weather(lose=0.05, one_way=(0.0001, 0.002)))
    network.after(random.Random(seed).uniform(0.0, 0.2), network.owners("n")[seed % 2].kill)
    acknowledged, in_doubt, value = _count(network)
    assert acknowledged <= value <= acknowledged + in_doubt, f"{network!r}"


def test_a_usage_error_of_the_decider_is_raised_and_nobody_else_is_asked(network: MemoryNetwork) -> None:
    client = network.client()
    client.set("k", "text")
    with pytest.raises(KvCacheError, match="integer"):
        client.incr("k")
    assert [node.asked[Verb.INCR] for node in network.owners("k")] == [1, 0]
