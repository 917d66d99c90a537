"""Nodes that have too much to do: who is told to ask again later does so, or says at once that it may not; nobody hedges."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from memory_network import Call, MemoryClient, MemoryNetwork, MemoryNode, Weather

from kvcache_client.core.shedding import Shedding
from kvcache_client.protocol.errors import KvCacheError, Overloaded
from kvcache_client.protocol.verbs import Message, Verb

BURST = 0.03
MS = 100


@pytest.fixture
def client(network: MemoryNetwork) -> MemoryClient:
    client = network.client(balancing="primary")
    client.set("k", 1)
    client.get_many([f"{number}" for number in range(100)])
    for node in network.nodes.values():
        node.asked.clear()
    return client


def refuse(network: MemoryNetwork, *nodes: MemoryNode, seconds: float, detail: object = MS) -> None:
    """Make ``nodes`` refuse whatever they are asked for a while."""
    over = network.now + seconds
    for node in nodes:
        honest = node.answer

        def answer(message: Message, node: MemoryNode = node, honest: Callable[..., Message] = honest) -> Message:
            if network.now >= over:
                return honest(message)
            node.asked[Verb(message[1])] += 1
            return message[0], Overloaded.code, "too much to do", detail

        node.answer = answer  # type: ignore[method-assign]


def ended(network: MemoryNetwork, call: Call) -> Call:
    network.run(until=lambda: call.done)
    return call


def sent(network: MemoryNetwork) -> int:
    return sum(node.asked.total() for node in network.nodes.values())


@pytest.mark.parametrize(
    ("detail", "seconds"),
    [(100, 0.1), (1, 0.001), (0, 0.0), (-5, 0.0), (None, 0.0), (True, 0.0), (b"100", 0.0), ("1", 0.0)],
)
def test_only_a_number_of_milliseconds_is_a_time_to_wait(detail: object, seconds: float) -> None:
    assert Overloaded("busy", detail=detail).retry_after == seconds


def test_a_time_beyond_reason_is_cut_short() -> None:
    now = 0.0
    shedding = Shedding(lambda: now)
    shedding.refused("a", Overloaded("busy", detail=10**15))
    assert shedding.any_of(["b", "a"])
    now = 6.0
    assert not shedding.any_of(["b", "a"])


def test_refusals_without_a_break_last_and_a_break_begins_anew() -> None:
    times = iter((0.0, 0.09, 0.18, 0.3))
    shedding = Shedding(lambda: now)
    while (now := next(times, -1.0)) >= 0:
        shedding.refused("a", Overloaded("busy", detail=MS))
    now = 0.3
    assert shedding.lasts("a")
    assert "a" in repr(shedding)
    now = 0.6
    assert shedding.refusal("a") is None
    shedding.refused("a", Overloaded("busy", detail=MS))
    assert not shedding.lasts("a")
    shedding.forget(["a", "b"])
    assert shedding.refusal("a") is None


def test_a_read_that_one_owner_refuses_is_answered_by_the_next_at_once(
    network: MemoryNetwork, client: MemoryClient
) -> None:
    refuse(network, network.owners("k")[0], seconds=1)
    call = ended(network, client.later.get("k"))
    assert call.result() == 1
    assert call.took < 0.01
    assert sent(network) == 2
    assert not client.brain.avoided  # a node that sheds is well


@pytest.mark.parametrize("verb", ["get", "get_entry", "set", "incr", "touch", "delete"])
def test_who_is_refused_by_all_in_a_burst_asks_again_when_told_to(
    network: MemoryNetwork, client: MemoryClient, verb: str
) -> None:
    refuse(network, *network.nodes.values(), seconds=BURST)
    call = ended(network, getattr(client.later, verb)("k", *((5,) if verb == "set" else ())))
    assert call.error is None
    assert MS / 1000 <= call.took <= 1.2 * MS / 1000 + 0.01
    assert sent(network) <= 5
    assert all(
        not node.asked[verb] for node in network.nodes.values() for verb in (Verb.HINT, Verb.PEEK, Verb.TOPOLOGY)
    )


@pytest.mark.parametrize("verb", ["get", "get_entry", "set", "incr", "touch", "delete"])
def test_where_the_time_does_not_allow_it_the_refusal_is_passed_on_at_once(network: MemoryNetwork, verb: str) -> None:
    client = network.client(balancing="primary", timeout=0.1)
    client.get_many([f"{number}" for number in range(100)])
    for node in network.nodes.values():
        node.asked.clear()
    refuse(network, *network.nodes.values(), seconds=BURST)
    call = ended(network, getattr(client.later, verb)("k", *((5,) if verb == "set" else ())))
    assert isinstance(call.error, Overloaded)
    assert (call.error.retry_after, call.error.retryable) == (0.1, True)
    assert call.took < 0.02
    assert sent(network) <= 2


def test_nodes_that_have_refused_for_long_are_not_waited_for(network: MemoryNetwork, client: MemoryClient) -> None:
    refuse(network, *network.nodes.values(), seconds=1)
    while network.now < 0.5:
        ended(network, client.later.get("k"))
    call = ended(network, client.later.get("k"))
    assert isinstance(call.error, Overloaded)
    assert call.took < 0.02
    before = sent(network)
    ended(network, client.later.get("k"))
    assert sent(network) == before + 1  # the second owner has said already that it wants to be left alone


def test_a_small_client_repeats_no_more_than_it_may(make_network: Callable[..., MemoryNetwork]) -> None:
    network = make_network(3, 2)
    client = network.client()
    client.get_many([f"{number}" for number in range(100)])
    for node in network.nodes.values():
        node.asked.clear()
    refuse(network, *network.nodes.values(), seconds=60)
    for number in range(100):
        network.run(seconds=0.5)
        assert isinstance(ended(network, client.later.get(f"k{number}")).error, Overloaded)
    assert sent(network) <= 1.05 * 100 + 5


def test_nobody_hedges_while_an_owner_sheds(network: MemoryNetwork) -> None:
    client = network.client(balancing="primary", timeout=1.0)
    client.set("k", 1)
    client.get_many([f"{number}" for number in range(100)])
    client.brain.hedges.tokens = client.brain.retries.tokens = 10.0
    primary, second = network.owners("k")
    network.local_weather[(client.session.name, primary.id)] = Weather(one_way=(0.04, 0.04))
    client.brain.shedding.refused(second.id, Overloaded("busy", detail=MS))
    assert ended(network, client.later.get("k")).result() == 1
    assert client.brain.counters.hedged_reads == 0
    network.run(seconds=MS / 1000)
    assert ended(network, client.later.get("k")).took < 0.04
    assert client.brain.counters.hedged_reads == 1


def test_a_write_that_one_owner_refuses_reaches_it_later(network: MemoryNetwork, client: MemoryClient) -> None:
    primary, second = network.owners("k")
    refuse(network, second, seconds=BURST)
    call = ended(network, client.later.set("k", 2))
    assert call.error is None
    assert MS / 1000 <= call.took <= 1.2 * MS / 1000 + 0.01
    assert set(network.copies("k")) == {primary.id, second.id}
    assert client.brain.counters.stand_in_writes == 0


def test_a_write_that_one_owner_goes_on_refusing_is_taken_by_a_stand_in(
    network: MemoryNetwork, client: MemoryClient
) -> None:
    client.brain.refusals.tokens = 10.0
    second = network.owners("k")[1]
    refuse(network, second, seconds=10)
    call = ended(network, client.later.set("k", 2))
    assert call.error is None
    assert network.stand_ins("k")[0].id in network.copies("k")
    assert client.get("k") == 2


def test_an_owner_that_refuses_does_not_hide_what_a_stand_in_holds(
    network: MemoryNetwork, client: MemoryClient
) -> None:
    """One owner is gone and the other has too much to do: the copy of the first lies elsewhere, and is found there."""
    primary, second = network.owners("k")
    primary.cut()
    client.set("k", 7)
    refuse(network, second, seconds=10)
    assert ended(network, client.later.get("k")).result() == 7


def test_without_a_time_to_wait_it_is_as_it_was(network: MemoryNetwork, client: MemoryClient) -> None:
    refuse(network, *network.nodes.values(), seconds=0.005, detail=None)
    call = ended(network, client.later.get("k"))
    assert call.result() == 1
    assert call.took < 0.05


@pytest.mark.parametrize("verb", ["get_many", "set_many"])
def test_keys_of_a_batch_that_are_refused_fail_with_the_refusal(
    network: MemoryNetwork, client: MemoryClient, verb: str
) -> None:
    refuse(network, *network.nodes.values(), seconds=10)
    keys: Any = dict.fromkeys([f"{number}" for number in range(100)], 1)
    failed: dict[str, KvCacheError] = {}
    for _ in range(3):
        before = sent(network)
        result = ended(network, getattr(client.later, verb)(keys)).result()
        failed = result.failed
        network.run(seconds=0.05)
    assert set(failed) == set(keys)
    assert all(isinstance(error, Overloaded) for error in failed.values())
    assert sent(network) - before <= 1.1 * len(network.nodes) + 1
