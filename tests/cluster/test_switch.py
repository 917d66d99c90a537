"""Who decides between the switch of a move and its end: the new first owner, once the former ones have heard of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from peer_world import PeerWorld, value

from kvcache.cluster import changes
from kvcache.service.ownership import Ownership
from kvcache_client.core.routing import View
from kvcache_client.placement.topology import Member, Topology
from kvcache_client.protocol.errors import KvCacheError
from kvcache_client.protocol.record import NEVER, payload_of
from kvcache_client.protocol.verbs import Status, Verb


class Switch:
    """Three nodes and a fourth that joins; the nodes hear of the switch one by one, as a test says."""

    def __init__(self) -> None:
        self.world = PeerWorld()
        joining = self.world.topology.with_member(Member("n4", "127.0.0.1:7704"))
        up = tuple(replace(member, state="up") for member in joining.members)
        move = changes.begin_move(
            replace(joining, members=up, layout=self.world.topology.layout), "00aa00aa", 1, "join"
        )
        self.world.change(changes.advance_move(move))
        self.stream = View(self.world.topology)
        self.switched = changes.advance_move(self.world.topology)
        self.view = View(self.switched)
        self.key = self._changing()
        self.before = self.stream.owners_of(self.key)

    def _changing(self) -> bytes:
        names = (b"key-%d" % at for at in range(100_000))
        wanted = ("n4", "n2")
        return next(it for it in names if (self.view.owners_of(it)[0], self.stream.owners_of(it)[0]) == wanted)

    def tell(self, *nodes: str) -> None:
        for node in nodes:
            service = self.world.services[node]
            service.adopt(Ownership(node, self.switched, self.view.routes, service.ownership))

    async def incr(self, node: str, operation: int, epoch: int | None = None) -> Any:
        epoch = self.switched.epoch if epoch is None else epoch
        return await self.world._ask(node, [0, Verb.INCR, epoch, self.key, 1, 0, NEVER, operation])


def counted(reply: Any) -> int:
    assert not isinstance(reply, KvCacheError)
    assert reply[1] == Status.OK, reply
    return int(payload_of(reply[2]))


def refused(reply: Any) -> bool:
    return reply[1] >= 16


@pytest.fixture
def switch() -> Switch:
    return Switch()


async def test_the_new_first_owner_decides_as_soon_as_the_former_have_heard(switch: Switch) -> None:
    switch.tell("n1", "n2", "n3", "n4")
    assert counted(await switch.incr("n4", 1)) == 1
    assert counted(await switch.incr("n4", 2)) == 2


@pytest.mark.parametrize("place", [0, 1])
async def test_it_decides_nothing_while_one_who_may_decide_has_not(switch: Switch, place: int) -> None:
    deaf = switch.before[place]
    switch.tell(*{"n1", "n2", "n3", "n4"} - {deaf})
    assert refused(await switch.incr("n4", 1))
    assert switch.world.held("n4", switch.key) is None
    switch.tell(deaf)
    assert counted(await switch.incr("n4", 2)) == 1


async def test_it_goes_on_from_the_last_decision_whose_copy_is_still_on_its_way(switch: Switch) -> None:
    assert counted(await switch.incr("n2", 1, switch.stream.topology.epoch)) == 1
    switch.tell("n1", "n2", "n3", "n4")
    assert switch.world.held("n4", switch.key) is None
    assert counted(await switch.incr("n4", 2)) == 2


async def test_the_former_first_owner_decides_no_more_once_it_has_heard(switch: Switch) -> None:
    switch.tell("n2")
    assert refused(await switch.incr("n2", 1))
    assert refused(await switch.incr("n2", 1, switch.stream.topology.epoch))
    assert switch.world.held("n2", switch.key) is None


async def test_one_that_has_died_is_not_waited_for(switch: Switch) -> None:
    switch.world.away = {"n2"}
    switch.tell("n1", "n3", "n4")
    assert counted(await switch.incr("n4", 1)) == 1


async def test_a_record_of_a_former_owner_is_taken_up(switch: Switch) -> None:
    switch.world.services["n2"].take(switch.key, value(1))
    switch.tell("n1", "n2", "n3", "n4")
    assert refused(await switch.incr("n4", 1)), "it is no integer"
    assert switch.world.held("n4", switch.key) == value(1)


async def test_after_the_move_nobody_is_asked(switch: Switch) -> None:
    switch.world.change(changes.advance_move(switch.switched))
    switch.world.asked.clear()
    assert counted(await switch.incr("n4", 1, switch.world.topology.epoch)) == 1
    assert switch.world.asked == {Verb.INCR: 1}


def test_a_topology_of_the_world_is_one_that_nodes_take(switch: Switch) -> None:
    assert Topology.from_json(switch.switched.to_json()) == switch.switched
