"""Which partitions a node answers for, and since when."""

from kvcache.service.ownership import Ownership
from kvcache_client.core.routing import View
from kvcache_client.placement.partitions import PARTITIONS
from kvcache_client.placement.topology import Member, Topology


def ownership(view, before=None, node="n1"):
    return Ownership(node, view.topology, view.routes, before)


def test_a_node_alone_owns_everything(views):
    alone = ownership(views[0])
    assert sum(alone.readable) == PARTITIONS
    assert (alone.epoch, alone.seed) == (views[0].epoch, views[0].topology.seed)


def test_each_partition_is_owned_by_the_nodes_that_placement_says(views):
    shares = [ownership(views[2], node=node).readable for node in ("n1", "n2", "n3")]
    assert [sum(column) for column in zip(*shares, strict=True)] == [1] * PARTITIONS


def test_copies_are_owned_too():
    topology = Topology.found("test", cluster_id="00c0ffee", seed=7, replication_factor=2)
    for number in (1, 2, 3):
        topology = topology.with_member(Member(f"n{number}", f"127.0.0.1:{number}"))
    view = View(topology.settled())
    shares = [ownership(view, node=node).readable for node in ("n1", "n2", "n3")]
    assert [sum(column) for column in zip(*shares, strict=True)] == [2] * PARTITIONS


def test_a_node_that_is_no_member_owns_nothing(views):
    assert not any(ownership(views[2], node="n9").readable)


def test_the_first_topology_makes_no_request_stale(views):
    assert ownership(views[2]).changed_at == [0] * PARTITIONS


def test_only_partitions_with_other_owners_change(views):
    first = ownership(views[0])
    second = ownership(views[1], first)
    expected = [0 if old == new else views[1].epoch for old, new in zip(views[0].owners, views[1].owners, strict=True)]
    assert second.changed_at == expected
    assert 0 < sum(map(bool, expected)) < PARTITIONS


def test_the_epoch_of_the_last_change_is_kept_over_later_ones(views):
    third = ownership(views[2], ownership(views[1], ownership(views[0])))
    for partition in range(PARTITIONS):
        owners = [view.owners[partition] for view in views]
        latest = views[2].epoch if owners[2] != owners[1] else views[1].epoch if owners[1] != owners[0] else 0
        assert third.changed_at[partition] == latest


def test_a_change_that_keeps_the_owners_makes_nothing_stale(views):
    first = ownership(views[1])
    member = views[1].topology.members[0]
    moved = View(views[1].topology.with_member(Member(member.id, "127.0.0.1:9999")))
    assert ownership(moved, first).changed_at == first.changed_at


def test_a_partition_that_comes_back_has_changed_again(views):
    there = ownership(views[1], ownership(views[0]))
    back = View(Topology.from_json(views[0].topology.to_json().replace(b'"epoch":2', b'"epoch":9')))
    again = ownership(back, there)
    assert {again.changed_at[at] for at in range(PARTITIONS) if not there.readable[at]} == {9}
    assert {again.changed_at[at] for at in range(PARTITIONS) if there.readable[at]} == {0}


def test_its_repr_tells_epoch_and_share(views):
    assert repr(ownership(views[0])) == f"<Ownership epoch={views[0].epoch} reads={PARTITIONS} writes={PARTITIONS}>"
