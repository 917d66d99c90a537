"""A stand-in brings what it holds to the owners, and lets go of it then."""

from __future__ import annotations

import asyncio

import pytest
from peer_world import PeerWorld, value
from polling import until

from kvcache.cluster import changes
from kvcache.cluster.handover import Handover
from kvcache_client.protocol.verbs import Verb


@pytest.fixture
def world() -> PeerWorld:
    return PeerWorld()


@pytest.fixture
def handover(world: PeerWorld) -> Handover:
    return world.controls["n3"].handover


async def hint(world: PeerWorld, key: bytes, record: bytes, owner: str = "n1") -> None:
    """Have n3 keep a record for an owner, as a client does that can't reach it."""
    reply = await world._ask("n3", [0, Verb.HINT, owner, key, record])
    assert reply[1] < 16


async def test_what_is_held_is_delivered_and_forgotten(world: PeerWorld, handover: Handover) -> None:
    keys = [world.key("n1", "n2", number=number) for number in range(300)]
    for number, key in enumerate(keys):
        await hint(world, key, value(number))
    assert world.services["n3"].hints.owners() == {"n1": 300}
    assert await handover.deliver("n1") == 0
    assert all(world.held("n1", key) == value(number) for number, key in enumerate(keys))
    assert all(world.held("n3", key) is None for key in keys)
    assert len(world.services["n3"].hints) == 0


async def test_the_owner_keeps_what_is_newer(world: PeerWorld, handover: Handover) -> None:
    key = world.key("n1", "n2")
    world.services["n1"].take(key, value(9))
    await hint(world, key, value(1))
    assert await handover.deliver("n1") == 0
    assert world.held("n1", key) == value(9)


async def test_an_owner_that_is_away_waits(world: PeerWorld, handover: Handover) -> None:
    key = world.key("n1", "n2")
    await hint(world, key, value(1))
    world.away = {"n1"}
    assert await handover.deliver("n1") == 1
    assert world.held("n3", key) == value(1)
    world.away = set()
    assert await handover.deliver("n1") == 0
    assert world.held("n1", key) == value(1)


async def test_a_hint_is_forwarded_at_once_if_the_owner_can_be_reached_from_here(
    world: PeerWorld, handover: Handover
) -> None:
    world.services["n3"].forward = handover.forward
    key = world.key("n1", "n2")
    await hint(world, key, value(1))  # its reply comes after the delivery
    assert world.held("n1", key) == value(1)
    world.away = {"n1"}
    assert handover.forward("n1") is None


async def test_what_the_store_has_lost_is_confessed_to_the_owner(world: PeerWorld, handover: Handover) -> None:
    key = world.key("n1", "n2")
    (partition,) = world.partitions([key])
    await hint(world, key, value(1))
    world.services["n3"].store.drop(partition)
    assert await handover.deliver("n1") == 0
    assert ("resync", partition) in world.controls["n1"].asked
    assert not world.services["n3"].hints.dirty


async def test_when_the_owner_has_left_the_present_owners_get_it(world: PeerWorld, handover: Handover) -> None:
    key = world.key("n1", "n2")
    await hint(world, key, value(1))
    gone = changes.forget(changes.remove(world.topology, "n1").settled(), "n1")
    world.change(gone)
    assert await handover.deliver("n1") == 0
    assert world.view.owners_of(key) in (("n2", "n3"), ("n3", "n2"))
    assert world.held("n2", key) == world.held("n3", key) == value(1)


async def test_what_is_kept_for_one_that_has_left_goes_to_the_present_owners_although_it_cannot_be_reached(
    world: PeerWorld, handover: Handover
) -> None:
    key = world.key("n1", "n2")
    await hint(world, key, value(1))
    world.away.add("n1")
    world.change(changes.forget(changes.remove(world.topology, "n1").settled(), "n1"))
    delivering = asyncio.create_task(handover.run())
    await until(lambda: not len(world.services["n3"].hints))
    delivering.cancel()
    assert world.held("n2", key) == world.held("n3", key) == value(1)


async def test_a_present_owner_that_is_away_gets_it_later(world: PeerWorld, handover: Handover) -> None:
    key, other = world.key("n1", "n2"), world.key("n1", "n3")
    for name in (key, other):
        await hint(world, name, value(1))
    world.away |= {"n1", "n2"}
    world.change(changes.forget(changes.remove(world.topology, "n1").settled(), "n1"))
    await handover.deliver("n1")
    assert set(world.services["n3"].hints.owners()) == {"n2"}
    world.away.discard("n2")
    assert await handover.deliver("n2") == 0
    assert world.held("n2", key) == world.held("n2", other) == value(1)
