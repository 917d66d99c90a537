from __future__ import annotations

import math
from collections import defaultdict
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvcache_client.placement.shares import fair_shares, point_gains, zone_quota
from kvcache_client.placement.spec import Node

nodes_of_any_kind = st.lists(
    st.tuples(st.sampled_from(["", "a", "b", "c"]), st.integers(1, 1000)), min_size=1, max_size=20
).map(lambda rows: [Node(f"n{at:02}", zone, weight) for at, (zone, weight) in enumerate(rows)])


def weighted(*weights: int) -> list[Node]:
    return [Node(f"n{at}", "", weight) for at, weight in enumerate(weights)]


def test_equal_nodes_have_equal_shares() -> None:
    assert fair_shares(weighted(1, 1, 1, 1, 1), 2, 2) == [Fraction(2, 5)] * 5


def test_shares_follow_the_weights() -> None:
    assert fair_shares(weighted(1, 2, 3, 4), 1, 1) == [Fraction(part, 10) for part in (1, 2, 3, 4)]


def test_a_node_can_hold_one_copy_of_everything_and_no_more() -> None:
    assert fair_shares(weighted(1, 1, 100), 2, 2) == [Fraction(1, 2), Fraction(1, 2), 1]


def test_what_one_full_node_leaves_can_fill_the_next() -> None:
    assert fair_shares(weighted(1, 2, 3, 4), 3, 3) == [Fraction(1, 3), Fraction(2, 3), 1, 1]


def test_a_zone_holds_no_more_than_its_quota_whatever_its_weight() -> None:
    nodes = [Node("a", "big"), Node("b", "big"), Node("c", "big"), Node("d", "small"), Node("e", "other")]
    assert fair_shares(nodes, 2, 1) == [Fraction(1, 3)] * 3 + [Fraction(1, 2)] * 2


@pytest.mark.parametrize(
    ("zones", "copies", "quota"),
    [("abc", 3, 1), ("aabbcc", 2, 1), ("aabb", 3, 2), ("abbbb", 4, 3), ("a", 1, 1), ("aaaa", 3, 3), ("", 0, 1)],
)
def test_the_quota_of_a_zone_is_the_smallest_that_works_out(zones: str, copies: int, quota: int) -> None:
    assert zone_quota(list(zones), copies) == quota


@given(nodes_of_any_kind, st.integers(1, 8))
def test_shares_add_up_and_keep_every_limit(nodes: list[Node], replication_factor: int) -> None:
    copies = min(replication_factor, len(nodes))
    quota = zone_quota([node.zone for node in nodes], copies)
    shares = fair_shares(nodes, copies, quota)
    assert sum(shares) == copies
    assert all(0 < share <= 1 for share in shares)
    zones: defaultdict[str, Fraction] = defaultdict(Fraction)
    for node, share in zip(nodes, shares, strict=True):
        zones[node.zone] += share
    assert all(share <= quota for share in zones.values())


@given(nodes_of_any_kind, st.integers(1, 8))
def test_in_a_zone_more_weight_never_means_less_share(nodes: list[Node], replication_factor: int) -> None:
    copies = min(replication_factor, len(nodes))
    shares = fair_shares(nodes, copies, zone_quota([node.zone for node in nodes], copies))
    by_weight = sorted(zip([(node.zone, node.weight) for node in nodes], shares, strict=True))
    for (one, share), (other, next_share) in pairwise(by_weight):
        assert one[0] != other[0] or share <= next_share


def test_equal_shares_need_no_gain_and_heavier_ones_the_rate_of_the_formula() -> None:
    assert point_gains([Fraction(2, 7)] * 7) == [1] * 7
    light, heavy = point_gains([Fraction(1, 5), Fraction(3, 5)])
    expected = (-math.log(1 - 0.6) / 0.6) / (-math.log(1 - 0.2) / 0.2)
    assert float(heavy / light) == pytest.approx(expected, rel=1e-6)
