"""What a node owns no more is dropped, never what it holds for others; and nothing old is there when it owns it again."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import pytest
from peer_world import PeerWorld, value
from polling import until

from kvcache.cluster import changes
from kvcache.janitor import Janitor
from kvcache.service.service import Service
from kvcache_client.placement.topology import Topology
from kvcache_client.protocol.verbs import Verb


class House:
    """The node n3 of a world, with its janitor: it owns with n1 what n2 takes over when n3 is drained."""

    def __init__(self) -> None:
        self.world = PeerWorld()
        self.node: Service = self.world.services["n3"]
        self.janitor = Janitor(self.node, 16 << 20)
        self.before = self.world.topology
        self.old = self.world.key("n3", "n1")
        self.held = self._beside(self.old)
        self.node.take(self.old, value(1))

    def _beside(self, key: bytes) -> bytes:
        """Return another key of the same partition."""
        partition_of = self.world.view.partition
        return next(it for it in map(b"beside-%d".__mod__, count()) if partition_of(it) == partition_of(key))

    def go_by(self, topology: Topology) -> None:
        before = self.node.ownership
        self.world.change(topology)
        assert self.node.ownership is not None
        self.janitor.follow(before, self.node.ownership)

    def drain(self) -> None:
        """Go by what is true after a move by which n3 has given everything away; it is a member still."""
        target = changes.drain(self.before, "n3").wanted()
        self.go_by(replace(self.before, epoch=self.world.topology.epoch + 1, layout=target))

    def own_again(self) -> None:
        self.go_by(changes.reseeded(self.before, self.world.topology.epoch))

    async def hint(self, key: bytes) -> None:
        reply = await self.world._ask("n3", [0, Verb.HINT, "n2", key, value(5)])
        assert reply[1] < 16

    async def tidy(self) -> None:
        """Let the janitor do what is due."""
        self.janitor.start()
        try:
            await until(lambda: "unowned=0" in repr(self.janitor))
        finally:
            self.janitor.stop()


@pytest.fixture
def house() -> House:
    return House()


async def test_what_is_owned_no_more_is_dropped_beside_what_is_held(house: House) -> None:
    await house.hint(house.held)
    house.drain()
    await house.tidy()
    assert house.world.held("n3", house.old) is None
    assert house.world.held("n3", house.held) == value(5)


async def test_old_copies_are_gone_when_a_partition_with_hints_comes_back_at_once(house: House) -> None:
    await house.hint(house.held)
    house.drain()
    house.own_again()
    assert house.world.held("n3", house.old) is None
    assert house.world.held("n3", house.held) == value(5)


async def test_a_hint_that_comes_while_its_partition_waits_to_be_dropped_is_kept(house: House) -> None:
    house.drain()
    await house.hint(house.held)
    await house.tidy()
    assert house.world.held("n3", house.old) is None
    assert house.world.held("n3", house.held) == value(5)
    assert await house.world.controls["n3"].deliver("n2") == 0
    assert house.world.held("n2", house.held) == value(5)
    assert not house.node.hints.dirty


@pytest.mark.parametrize("given_up", ["too old", "nobody waits"])
async def test_what_was_held_and_given_up_does_not_come_back_to_life(house: House, given_up: str) -> None:
    house.drain()
    await house.tidy()
    await house.hint(house.held)
    if given_up == "too old":
        house.node.hints.expire(house.node.now_ms + house.node.hints.max_age_ms + 1)
    else:
        house.node.hints.forget_owner("n2")
    house.own_again()
    assert house.world.held("n3", house.held) is None


def test_what_is_owned_all_the_time_stays(house: House) -> None:
    house.own_again()
    house.node.hints.strays.add(house.world.view.partition(house.old))
    house.own_again()
    assert house.world.held("n3", house.old) == value(1)
    assert not house.node.hints.strays
