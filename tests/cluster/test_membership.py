"""What a node says of itself, in the order in which it says it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from kvcache.cluster.controller import Timings
from kvcache.cluster.membership import Membership
from kvcache_client.placement.topology import Member, Topology
from kvcache_client.protocol.errors import ControlPlaneUnavailable

ME = Member("n1", "127.0.0.1:7701", incarnation="a")


class ScriptedRegistry:
    """Holds a document; the first ``failures`` updates fail."""

    def __init__(self, failures: int = 0) -> None:
        found = Topology.found("test", cluster_id="00c0ffee", seed=1, replication_factor=1)
        self.document = found.with_member(ME).settled()
        self.failures = failures
        self.states: list[str] = []

    async def update(self, change: Callable[[Topology], Topology]) -> Topology:
        await asyncio.sleep(0)
        if self.failures:
            self.failures -= 1
            raise ControlPlaneUnavailable("away for a moment")
        self.document = change(self.document)
        self.states.append(self.document.members[0].state)
        return self.document


def member_of(registry: ScriptedRegistry, member: Member = ME) -> Membership:
    async def adopt(topology: Topology) -> None:
        return None

    scripted: Any = registry
    return Membership(scripted, scripted, member, adopt, dict, lambda: 0.0, Timings())


@pytest.mark.parametrize("failures", [0, 1, 2])
async def test_that_it_is_complete_is_said_after_that_it_was_not_also_when_that_came_late(failures: int) -> None:
    registry = ScriptedRegistry(failures)
    membership = member_of(registry)
    await asyncio.gather(membership.say_syncing(), membership.say_up())
    assert registry.states == ["syncing", "up"]


async def test_a_former_life_says_nothing_in_the_place_of_the_present_one() -> None:
    registry = ScriptedRegistry()
    await member_of(registry, Member("n1", "127.0.0.1:7701", incarnation="former")).say_syncing()
    assert registry.states == ["up"]


async def test_who_was_forgotten_takes_its_place_again_and_is_syncing() -> None:
    registry = ScriptedRegistry(failures=1)
    await member_of(registry, Member("n1", "127.0.0.1:7709", incarnation="b")).register_again()
    (member,) = registry.document.members
    assert (member.address, member.incarnation, member.state) == ("127.0.0.1:7709", "b", "syncing")
