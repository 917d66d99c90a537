"""How much a client may send beyond what it was asked for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from memory_network import MemoryNetwork

from kvcache_client.core.budget import TokenBucket, hedge_budget, refusal_budget, retry_budget
from kvcache_client.protocol.verbs import Verb


class Clock:
    now = 50.0

    def __call__(self) -> float:
        return self.now


@given(st.integers(0, 5000), st.floats(0.01, 0.5))
def test_the_extra_requests_are_a_share_of_those_asked_for_although_they_earn_too(asked: int, share: float) -> None:
    bucket = TokenBucket(Clock(), share, 0.0, burst=1e9, start=0.0)
    for _ in range(asked):
        bucket.earn(1)
        if bucket.take():
            bucket.earn(1)
    assert asked * share - 2 <= bucket.taken <= asked * share + 2
    assert bucket.taken + bucket.refused == asked


def test_tokens_come_with_time_and_are_not_saved_up_for_ever() -> None:
    clock = Clock()
    bucket = TokenBucket(clock, 0.0, 10.0, burst=20.0, start=0.0)
    assert not bucket.take()
    clock.now += 0.5
    assert [bucket.take() for _ in range(6)] == [True] * 5 + [False]
    clock.now += 1000
    assert sum(bucket.take() for _ in range(100)) == 20


def test_a_round_may_overdraw_and_is_then_made_up_for() -> None:
    clock = Clock()
    bucket = TokenBucket(clock, 0.0, 1.0, burst=5.0, start=1.0)
    assert bucket.take(4)
    clock.now += 3.5
    assert not bucket.take()
    clock.now += 1.0
    assert bucket.take()


def test_the_budgets_are_those_that_are_promised() -> None:
    retries, hedges = retry_budget(Clock()), hedge_budget(Clock())
    assert (retries.share, retries.per_second) == (0.1, 10.0)
    assert (hedges.share, hedges.per_second) == (0.05, 0.0)
    refusals = refusal_budget(Clock())
    assert (refusals.share, refusals.per_second) == (0.05, 0.0)


def test_where_everything_fails_a_client_soon_sends_hardly_more_than_it_is_asked(network: MemoryNetwork) -> None:
    """Every node takes requests and answers none of them: without a budget, each call would be sent three times and more."""
    client = network.client(hedging=False)
    client.get_many([f"{number}" for number in range(100)])
    for node in network.nodes.values():
        node.pause()
    client.brain.retries.tokens = 0.0
    calls = [client.later.get(f"k{number}") for number in range(400)]
    network.run(until=lambda: all(call.done for call in calls))
    assert all(call.error is not None and call.error.retryable for call in calls)
    assert client.brain.counters.retries <= 0.1 * len(calls) + 10
    for node in network.nodes.values():
        node.resume()
    assert sum(node.asked[Verb.GET] + node.asked[Verb.PEEK] for node in network.nodes.values()) <= 1.1 * len(calls) + 10


def test_a_node_that_cannot_be_connected_to_costs_no_token(network: MemoryNetwork) -> None:
    client = network.client(balancing="primary")
    for number in range(50):
        client.set(f"k{number}", number)
    client.brain.retries.tokens = 0.0
    network.nodes["n1"].cut()
    assert [client.get(f"k{number}") for number in range(50)] == list(range(50))
