"""Whether another node can be reached: known from a broken connection, or asked for."""

from __future__ import annotations

from typing import Any

import pytest

from kvcache.cluster.reach import Reach
from kvcache_client.core.effects import Plan, Within
from kvcache_client.protocol.errors import ConnectFailed, NoAnswer
from kvcache_client.protocol.verbs import Status, Verb


class World:
    def __init__(self) -> None:
        self.now = 10.0
        self.down: set[str] = set()
        self.outcome: Any = (1, int(Status.OK), 7, 1_790_000_000_000)
        self.asked: list[str] = []

    async def run(self, plan: Plan[Any]) -> Any:
        effect = next(plan)
        assert isinstance(effect, Within)
        assert effect.seconds < 0.1, "a client waits no longer than that"
        ((node, request),) = effect.round
        assert request[1] == Verb.PING
        self.asked.append(node)
        try:
            plan.send([self.outcome])
        except StopIteration as done:
            return done.value


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def reach(world: World) -> Reach:
    return Reach(world.run, lambda: world.down, lambda: world.now)


async def test_who_answers_is_in_reach(world: World, reach: Reach) -> None:
    assert await reach.ask("n1", lambda: (0, "decided")) == (0, "decided")
    assert not reach.is_away("n1")


@pytest.mark.parametrize(
    "outcome", [NoAnswer("silent"), ConnectFailed("refused"), (1, 51, "not ready"), (1, int(Status.OK), 0, 5)]
)
async def test_who_is_silent_refuses_or_has_not_joined_is_away_for_a_moment(
    world: World, reach: Reach, outcome: Any
) -> None:
    world.outcome = outcome
    assert await reach.ask("n1", lambda: (0, "decided")) == (0, "decided")
    assert reach.is_away("n1")
    assert not reach.is_away("n2")
    world.now += 0.6
    assert not reach.is_away("n1")


async def test_a_broken_connection_needs_no_question(world: World, reach: Reach) -> None:
    world.down.add("n1")
    assert reach.is_away("n1")
    assert world.asked == []
