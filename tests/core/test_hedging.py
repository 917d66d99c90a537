"""Asking a second owner when the first is slow: when, whom, how often, and what becomes of the two answers."""

from __future__ import annotations

from typing import Any

import pytest
from memory_network import Call, MemoryClient, MemoryNetwork, MemoryNode, Weather

from kvcache_client.core.effects import Slow
from kvcache_client.core.link import Link
from kvcache_client.protocol.errors import NoAnswer
from kvcache_client.protocol.framing import pack_message
from kvcache_client.protocol.verbs import Verb

SLOW = Weather(one_way=(0.04, 0.04))


@pytest.fixture
def client(network: MemoryNetwork) -> MemoryClient:
    client = network.client(balancing="primary", timeout=1.0)
    client.set("k", 1)
    client.get_many([f"{number}" for number in range(100)])
    client.brain.hedges.tokens = client.brain.retries.tokens = 10.0
    return client


def slow_down(network: MemoryNetwork, client: MemoryClient) -> MemoryNode:
    primary = network.owners("k")[0]
    network.local_weather[(client.session.name, primary.id)] = SLOW
    return primary


def ended(network: MemoryNetwork, call: Call) -> Call:
    network.run(until=lambda: call.done)
    return call


def test_a_slow_owner_costs_the_wait_and_the_answer_of_another(network: MemoryNetwork, client: MemoryClient) -> None:
    primary = slow_down(network, client)
    patience = client.brain.nodes[primary.id].hedge_after
    call = ended(network, client.later.get("k"))
    assert call.result() == 1
    assert patience <= call.took < patience + 0.005
    assert (client.brain.counters.hedged_reads, client.brain.counters.hedges_won) == (1, 1)
    assert network.owners("k")[1].asked[Verb.GET] == 1


def test_misses_win_too(network: MemoryNetwork, client: MemoryClient) -> None:
    client.delete("k")
    slow_down(network, client)
    call = ended(network, client.later.get("k", "default"))
    assert call.result() == "default"
    assert call.took < 0.03


def test_without_a_token_the_first_answer_is_waited_for(network: MemoryNetwork, client: MemoryClient) -> None:
    slow_down(network, client)
    client.brain.hedges.tokens = 0.0
    call = ended(network, client.later.get("k"))
    assert call.result() == 1
    assert 0.08 <= call.took < 0.09
    assert client.brain.counters.hedged_reads == 0


def test_hedges_are_a_twentieth_of_the_requests_at_most(network: MemoryNetwork, client: MemoryClient) -> None:
    client.brain.hedges.tokens = 0.0
    slow_down(network, client)
    sent = 0
    for _ in range(200):
        ended(network, client.later.get("k"))
        sent += 1
    assert 0 < client.brain.counters.hedged_reads <= 0.05 * sent + 1


def test_who_has_no_other_owner_or_does_not_want_hedges_sends_none(
    network: MemoryNetwork, client: MemoryClient
) -> None:
    network.owners("k")[1].cut()
    client.set("k", 2)
    slow_down(network, client)
    assert client.get("k") == 2
    unhedged = network.client(balancing="primary", hedging=False)
    slow_down(network, unhedged)
    assert unhedged.get("k") == 2
    assert client.brain.counters.hedged_reads == unhedged.brain.counters.hedged_reads == 0


def test_an_error_does_not_win(network: MemoryNetwork, client: MemoryClient) -> None:
    slow_down(network, client)
    second = network.owners("k")[1]
    honest = second.answer
    second.answer = lambda message, *others: (  # type: ignore[method-assign]
        (message[0], 80, "a bug", None) if message[1] == Verb.GET else honest(message, *others)
    )
    call = ended(network, client.later.get("k"))
    assert call.result() == 1
    assert call.took >= 0.08


def test_an_owner_that_lacks_the_clients_own_write_is_not_the_second(
    network: MemoryNetwork, client: MemoryClient
) -> None:
    view = client.brain.require_view()
    primary, second = network.owners("k")
    client.brain.lagging.missed(view.partition(b"k") + 1, b"other", 1, [second.id])
    client.brain.lagging.missed(view.partition(b"k"), b"k", 0, [second.id])
    network.local_weather[(client.session.name, primary.id)] = SLOW
    assert client.get("k") == 1
    assert client.brain.counters.hedged_reads == 0


def test_one_deadline_runs_through_waits_and_hedges(network: MemoryNetwork, client: MemoryClient) -> None:
    for node in network.nodes.values():
        node.pause()
    call = ended(network, client.later.get("k"))
    assert call.error is not None
    assert call.took <= client.brain.config.timeout + 0.01


def test_writes_and_decisions_are_never_hedged(network: MemoryNetwork, client: MemoryClient) -> None:
    slow_down(network, client)
    client.set("k", 5)
    assert client.incr("k") == 6
    assert sum(node.asked[Verb.INCR] for node in network.nodes.values()) == 1
    assert client.brain.counters.hedged_reads == 0


class Waiter:
    def __init__(self) -> None:
        self.result: Any = None

    def done(self) -> bool:
        return self.result is not None

    def set_result(self, result: Any, /) -> None:
        assert self.result is None
        self.result = result


def test_a_link_tells_each_waiter_once_that_it_is_slow_and_delivers_the_answer_all_the_same() -> None:
    link = Link("n1", lambda epoch: None)
    link.receive(pack_message(99, 0))  # the introduction is over
    early, late = Waiter(), Waiter()
    first = link.enqueue([0, Verb.GET, b"a"], early)
    second = link.enqueue([0, Verb.GET, b"b"], late)
    link.suspect(first, Waiter, 0.02)
    link.suspect(first, Waiter, 0.04)
    slow = early.result
    assert isinstance(slow, Slow)
    assert (slow.node, slow.waited, late.result) == ("n1", 0.02, None)
    link.receive(pack_message(first, 0, b"x" * 20) + pack_message(second, 1))
    assert slow.outcome == (first, 0, b"x" * 20)
    assert late.result == (second, 1)
    then = Waiter()
    slow.forward(then)
    assert then.result == slow.outcome
    assert link.waiting == 0


def test_the_answer_of_a_race_that_was_left_reaches_nobody() -> None:
    link = Link("n1", lambda epoch: None)
    waiter = Waiter()
    number = link.enqueue([0, Verb.GET, b"a"], waiter)
    link.suspect(number, Waiter, 0.02)
    left = Waiter()
    waiter.result.forward(left)
    left.set_result("cancelled")
    link.receive(pack_message(number, 0, b"x" * 20))
    assert left.result == "cancelled"
    assert link.late == 1


def test_whoever_is_slow_when_the_connection_breaks_is_told(network: MemoryNetwork) -> None:
    link = Link("n1", lambda epoch: None)
    waiter = Waiter()
    number = link.enqueue([0, Verb.GET, b"a"], waiter)
    link.suspect(number, Waiter, 0.02)
    link.fail(lambda: NoAnswer("gone"))
    assert isinstance(waiter.result.outcome, NoAnswer)
