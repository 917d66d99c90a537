"""Rounds that are told who is slow: whenever answers come, or callers leave, each is told once and nobody too often."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from polling import until

from kvcache_client.bodies.aio_round import WatchedWaiter
from kvcache_client.core.effects import Slow
from kvcache_client.core.nodes import Nodes

ASKS: list[Any] = [("n1", [1]), ("n2", [2]), ("n3", [3])]
ANSWER = (1, 0, b"x")


@pytest.fixture
def nodes() -> Nodes:
    nodes = Nodes()
    for node in ("n1", "n2", "n3"):
        nodes[node].hedge_after = 0.001
    return nodes


@pytest.fixture
async def complaints() -> list[dict[str, Any]]:
    """What the event loop complains of."""
    seen: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: seen.append(context))
    return seen


def watched(nodes: Nodes) -> WatchedWaiter:
    return WatchedWaiter(asyncio.get_running_loop(), ASKS, nodes)


async def looked(waiter: WatchedWaiter) -> None:
    """Return when the time at which it looks is over by far."""
    over = asyncio.get_running_loop().time() + 0.02
    await until(lambda: asyncio.get_running_loop().time() > over)


async def test_those_without_an_answer_are_slow_and_pass_it_on_when_it_comes(nodes: Nodes) -> None:
    waiter = watched(nodes)
    waiter.watch()
    waiter.at(1).set_result(ANSWER)
    outcomes = await waiter.future
    assert [outcome.__class__ for outcome in outcomes] == [Slow, tuple, Slow]
    assert [waiter.at(place).done() for place in range(3)] == [False, True, False]
    waiter.at(0).set_result(ANSWER)
    assert outcomes[0].outcome == ANSWER
    assert waiter.at(0).done()


async def test_a_round_that_is_answered_in_full_tells_nobody(nodes: Nodes, complaints: list[dict[str, Any]]) -> None:
    waiter = watched(nodes)
    waiter.watch()
    for place in range(3):
        waiter.at(place).set_result(ANSWER)
    assert await waiter.future == [ANSWER] * 3
    await looked(waiter)
    assert not complaints


async def test_a_round_is_answered_before_it_is_watched(nodes: Nodes, complaints: list[dict[str, Any]]) -> None:
    waiter = watched(nodes)
    for place in range(3):
        waiter.at(place).set_result(ANSWER)
    waiter.watch()
    await looked(waiter)
    assert not complaints
    assert await waiter.future == [ANSWER] * 3


@pytest.mark.parametrize("answered", [0, 1, 3])
async def test_a_caller_that_leaves_is_told_nothing(
    nodes: Nodes, complaints: list[dict[str, Any]], answered: int
) -> None:
    waiter = watched(nodes)
    waiter.watch()
    waiter.future.cancel()
    for place in range(answered):
        waiter.at(place).set_result(ANSWER)
    await looked(waiter)
    assert all(waiter.at(place).done() for place in range(3))
    assert not complaints


async def test_an_answer_that_comes_with_the_end_of_patience_is_no_complaint(
    nodes: Nodes, complaints: list[dict[str, Any]]
) -> None:
    """The timer and the last answer fall into one turn of the loop, in either order."""
    loop = asyncio.get_running_loop()
    waiters = [watched(nodes) for _ in range(50)]
    for number, waiter in enumerate(waiters):
        waiter.watch()
        for place in range(3):
            loop.call_later(0.001 + number * 0.00002, waiter.at(place).set_result, ANSWER)
    await asyncio.gather(*(waiter.future for waiter in waiters))
    await looked(waiters[0])
    assert not complaints


async def test_a_node_that_needs_longer_is_given_its_time(nodes: Nodes) -> None:
    nodes["n3"].hedge_after = 3600.0
    waiter = watched(nodes)
    waiter.watch()
    await looked(waiter)
    assert not waiter.future.done()
    waiter.at(2).set_result(ANSWER)
    outcomes = await waiter.future
    assert [outcome.__class__ for outcome in outcomes] == [Slow, Slow, tuple]
