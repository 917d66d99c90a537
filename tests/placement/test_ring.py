from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections import Counter
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvcache_client.placement.partitions import PARTITIONS
from kvcache_client.placement.ring import Node, Placement, PlacementSpec, build_placement, moved


def spec(*nodes: Node, seed: int = 1, vnodes: int = 64, replication_factor: int = 2) -> PlacementSpec:
    return PlacementSpec("ring-1", seed, vnodes, replication_factor, tuple(sorted(nodes, key=lambda node: node.id)))


def equal_nodes(count: int) -> list[Node]:
    return [Node(f"node-{number}") for number in range(count)]


specs = st.builds(
    lambda rows, seed, vnodes, rf: spec(
        *(Node(f"n{at}", zone, weight) for at, (zone, weight) in enumerate(rows)),
        seed=seed,
        vnodes=vnodes,
        replication_factor=rf,
    ),
    st.lists(st.tuples(st.sampled_from(["", "a", "b", "c"]), st.integers(1, 20)), max_size=10),
    st.integers(0, 2**32 - 1),
    st.sampled_from([1, 2, 7, 64]),
    st.integers(1, 8),
)


@settings(max_examples=30, deadline=None)
@given(specs)
def test_every_partition_has_distinct_owners_in_distinct_zones_as_far_as_there_are_any(spec: PlacementSpec) -> None:
    placement = build_placement(spec)
    zones = {node.id: node.zone for node in spec.nodes}
    copies = min(spec.replication_factor, len(spec.nodes))
    assert len(placement.owners) == PARTITIONS
    for owners in set(placement.owners):
        assert len(owners) == len(set(owners)) == copies
        assert set(owners) <= zones.keys()
        if len(set(zones.values())) >= copies:
            assert len({zones[id] for id in owners}) == copies


@settings(max_examples=15, deadline=None)
@given(specs)
def test_owners_and_stand_ins_are_all_nodes_once(spec: PlacementSpec) -> None:
    placement = build_placement(spec)
    for partition in range(0, PARTITIONS, 997):
        everyone = [*placement.owners[partition], *placement.stand_ins(partition)]
        assert sorted(everyone) == [node.id for node in spec.nodes]


@settings(max_examples=10, deadline=None)
@given(specs)
def test_counts_are_those_of_the_owners(spec: PlacementSpec) -> None:
    placement = build_placement(spec)
    copies: Counter[str] = Counter()
    primaries: Counter[str] = Counter()
    for owners in placement.owners:
        copies.update(owners)
        primaries.update(owners[:1])
    assert placement.copies() == {node.id: copies[node.id] for node in spec.nodes}
    assert placement.primaries() == {node.id: primaries[node.id] for node in spec.nodes}


def test_equal_specs_share_one_placement_and_equal_owners_one_object() -> None:
    one = build_placement(spec(*equal_nodes(5)))
    assert build_placement(spec(*equal_nodes(5))) is one
    assert len({id(owners) for owners in one.owners}) == len(set(one.owners))


def fingerprint(placement: Placement) -> str:
    text = ";".join(",".join(owners) for owners in placement.owners)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


FIXED = {
    "equal": (spec(*equal_nodes(7), seed=4711, vnodes=512), "e21df0fd2ca27b73"),
    "weights": (
        spec(*(Node(f"n{at}", "", at % 4 + 1) for at in range(9)), seed=0, vnodes=512, replication_factor=3),
        "88544e844289b52b",
    ),
    "zones": (
        spec(*(Node(f"n{at}", "abc"[at % 3], 1 + at % 2) for at in range(10)), seed=2**32 - 1, vnodes=128),
        "c50b4ca05c0dac43",
    ),
    "dense": (spec(*(Node(f"n{at}", "", 300 + at) for at in range(4)), seed=9, vnodes=512), "cdb6b13baf9f48a2"),
}
"""Placements of ring-1 for ever: programs of any age that share a cluster must agree on each of them."""


@pytest.mark.parametrize("name", FIXED)
def test_ring_1_gives_the_owners_that_it_always_gave(name: str) -> None:
    given_spec, expected = FIXED[name]
    assert fingerprint(build_placement(given_spec)) == expected


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_another_process_with_other_hash_seeds_computes_the_same_owners(hash_seed: str) -> None:
    given_spec, expected = FIXED["zones"]
    program = (
        "import hashlib; from kvcache_client.placement.ring import *; "
        f"p = build_placement({given_spec!r}); "
        "print(hashlib.sha256(';'.join(','.join(o) for o in p.owners).encode()).hexdigest()[:16])"
    )
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == expected


def test_the_cluster_seed_changes_who_owns_what() -> None:
    one, other = (build_placement(spec(*equal_nodes(5), seed=seed)) for seed in (1, 2))
    same = sum(a == b for a, b in zip(one.owners, other.owners, strict=True))
    assert same < PARTITIONS / 5


def test_without_nodes_nobody_owns_anything() -> None:
    placement = build_placement(spec())
    assert set(placement.owners) == {()}
    assert list(placement.stand_ins(0)) == []
    assert placement.copies() == {}
    assert "0 nodes" in repr(placement)


def test_one_node_owns_everything_at_any_replication_factor() -> None:
    placement = build_placement(spec(Node("only"), replication_factor=8))
    assert set(placement.owners) == {("only",)}
    assert list(placement.stand_ins(5)) == []


def test_two_zones_share_three_copies_two_to_one() -> None:
    nodes = [Node(f"n{at}", "ab"[at % 2]) for at in range(6)]
    zones = {node.id: node.zone for node in nodes}
    placement = build_placement(spec(*nodes, replication_factor=3))
    assert {len({zones[id] for id in owners}) for owners in placement.owners} == {2}


def test_the_first_stand_in_is_often_the_next_owner_when_an_owner_leaves() -> None:
    nodes = equal_nodes(6)
    before, after = (build_placement(spec(*nodes[:count], vnodes=512)) for count in (6, 5))
    left = [partition for partition in range(PARTITIONS) if nodes[5].id in before.owners[partition]]
    kept = sum(next(before.stand_ins(partition)) in after.owners[partition] for partition in left)
    assert kept > 0.9 * len(left)


def test_stand_ins_are_found_one_at_a_time() -> None:
    placement = build_placement(spec(*equal_nodes(30)))
    first = list(islice(placement.stand_ins(77), 3))
    assert first == list(placement.stand_ins(77))[:3]
    assert not set(first) & set(placement.owners[77])


def test_moved_counts_new_copies_only_and_not_a_change_of_primary() -> None:
    a = build_placement(spec(*equal_nodes(4)))
    b = build_placement(spec(*equal_nodes(5)))
    count = sum(id not in before for before, after in zip(a.owners, b.owners, strict=True) for id in after)
    assert moved(a, b) == count > 0
    assert moved(a, a) == 0
    turned = Placement(a.spec, tuple(owners[::-1] for owners in a.owners), a._ring)
    assert moved(a, turned) == 0


def test_the_representation_tells_nodes_and_balance() -> None:
    text = repr(build_placement(spec(*equal_nodes(3), replication_factor=3)))
    assert text == "<Placement ring-1 seed=1 rf=3 3 nodes, 16384..16384 copies each>"
