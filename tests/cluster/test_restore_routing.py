"""Who gets a record that comes back, when owners are away or the cluster changes meanwhile."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from peer_world import PeerWorld, value

from kvcache.cluster.restoring import _restored
from kvcache_client.placement.topology import Member
from kvcache_client.protocol.errors import InvalidRecord, Unavailable

FENCE = 3


@pytest.fixture
def world() -> PeerWorld:
    return PeerWorld()


class Restorer:
    """The operator, whose client has a view of its own that REFRESH brings up to date."""

    def __init__(self, world: PeerWorld) -> None:
        self.world = world
        self.view = world.view
        self.waiting: Counter[str] = Counter()
        brain = SimpleNamespace(require_view=lambda: self.view)
        self.admin: Any = SimpleNamespace(client=SimpleNamespace(brain=brain))

    async def restore(self, *batch: tuple[bytes, bytes]) -> int:
        plan = _restored(self.admin, FENCE, list(batch), self.waiting)

        def refreshing() -> Any:
            outcome = None
            while True:
                try:
                    effect = plan.send(outcome)
                except StopIteration as done:
                    return done.value
                if type(effect).__name__ == "Refresh":
                    self.view = self.world.view
                outcome = yield effect

        result: int = await self.world.run(refreshing())
        return result


async def test_an_owner_that_is_away_gets_its_copy_later_from_the_other(world: PeerWorld) -> None:
    key, other = world.key("n1", "n2"), world.key("n1", "n3")
    world.away.add("n2")
    restorer = Restorer(world)
    assert await restorer.restore((key, value(1)), (other, value(2))) == 2
    assert restorer.waiting == {"n2": 1}
    assert world.held("n1", key) == value(1)
    assert world.services["n1"].hints.owners() == {"n2": 1}
    world.away.clear()
    assert await world.controls["n1"].deliver("n2") == 0
    assert world.held("n2", key) == value(1)


async def test_a_record_none_of_whose_owners_can_be_reached_ends_the_restore(world: PeerWorld) -> None:
    world.away |= {"n1", "n2"}
    with pytest.raises(Unavailable, match=r"n1 is away.*n2 is away|n2 is away.*n1 is away"):
        await Restorer(world).restore((world.key("n1", "n2"), value(1)))


async def test_what_was_routed_by_an_older_topology_is_routed_again(world: PeerWorld) -> None:
    restorer = Restorer(world)
    keys = [b"key-%d" % number for number in range(100)]
    world.change(world.topology.with_member(Member("n4", "127.0.0.1:7704")).settled())
    assert await restorer.restore(*((key, value(1)) for key in keys)) == len(keys)
    for key in keys:
        assert [world.held(node, key) for node in world.view.owners_of(key)] == [value(1)] * 2


async def test_what_is_newer_is_counted_apart_and_what_is_no_record_is_refused(world: PeerWorld) -> None:
    key = world.key("n1", "n2")
    restorer = Restorer(world)
    assert await restorer.restore((key, value(2))) == 1
    assert await restorer.restore((key, value(1))) == 0
    assert await restorer.restore((key, value(2))) == 1, "the same once more does no harm"
    with pytest.raises(InvalidRecord):
        await restorer.restore((key, b"short"))


async def test_a_restore_under_an_older_fence_changes_nothing(world: PeerWorld) -> None:
    key = world.key("n1", "n2")
    for service in world.services.values():
        service.fences.saw("job", FENCE + 1)
    with pytest.raises(Exception, match="fence 3 of job"):
        await Restorer(world).restore((key, value(1)))
    assert world.held("n1", key) is None
