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
        if not refusing:
            return answer(message, *others)
        node.asked[Verb(message[1])] += 1
        return message[0], Overloaded.code, "too many requests are waiting", None

    node.when_awake = when_its_turn_comes  # type: ignore[method-assign]
    node.answer = answer_or_refuse  # type: ignore[method-assign]


@pytest.mark.parametrize("hedging", [True, False])
def test_after_an_overload_all_is_well_within_ten_seconds_and_little_was_sent_twice(
    make_network: Callable[..., MemoryNetwork], hedging: bool
) -> None:
    network = make_network(3, 2)
    client = network.client(hedging=hedging)
    keys = [f"k{number}" for number in range(100)]
    client.set_many(dict.fromkeys(keys, 1))
    for node in network.nodes.values():
        let_it_queue(network, node)
        node.asked.clear()
    asked: Counter[int] = Counter()
    good: Counter[int] = Counter()
    began = network.now

    def ended(second: int, call: Call) -> None:
        good[second] += call.error is None

    def arrive(number: int) -> None:
        second = int(network.now - began)
        asked[second] += 1
        call = client.later.get(keys[number % 100])
        if call.done:
            ended(second, call)
        else:
            call.then = lambda call: ended(second, call)
        if second < 25:
            rate = OVERLOAD if 3 <= second < 13 else NORMAL
            network.after(1 / rate, lambda: arrive(number + 1))

    arrive(0)
    network.run(seconds=60)
    assert min(good[second] / asked[second] for second in range(3)) >= 0.95
    assert min(good[second] / asked[second] for second in (23, 24)) >= 0.95, f"{good}"
    sent = sum(node.asked.total() for node in network.nodes.values())
    extra = client.brain.counters.retries + client.brain.counters.hedged_reads
    assert (
        extra <= 0.1 * sum(asked.values()) + 10 * 26 + 20
    )  # the budget: a tenth, ten a second, and what one begins with
    print(f"hedging={hedging}: sent {sent / sum(asked.values()):.3f} of what was asked; good by second:")
    print([f"{good[second] / asked[second]:.2f}" for second in range(25)])
