from __future__ import annotations

import pytest

from kvcache_client.placement.spec import ALGORITHM, MAX_POINTS, Node, PlacementSpec
from kvcache_client.protocol.errors import TopologyError


def spec(*nodes: Node, algorithm: str = ALGORITHM, vnodes: int = 16, replication_factor: int = 2) -> PlacementSpec:
    return PlacementSpec(algorithm, 1, vnodes, replication_factor, nodes)


def test_an_unknown_algorithm_is_refused_by_name() -> None:
    with pytest.raises(TopologyError, match=r"'ring-9'.*'ring-1'"):
        spec(Node("a"), algorithm="ring-9")


@pytest.mark.parametrize("nodes", [(Node("b"), Node("a")), (Node("a"), Node("a"))])
def test_nodes_out_of_order_or_twice_are_refused(nodes: tuple[Node, ...]) -> None:
    with pytest.raises(TopologyError, match="sorted by id"):
        spec(*nodes)


def test_a_weight_of_zero_is_refused() -> None:
    with pytest.raises(TopologyError, match="weight"):
        spec(Node("a", weight=0))


@pytest.mark.parametrize("field", ["vnodes", "replication_factor"])
def test_a_number_below_one_is_refused_by_the_name_of_its_field(field: str) -> None:
    with pytest.raises(TopologyError, match=f"{field} is 0"):
        spec(Node("a"), **{field: 0})


def test_a_ring_with_too_many_points_is_refused_before_it_is_built() -> None:
    with pytest.raises(TopologyError, match=str(MAX_POINTS)):
        spec(Node("a", weight=MAX_POINTS), vnodes=2)


def test_equal_specs_are_equal_keys() -> None:
    assert {spec(Node("a"), Node("b")): 1}[spec(Node("a"), Node("b"))] == 1
