"""From whom a receiver of a move pulls: never from one that has not got everything itself."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from peer_world import PeerWorld, value
from test_loader import loading

from kvcache.cluster import changes
from kvcache.cluster.handover import Handover
from kvcache_client.core.routing import View
from kvcache_client.placement.topology import Member
from kvcache_client.protocol.verbs import Verb

SOON = 200
"""Turns of the event loop in which a loader that can go on has gone on."""


def replacing(world: PeerWorld, *newcomers: str, copies: int = 2) -> None:
    """Bring the world to the stage in which newcomers pull what they gain."""
    for node in newcomers:
        world.change(changes.registered(world.topology, Member(node, f"127.0.0.1:77{node[1:]}0", incarnation="a")))
    wanted = replace(world.topology, replication_factor=copies)
    world.change(changes.begin_move(wanted, "00aa00aa", 1, "join"))
    world.change(changes.advance_move(world.topology))


def gained(world: PeerWorld, before: tuple[str, ...], after: tuple[str, ...]) -> bytes:
    """Return a key that the move takes from these owners to those."""
    target = View(changes.advance_move(world.topology))
    names = (b"key-%d" % at for at in range(100_000))
    return next(it for it in names if (world.view.owners_of(it), target.owners_of(it)) == (before, after))


async def turns(count: int = SOON) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_two_receivers_do_not_take_each_other_for_sources() -> None:
    world = PeerWorld(nodes=1, copies=1)
    replacing(world, "n2", "n3")
    key = gained(world, ("n1",), ("n2", "n3"))
    world.services["n1"].take(key, value(1))
    world.change(changes.marked(world.topology, ["n1"], "down"))  # it is not: it was only slow to answer
    world.change(changes.marked(world.topology, ["n2", "n3"], "up"))
    async with loading(world, "n2") as two, loading(world, "n3") as three:
        for made in (two, three):
            made.loader.follow(made.service.ownership)
        async with asyncio.timeout(20):
            while two.loader.left or three.loader.left:
                await asyncio.sleep(0)
    assert world.held("n2", key) == world.held("n3", key) == value(1)


async def test_a_receiver_waits_for_an_owner_that_is_not_complete_itself() -> None:
    world = PeerWorld(nodes=1, copies=1)
    replacing(world, "n2", copies=1)
    key = gained(world, ("n1",), ("n2",))
    world.services["n1"].begin_loading(range(1 << 14))  # it stood still, and does not know yet what it has missed
    async with loading(world, "n2") as made:
        made.loader.follow(made.service.ownership)
        await turns()
        assert made.loader.left
        world.services["n1"].take(key, value(1))
        world.services["n1"].loaded_all()
        async with asyncio.timeout(20):
            while made.loader.left:
                await asyncio.sleep(0)
    assert world.held("n2", key) == value(1)


async def test_what_an_owner_is_brought_during_a_move_reaches_those_who_have_pulled_from_it_already() -> None:
    world = PeerWorld()
    replacing(world, "n4")
    key = gained(world, ("n1", "n2"), ("n4", "n1"))
    handover: Handover = world.controls["n3"].handover
    await world._ask("n3", [0, Verb.HINT, "n1", key, value(1)])
    assert await handover.deliver("n1") == 0
    assert world.held("n1", key) == world.held("n4", key) == value(1)


async def test_what_a_receiver_can_not_be_brought_is_kept_for_it() -> None:
    world = PeerWorld()
    replacing(world, "n4")
    key = gained(world, ("n1", "n2"), ("n4", "n1"))
    await world._ask("n3", [0, Verb.HINT, "n1", key, value(1)])
    world.away = {"n4"}
    await world.controls["n3"].handover.deliver("n1")
    assert world.held("n1", key) == value(1)
    assert world.services["n3"].hints.owners() == {"n4": 1}
    assert world.held("n3", key) == value(1)
