"""Three times more than the nodes can do, for ten seconds: what is sent, and how soon all is well afterwards. In virtual time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from memory_network import Call, MemoryNetwork, MemoryNode

from kvcache_client.protocol.errors import Overloaded
from kvcache_client.protocol.verbs import Message, Verb

SERVICE_SECONDS = 0.01
QUEUE_SECONDS = 0.08
RETRY_AFTER_MS = 100
CAPACITY = 3 / SERVICE_SECONDS
NORMAL = 0.6 * CAPACITY
OVERLOAD = 3 * CAPACITY


def let_it_queue(network: MemoryNetwork, node: MemoryNode) -> None:
    """Make a node do one request after the other, each for a while. What it could not do soon it refuses, as a real one does."""
    free_at = 0.0
    refusing = False
    awake, answer = node.when_awake, node.answer

    def when_its_turn_comes(work: Callable[[], None]) -> None:
        nonlocal free_at, refusing
        if free_at - network.now > QUEUE_SECONDS:
            refusing = True
            awake(work)
            refusing = False
            return
        free_at = max(network.now, free_at) + SERVICE_SECONDS
        network.after(free_at - network.now, lambda: awake(work))

    def answer_or_refuse(message: Message, *others: Any) -> Message:
        if not refusing or message[1] == Verb.HELLO:
            return answer(message, *others)
        node.asked[Verb(message[1])] += 1
        return message[0], Overloaded.code, "too many requests are waiting", RETRY_AFTER_MS

    node.when_awake = when_its_turn_comes  # type: ignore[method-assign]
    node.answer = answer_or_refuse  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("verb", "hedging", "clients"), [("get", True, 1), ("get", False, 1), ("get", True, 40), ("set", True, 1)]
)
def test_after_an_overload_all_is_well_within_ten_seconds_and_little_was_sent_twice(
    make_network: Callable[..., MemoryNetwork], verb: str, hedging: bool, clients: int
) -> None:
    """At least 95 % of the rate within ten seconds, and at most 1.1 times the requests that were asked for."""
    network = make_network(3, 2)
    callers = [network.client(hedging=hedging) for _ in range(clients)]
    keys = [f"k{number}" for number in range(100)]
    callers[0].set_many(dict.fromkeys(keys, 1))
    for caller in callers:
        caller.get_many(keys)  # the connections stand
    for node in network.nodes.values():
        let_it_queue(network, node)
        node.asked.clear()
    copies = 1 if verb == "get" else 2
    asked: Counter[int] = Counter()
    good: Counter[int] = Counter()
    began = network.now

    def ended(second: int, call: Call) -> None:
        good[second] += call.error is None

    def arrive(number: int) -> None:
        second = int(network.now - began)
        asked[second] += 1
        later = callers[number % clients].later
        key = keys[number % 100]
        call = later.get(key) if verb == "get" else later.set(key, number)
        if call.done:
            ended(second, call)
        else:
            call.then = lambda call: ended(second, call)
        if second < 25:
            rate = OVERLOAD if 3 <= second < 13 else NORMAL
            network.after(copies / rate, lambda: arrive(number + 1))

    arrive(0)
    network.run(seconds=60)
    assert min(good[second] / asked[second] for second in range(3)) >= 0.95
    assert min(good[second] / asked[second] for second in (23, 24)) >= 0.95, f"{good}"
    sent = sum(node.asked.total() for node in network.nodes.values())
    assert sent <= 1.1 * copies * sum(asked.values())
