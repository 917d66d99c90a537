"""Loading: a node answers for nothing that it has not pulled, and pulls nothing twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from peer_world import START_MS, PeerWorld, deleted, value

from kvcache.cluster import changes
from kvcache.cluster.loader import Loader
from kvcache.service.ownership import Ownership
from kvcache_client.core.routing import View
from kvcache_client.placement.topology import Member, Topology
from kvcache_client.protocol.errors import NoAnswer, NotReady
from kvcache_client.protocol.verbs import Status, Verb
from kvcache_client.protocol.version import version_at


class Loading:
    """The loader of one node while it runs. ``synced`` counts how often it was complete."""

    def __init__(self, world: PeerWorld, node: str) -> None:
        self.synced = 0
        self.service = world.services[node]
        self.loader = Loader(self.service, world.run, self._complete, self._adopt)

    async def _adopt(self, topology: Topology) -> None:
        before = self.service.ownership
        assert before is not None
        self.service.adopt(Ownership(before.node, topology, View(topology).routes, before))

    async def _complete(self) -> None:
        self.synced += 1

    async def until_complete(self, times: int = 1) -> None:
        async with asyncio.timeout(20):
            while self.synced < times or self.loader.left:
                await asyncio.sleep(0)


@asynccontextmanager
async def loading(world: PeerWorld, node: str = "n1") -> AsyncIterator[Loading]:
    made = Loading(world, node)
    task = asyncio.ensure_future(made.loader.run())
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def world() -> PeerWorld:
    return PeerWorld()


def fill(world: PeerWorld, count: int, *owners: str) -> list[bytes]:
    """Have all owners but n1 hold some keys."""
    keys = [world.key(*owners, number=number) for number in range(count)]
    for number, key in enumerate(keys):
        for node in owners:
            if node != "n1":
                world.services[node].take(key, value(number))
    return keys


async def test_an_empty_node_gets_all_that_its_co_owners_hold(world: PeerWorld) -> None:
    keys = fill(world, 100, "n1", "n2") + fill(world, 100, "n3", "n1")
    async with loading(world) as node:
        node.loader.sync("life-2")
        assert not any(node.service.readable)
        await node.until_complete()
        assert sum(node.service.readable) == sum(node.service.ownership.readable)
    assert all(world.held("n1", key) is not None for key in keys)
    assert node.loader.syncing.records == 200
    assert world.asked[Verb.SCAN] <= 210  # empty partitions are not read


async def test_while_it_loads_it_takes_writes_and_answers_no_reads(world: PeerWorld) -> None:
    (key,) = fill(world, 1, "n1", "n2")
    async with loading(world) as node:
        node.loader.sync("life-2")
        with pytest.raises(NotReady):
            node.service.handlers[Verb.GET]((1, Verb.GET, key))
        newer = node.service.handlers[Verb.PUT]((1, Verb.PUT, node.service.epoch, key, value(50)))
        assert newer[1] == Status.OK
        await node.until_complete()
        assert node.service.handlers[Verb.GET]((1, Verb.GET, key))[2] == value(50)


async def test_what_was_deleted_meanwhile_stays_deleted(world: PeerWorld) -> None:
    (key,) = fill(world, 1, "n1", "n2")
    world.services["n1"].take(key, value(0))
    world.services["n2"].take(key, deleted(5))
    async with loading(world) as node:
        node.loader.sync("after a pause")
        await node.until_complete()
    assert world.held("n1", key) == deleted(5)


async def test_of_what_was_flushed_meanwhile_nothing_is_shown_before_it_has_heard_of_the_flush(
    world: PeerWorld,
) -> None:
    (key,) = fill(world, 1, "n1", "n2")
    world.services["n1"].take(key, value(0))
    world.topology = changes.purge(world.topology, "", version_at(START_MS), 0)
    for node in ("n2", "n3"):
        service = world.services[node]
        service.adopt(Ownership(node, world.topology, world.view.routes, service.ownership))
    shown: list[object] = []

    def look(_: str, verb: Verb) -> None:
        for asked in (Verb.PEEK, Verb.GET):
            try:
                shown.append(world.services["n1"].handlers[asked]((1, asked, key))[1])
            except NotReady:
                shown.append(NotReady)

    world.before_answer = look
    async with loading(world) as node:
        node.loader.sync("after a pause")
        world.away = {"n2", "n3"}
        for _ in range(20):
            await asyncio.sleep(0.01)
            look("n1", Verb.PEEK)
        assert set(shown) == {NotReady}  # nobody has told it anything
        world.away = set()
        await node.until_complete()
        assert node.service.handlers[Verb.GET]((1, Verb.GET, key))[1] == Status.MISS
    assert set(shown) == {NotReady, Status.MISS}


async def test_only_what_differs_is_pulled_after_a_pause(world: PeerWorld) -> None:
    keys = fill(world, 50, "n1", "n2")
    for number, key in enumerate(keys):
        world.services["n1"].take(key, value(number))
    world.services["n2"].take(keys[7], value(99))
    async with loading(world) as node:
        node.loader.sync("after a pause")
        await node.until_complete()
    assert world.asked[Verb.SCAN] == 1
    assert world.held("n1", keys[7]) == value(99)


async def test_it_is_not_complete_before_stand_ins_have_handed_over_what_they_keep(world: PeerWorld) -> None:
    key = world.key("n1", "n2")
    await world._ask("n3", [0, Verb.HINT, "n1", key, value(1)])
    async with loading(world) as node:
        node.loader.sync("life-2")
        await node.until_complete()
        assert node.service.handlers[Verb.GET]((1, Verb.GET, key))[2] == value(1)
    assert ("deliver", "n1") in world.controls["n3"].asked


async def test_a_stand_in_that_is_silent_for_a_while_is_asked_again(
    world: PeerWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = world.key("n1", "n2")
    world.services["n1"].take(key, value(0))
    world.services["n2"].take(key, value(0))
    await world._ask("n3", [0, Verb.HINT, "n1", key, value(1)])
    answer, silences = world._ask, iter([True] * 3)

    async def ask(node: str, request: list[Any]) -> Any:
        if (node, request[1]) == ("n3", Verb.DELIVER) and next(silences, False):
            return NoAnswer("no answer in time", node=node)
        return await answer(node, request)

    monkeypatch.setattr(world, "_ask", ask)
    async with loading(world) as node:
        node.loader.sync("after a pause")
        await node.until_complete()
        assert node.service.handlers[Verb.GET]((1, Verb.GET, key))[2] == value(1)


async def test_two_that_load_from_each_other_put_together_what_both_have(world: PeerWorld) -> None:
    key, other = world.key("n1", "n2"), world.key("n1", "n2", number=1)
    world.services["n1"].take(key, value(1))
    world.services["n2"].take(other, value(2))
    async with loading(world) as one, loading(world, "n2") as two:
        one.loader.sync("one")
        two.loader.sync("two")
        await one.until_complete()
        await two.until_complete()
    for node in ("n1", "n2"):
        assert (world.held(node, key), world.held(node, other)) == (value(1), value(2))


async def test_with_nobody_to_pull_from_it_is_complete_at_once() -> None:
    world = PeerWorld(nodes=1, copies=1)
    async with loading(world) as node:
        node.loader.sync("life-2")
        await node.until_complete()
    assert not world.asked


async def test_a_source_that_is_away_is_asked_until_it_answers(world: PeerWorld) -> None:
    (key,) = fill(world, 1, "n1", "n2")
    world.away = {"n2", "n3"}
    async with loading(world) as node:
        node.loader.sync("life-2")
        await asyncio.sleep(0.01)
        assert node.loader.left
        world.away = set()
        await node.until_complete()
    assert world.held("n1", key) == value(0)


async def test_a_receiver_pulls_what_the_move_gives_it_and_is_not_read_meanwhile() -> None:
    world = PeerWorld(nodes=2, copies=1)
    for number in range(200):
        for owner in ("n1", "n2"):
            world.services[owner].take(world.key(owner, number=number), value(number))
    joined = changes.registered(world.topology, Member("n3", "127.0.0.1:7703", incarnation="a"))
    world.change(joined)
    world.change(changes.begin_move(world.topology, "00aa00aa", 1, "join n3"))
    async with loading(world, "n3") as node:
        node.loader.follow(node.service.ownership)
        assert node.loader.left == 0  # not before every node knows of the move
        world.change(changes.advance_move(world.topology))
        node.loader.follow(node.service.ownership)
        assert node.loader.receiving.session == "00aa00aa"
        assert node.loader.left == sum(node.service.ownership.writable)
        async with asyncio.timeout(20):
            while node.loader.left:
                await asyncio.sleep(0)
        assert not any(node.service.readable)
        world.change(changes.advance_move(world.topology))
        node.loader.follow(node.service.ownership)
        assert any(node.service.readable)
    new = [key for key in (b"key-%d" % at for at in range(400)) if world.view.owners_of(key) == ("n3",)]
    held = [key for key in new if world.held("n1", key) or world.held("n2", key)]
    assert held
    assert all(world.held("n3", key) is not None for key in held)


async def test_a_piece_of_a_move_that_was_given_up_is_dropped() -> None:
    world = PeerWorld(nodes=1, copies=1)
    key = world.key("n1")
    world.services["n1"].take(key, value(1))
    world.change(changes.registered(world.topology, Member("n2", "127.0.0.1:7702", incarnation="a")))
    world.change(changes.begin_move(world.topology, "00aa00aa", 1, "join n2"))
    world.change(changes.advance_move(world.topology))
    async with loading(world, "n2") as node:
        node.loader.follow(node.service.ownership)

        def give_up(_: str, verb: Verb) -> None:
            if verb == Verb.SCAN:
                world.before_answer = lambda *_: None
                node.loader.receiving.begin("", ())

        world.before_answer = give_up
        async with asyncio.timeout(20):
            while node.loader.left:
                await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert len(world.services["n2"].store) == 0


async def test_a_source_refuses_a_session_that_it_does_not_know(world: PeerWorld) -> None:
    reply = await world._ask("n2", [0, Verb.SCAN, "00bb00bb", world.view.partition(world.key("n2", "n1")), b"", True])
    assert reply[1] == NotReady.code


async def test_the_rate_of_a_move_is_kept() -> None:
    world = PeerWorld(nodes=1, copies=1)
    for number in range(30):
        world.services["n1"].take(b"key-%d" % number, value(number))
    world.change(changes.registered(world.topology, Member("n2", "127.0.0.1:7702", incarnation="a")))
    world.change(changes.begin_move(world.topology, "00aa00aa", 1, "join n2", rate=100))
    world.change(changes.advance_move(world.topology))
    async with loading(world, "n2") as node:
        began = asyncio.get_running_loop().time()
        node.loader.follow(node.service.ownership)
        async with asyncio.timeout(20):
            while node.loader.left:
                await asyncio.sleep(0.005)
        pulled, took = node.loader.receiving.records, asyncio.get_running_loop().time() - began
    assert took > (pulled - 5) / 100 - 0.05


async def test_a_stumble_only_collects_what_others_keep(world: PeerWorld) -> None:
    key = world.key("n1", "n2")
    await world._ask("n3", [0, Verb.HINT, "n1", key, value(1)])
    async with loading(world) as node:
        node.service.hesitating = True
        reply = node.service.handlers[Verb.GET]((1, Verb.GET, key))
        assert reply[1] == Status.MISS  # it answers, but decides nothing
        with pytest.raises(NotReady, match="stood still"):
            node.service.handlers[Verb.INCR]((1, Verb.INCR, node.service.epoch, key, 1, 0, (1 << 48) - 1, 0))
        node.loader.collect()
        await node.until_complete()
        assert not node.service.hesitating
    assert world.held("n1", key) == value(1)
    assert not world.asked[Verb.SCAN]


@pytest.mark.parametrize("gone", [False, True])
async def test_an_owner_that_was_taken_for_down_is_pulled_from_if_it_answers(world: PeerWorld, gone: bool) -> None:
    keys = fill(world, 20, "n1", "n2")
    world.change(changes.marked(world.topology, ["n2"], "down"))
    if gone:
        world.away.add("n2")
    async with loading(world) as made:
        made.loader.sync("s1")
        await made.until_complete()
    assert [world.held("n1", key) is not None for key in keys] == [not gone] * 20
