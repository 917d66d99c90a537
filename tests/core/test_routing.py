"""The view: from a key to nodes."""

from __future__ import annotations

import pytest
from memory_network import cluster_of, placed

from kvcache_client.core.brain import Brain, Surroundings
from kvcache_client.core.config import ClientConfig
from kvcache_client.core.health import Down
from kvcache_client.core.routing import View
from kvcache_client.placement.partitions import PARTITIONS
from kvcache_client.placement.topology import Member, Topology
from kvcache_client.protocol.errors import ConnectFailed, InvalidOption, NotReady, TopologyError


def brain() -> Brain:
    return Brain(ClientConfig(), Surroundings(lambda: 0.0, lambda: 0, lambda: 0.5))


def test_every_partition_has_distinct_owners_and_the_rest_stands_in() -> None:
    view = placed(cluster_of(5, 3))
    for partition in range(0, PARTITIONS, 97):
        owners = view.owners[partition]
        assert len(set(owners)) == 3
        assert sorted([*owners, *view.stand_ins(partition)]) == ["n1", "n2", "n3", "n4", "n5"]


def test_the_quick_way_to_the_owners_is_the_same_as_the_long_one() -> None:
    view = placed(cluster_of(5, 2))
    for number in range(500):
        name = b"key-%d" % number
        assert 0 <= view.partition(name) < PARTITIONS
        assert view.owners_of(name) == view.owners[view.partition(name)]


def test_addresses_are_those_of_all_members() -> None:
    topology = cluster_of(2, 1).with_member(Member("n9", "[::1]:7700", state="joining"))
    view = View(topology)
    assert view.addresses == {"n1": "10.0.0.1:7700", "n2": "10.0.0.2:7700", "n9": "[::1]:7700"}
    assert "n9" not in {node for owners in view.owners for node in owners}
    assert (view.epoch, view.seed) == (topology.epoch, topology.seed)


def test_views_of_the_same_placement_share_it() -> None:
    topology = cluster_of(3, 2)
    moved = topology.with_member(Member("n1", "10.9.9.9:7700"))
    assert View(topology).routes.placement is View(moved).routes.placement


def test_a_cluster_in_which_nobody_owns_anything_is_refused() -> None:
    founded = Topology.found("test", cluster_id="00c0ffee", seed=1, replication_factor=1)
    with pytest.raises(TopologyError, match="owns anything"):
        View(founded)


def test_a_brain_follows_newer_topologies_and_ignores_older_ones() -> None:
    mind = brain()
    with pytest.raises(NotReady):
        mind.require_view()
    newer, older = placed(cluster_of(4, 2)), placed(cluster_of(3, 2))
    mind.adopt(newer)
    mind.adopt(older)
    assert mind.require_view() is newer
    assert mind.knows(older.topology)
    assert not mind.knows(cluster_of(5, 2))


def test_a_brain_refuses_the_topology_of_another_cluster() -> None:
    mind = brain()
    mind.adopt(placed(cluster_of(3, 2)))
    other = Topology.found("test", cluster_id="deadbeef", seed=1, replication_factor=1).with_member(Member("x", "h:1"))
    with pytest.raises(TopologyError, match="00c0ffee"):
        mind.knows(other)


def test_a_new_view_forgets_the_health_of_those_who_left() -> None:
    mind = brain()
    mind.adopt(placed(cluster_of(2, 1)))
    mind.health.failed("n1", ConnectFailed("gone"))
    mind.health.failed("n7", ConnectFailed("gone"))
    mind.adopt(placed(cluster_of(3, 1)))
    assert set(mind.down) == {"n1"}


def test_one_attempt_leaves_time_for_another_node_where_there_is_one() -> None:
    mind = brain()
    mind.adopt(placed(cluster_of(1, 1)))
    assert mind.attempt == mind.config.timeout
    mind.adopt(placed(cluster_of(3, 2)))
    assert 2 * mind.attempt < mind.config.timeout


@pytest.mark.parametrize("acks", [1, 2, 8])
def test_a_write_needs_as_many_copies_as_asked_for_but_not_more_than_there_are_owners(acks: int) -> None:
    mind = Brain(ClientConfig(acks=acks), Surroundings(lambda: 0.0, lambda: 0, lambda: 0.5))
    assert [mind.needed_acks(owners) for owners in (1, 2, 3)] == [min(acks, owners) for owners in (1, 2, 3)]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("timeout", value) for value in (0, -1, float("nan"), float("inf"), 3600)),
        *(("connect_timeout", value) for value in (0, -0.5, float("nan"), 1e9)),
        *(("acks", value) for value in (0, -1, 9)),
        *(("value_limit", value) for value in (0, -1, (16 << 20) + 1)),
    ],
)
def test_options_that_make_no_sense_are_refused_by_name(option: str, value: float) -> None:
    with pytest.raises(InvalidOption, match=f"{option}="):
        ClientConfig(**{option: value})  # type: ignore[arg-type]


def test_a_brain_that_starts_over_stamps_as_another_writer_and_never_backwards() -> None:
    draws = iter([0.1, 0.2, 0.9, 0.8])
    mind = Brain(ClientConfig(), Surroundings(lambda: 0.0, lambda: 1000, lambda: next(draws)))
    before = mind.hlc.stamp()
    mind.down["n1"] = Down(ConnectFailed("gone"), 0.0, 1, 0.0)
    mind.start_over()
    after = mind.hlc.stamp()
    assert after > before
    assert after & 0xFFF != before & 0xFFF
    assert mind.down == {}
