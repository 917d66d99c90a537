"""Layouts and moves as parts of a document that comes from outside."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import pytest

from kvcache_client.placement.layout import MAX_MEMBERS, STAGES, Layout, Move
from kvcache_client.placement.spec import Node
from kvcache_client.placement.topology import Member, Topology
from kvcache_client.protocol.errors import TopologyError

TWO = Layout(2, (Node("a", "z", 1), Node("b", "", 4)))


def through_json(thing: Any) -> Any:
    return json.loads(json.dumps(asdict(thing)))


def test_both_come_back_from_json_as_they_were() -> None:
    move = Move("0011aabb", "stream", TWO, "join b", 17, 100)
    assert Layout.from_fields("layout", through_json(TWO)) == TWO
    assert Move.from_fields("move", through_json(move)) == move
    assert TWO.ids == {"a", "b"}
    assert repr(move) == "<Move 0011aabb stream to 2 nodes rf=2>"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"replication_factor": 0}, "replication_factor"),
        ({"replication_factor": 9}, "replication_factor"),
        ({"replication_factor": True}, "replication_factor"),
        ({"nodes": "a"}, "nodes"),
        ({"nodes": [1]}, r"nodes\[0\]"),
        ({"nodes": [{"id": "a", "zone": ""}]}, "weight"),
        ({"nodes": [{"id": "a b", "zone": "", "weight": 1}]}, "id"),
        ({"nodes": [{"id": "a", "zone": "", "weight": 0}]}, "weight"),
        ({"nodes": [{"id": "a", "zone": 5, "weight": 1}]}, "zone"),
        ({"nodes": [{"id": id, "zone": "", "weight": 1} for id in "ba"]}, "sorted"),
        ({"nodes": [{"id": "a", "zone": "", "weight": 1}] * 2}, "twice"),
        ({"nodes": [{"id": "a", "zone": "", "weight": 1}] * (MAX_MEMBERS + 1)}, str(MAX_MEMBERS)),
    ],
)
def test_a_layout_that_was_tampered_with_is_refused_with_the_place(change: dict[str, Any], named: str) -> None:
    with pytest.raises(TopologyError, match=named) as refused:
        Layout.from_fields("the place", through_json(TWO) | change)
    assert "the place" in str(refused.value)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"id": "x"}, "id"),
        ({"stage": "done"}, "stage"),
        ({"stage": None}, "stage"),
        ({"target": None}, "target"),
        ({"reason": "line\n"}, "reason"),
        ({"reason": "x" * 201}, "reason"),
        ({"began_ms": -1}, "begin"),
        ({"rate": -1}, "rate"),
        ({"rate": 1.5}, "rate"),
    ],
)
def test_a_move_that_was_tampered_with_is_refused(change: dict[str, Any], named: str) -> None:
    with pytest.raises(TopologyError, match=named):
        Move.from_fields("move", through_json(Move("0011aabb", STAGES[0], TWO)) | change)


def document() -> Topology:
    founded = Topology.found("shop", cluster_id="00c0ffee", seed=1, replication_factor=2)
    return founded.with_member(Member("a", "h:1")).with_member(Member("b", "h:2")).settled()


def test_a_document_carries_both() -> None:
    moving = replace(document(), move=Move("0011aabb", "prepare", Layout(1, (Node("a"),))), fence=7)
    assert Topology.from_json(moving.to_json()) == moving


def test_owners_must_be_members() -> None:
    with pytest.raises(TopologyError, match="'c'"):
        replace(document(), layout=Layout(1, (Node("c"),)))
    with pytest.raises(TopologyError, match="'c'"):
        replace(document(), move=Move("0011aabb", "prepare", Layout(1, (Node("c"),))))


def test_a_move_leads_from_owners_to_owners() -> None:
    with pytest.raises(TopologyError, match="nobody"):
        replace(document(), move=Move("0011aabb", "prepare", Layout(1)))
    with pytest.raises(TopologyError, match="nobody"):
        replace(document(), layout=Layout(1), move=Move("0011aabb", "prepare", Layout(1, (Node("a"),))))


@pytest.mark.parametrize("fence", [-1, True, "1", 1 << 54])
def test_a_fence_that_is_none_is_refused(fence: Any) -> None:
    with pytest.raises(TopologyError, match="fence"):
        replace(document(), fence=fence)
