"""Making copies equal again: both ways, newer wins, and nothing is sent that is the same."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peer_world import PeerWorld, deleted, value

from kvcache.cluster.repairer import Repairer, difference
from kvcache_client.placement.partitions import PARTITIONS
from kvcache_client.protocol.errors import ConnectFailed, StaleEpoch
from kvcache_client.protocol.verbs import Verb


@pytest.fixture
def world() -> PeerWorld:
    return PeerWorld()


@pytest.fixture
def repairer(world: PeerWorld) -> Repairer:
    return Repairer(world.services["n1"], world.run)


async def test_each_side_gets_what_the_other_has_newer(world: PeerWorld, repairer: Repairer) -> None:
    mine, theirs, same = (world.key("n1", "n2", number=number) for number in range(3))
    for node in ("n1", "n2"):
        for key in (mine, theirs, same):
            world.services[node].take(key, value(1))
    world.services["n1"].take(mine, value(2))
    world.services["n2"].take(theirs, value(3))
    compared, copied = await repairer.repair(world.partitions([mine, theirs, same]))
    assert copied == 2
    assert compared >= 2
    for node in ("n1", "n2"):
        assert [world.held(node, key) for key in (mine, theirs, same)] == [value(2), value(3), value(1)]


async def test_a_delete_wins_over_what_is_older_and_loses_to_what_is_newer(
    world: PeerWorld, repairer: Repairer
) -> None:
    gone, back = world.key("n1", "n2"), world.key("n1", "n2", number=1)
    world.services["n1"].take(gone, value(1))
    world.services["n2"].take(gone, deleted(2))
    world.services["n1"].take(back, deleted(1))
    world.services["n2"].take(back, value(2))
    await repairer.repair(world.partitions([gone, back]))
    assert world.held("n1", gone) == world.held("n2", gone) == deleted(2)
    assert world.held("n1", back) == world.held("n2", back) == value(2)


async def test_an_empty_owner_is_filled_and_an_empty_other_too(world: PeerWorld, repairer: Repairer) -> None:
    keys = [world.key("n1", "n3", number=number) for number in range(40)]
    for place, key in enumerate(keys):
        world.services["n1" if place % 2 else "n3"].take(key, value(place))
    _, copied = await repairer.repair(world.partitions(keys))
    assert copied == 40
    assert all(world.held("n1", key) == world.held("n3", key) == value(place) for place, key in enumerate(keys))


async def test_equal_copies_cost_digests_only(world: PeerWorld, repairer: Repairer) -> None:
    for number in range(20):
        for node in ("n1", "n2"):
            world.services[node].take(world.key("n1", "n2", number=number), value(number))
    assert await repairer.repair(range(PARTITIONS)) == (0, 0)
    assert set(world.asked) == {Verb.DIGEST}
    assert world.asked[Verb.DIGEST] < 600


async def test_an_owner_that_is_away_is_named_after_the_others_were_served(
    world: PeerWorld, repairer: Repairer
) -> None:
    lonely, fine = world.key("n1", "n2"), world.key("n1", "n3")
    world.services["n1"].take(fine, value(1))
    world.away = {"n2"}
    with pytest.raises(ConnectFailed, match="n2"):
        await repairer.repair(world.partitions([lonely, fine]))
    assert world.held("n3", fine) == value(1)


async def test_large_values_are_given_in_pieces_that_a_node_takes(world: PeerWorld, repairer: Repairer) -> None:
    keys = [key for key in (b"large-%d" % number for number in range(200_000)) if world.view.partition(key) == 5][:8]
    other = next(node for node in world.view.owners[5] if node != "n1") if "n1" in world.view.owners[5] else None
    repairer = repairer if other else Repairer(world.services[world.view.owners[5][0]], world.run)
    mine, theirs = ("n1", other) if other else world.view.owners[5]
    for number, key in enumerate(keys):
        world.services[mine].take(key, value(number, b"x" * 200_000))
    _, copied = await repairer.repair([5])
    assert copied == len(keys) == 8
    assert world.asked[Verb.PUT_MANY] == 8
    assert all(world.held(theirs or "", key) is not None for key in keys)


async def test_a_refusal_is_an_error_and_costs_the_other_partitions_nothing(
    world: PeerWorld, repairer: Repairer
) -> None:
    refused, fine = world.key("n1", "n2"), world.key("n1", "n2", number=1)
    for key in (refused, fine):
        world.services["n1"].take(key, value(1))
    (partition,) = world.partitions([refused])

    def disown(node: str, verb: Verb) -> None:
        ownership = world.services["n2"].ownership
        if verb == Verb.PUT_MANY and ownership is not None:
            ownership.changed_at[partition] = 99

    world.before_answer = disown
    with pytest.raises(StaleEpoch, match="n2"):
        await repairer.repair(world.partitions([refused, fine]))
    assert world.held("n2", refused) is None
    assert world.held("n2", fine) == value(1)


async def test_a_write_during_the_repair_is_not_undone(world: PeerWorld, repairer: Repairer) -> None:
    key = world.key("n1", "n2")
    world.services["n2"].take(key, value(1))

    def write(node: str, verb: Verb) -> None:
        if verb == Verb.PEEK:
            world.services["n1"].take(key, value(9))

    world.before_answer = write
    await repairer.repair(world.partitions([key]))
    assert world.held("n1", key) == value(9)


async def test_what_is_suspected_is_compared_in_the_background_once(world: PeerWorld, repairer: Repairer) -> None:
    key = world.key("n1", "n2")
    world.services["n2"].take(key, value(1))
    first = sum(readers[0] == "n1" for readers in world.view.owners)
    repairer.suspect_all()
    assert repairer.waiting == first
    repairer._suspects = type(repairer._suspects)(world.partitions([key]))
    task = asyncio.ensure_future(repairer.run())
    async with asyncio.timeout(20):
        while world.held("n1", key) is None:
            await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert repairer.copied == 1


headers = st.dictionaries(st.binary(min_size=1, max_size=2), st.binary(min_size=15, max_size=15), max_size=8)


@given(headers, headers)
def test_the_difference_is_what_makes_both_sides_equal(mine: dict[bytes, bytes], theirs: dict[bytes, bytes]) -> None:
    fetch, give = difference(mine, theirs)
    ours = {**mine, **{key: theirs[key] for key in fetch}}
    others = {**theirs, **{key: mine[key] for key in give}}
    assert ours == others
    assert Counter(ours.values()) <= Counter(mine.values()) + Counter(theirs.values())
    assert not set(fetch) & set(give)
