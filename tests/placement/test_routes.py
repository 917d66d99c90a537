"""Who is read from and who is written to, in each stage of a move."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvcache_client.placement.layout import STAGES, Layout, Move
from kvcache_client.placement.partitions import PARTITIONS
from kvcache_client.placement.ring import build_placement
from kvcache_client.placement.routes import Routes
from kvcache_client.placement.topology import STATES, Member, Topology

SOME = range(0, PARTITIONS, 37)


def cluster(nodes: int, copies: int = 2, zones: int = 1) -> Topology:
    topology = Topology.found("test", cluster_id="00c0ffee", seed=5, replication_factor=copies)
    for number in range(1, nodes + 1):
        topology = topology.with_member(Member(f"n{number}", f"h:{number}", f"z{number % zones}" if zones > 1 else ""))
    return topology.settled()


def moving(stage: str, *, start: int = 3, end: int = 4, copies: int = 2) -> Topology:
    after = cluster(end, copies)
    before = cluster(start, copies).layout
    return replace(after, layout=before, move=Move("00aa00aa", stage, after.layout))


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_reads_and_writes_where_the_table_says(stage: str) -> None:
    topology = moving(stage)
    assert topology.move is not None
    before = build_placement(topology.spec()).owners
    after = build_placement(topology.spec_of(topology.move.target)).owners
    routes = Routes(topology)
    for partition in range(PARTITIONS):
        assert routes.readers[partition] == (after if stage == "switch" else before)[partition]
        assert set(routes.writers[partition]) == {*before[partition], *after[partition]}


def test_without_a_move_readers_and_writers_are_the_owners() -> None:
    routes = Routes(cluster(5))
    assert routes.readers is routes.writers is routes.placement.owners
    assert routes.undecided is None


def test_nobody_decides_just_where_the_first_owner_changes_at_the_switch() -> None:
    topology = moving("switch")
    before, after = Routes(moving("stream")).readers, Routes(topology).readers
    undecided = Routes(topology).undecided
    assert undecided is not None
    assert [bool(flag) for flag in undecided] == [a[0] != b[0] for a, b in zip(before, after, strict=True)]
    assert 0 < sum(undecided) < PARTITIONS
    assert Routes(moving("prepare")).undecided is None


@pytest.mark.parametrize(("state", "last"), [("up", False), ("syncing", True), ("joining", True), ("down", True)])
def test_who_is_not_well_is_asked_last(state: str, last: bool) -> None:
    topology = cluster(4, 3)
    ill = replace(topology, members=tuple(replace(m, state=state) if m.id == "n2" else m for m in topology.members))
    routes, well = Routes(ill), Routes(topology)
    for partition in SOME:
        assert sorted(routes.readers[partition]) == sorted(well.readers[partition])
        if "n2" in routes.readers[partition] and last:
            assert routes.readers[partition][-1] == "n2"
    assert (routes.readers == well.readers) is not last


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 6),
    st.integers(1, 6),
    st.integers(1, 3),
    st.sampled_from(STAGES),
    st.lists(st.sampled_from(sorted(STATES)), min_size=6, max_size=6),
)
def test_in_every_state_readers_are_writers_and_stand_ins_are_neither(
    start: int, end: int, copies: int, stage: str, states: list[str]
) -> None:
    whole = cluster(max(start, end), copies)
    members = tuple(replace(member, state=state) for member, state in zip(whole.members, states, strict=False))
    target = Move("00aa00aa", stage, cluster(end, copies).layout)
    topology = replace(whole, members=members, layout=cluster(start, copies).layout, move=target)
    routes = Routes(topology)
    ranks = {member.id: STATES[member.state] for member in members}
    for partition in SOME:
        readers, writers = routes.readers[partition], routes.writers[partition]
        assert set(readers) <= set(writers)
        assert len(set(writers)) == len(writers)
        assert [ranks[node] for node in readers] == sorted(ranks[node] for node in readers)
        assert not set(routes.stand_ins(partition)) & set(writers)
    again = Topology.from_json(topology.to_json())
    assert Routes(again).readers == routes.readers


def test_its_repr_tells_whether_something_moves() -> None:
    assert "moving=True" in repr(Routes(moving("stream")))
    assert "moving=False" in repr(Routes(cluster(3)))


def test_a_layout_of_nobody_has_no_owners() -> None:
    empty = replace(cluster(1), layout=Layout(2))
    assert Routes(empty).readers[0] == ()
