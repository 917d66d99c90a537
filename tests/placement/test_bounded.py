from __future__ import annotations

from collections import Counter
from itertools import chain

from kvcache_client.placement.bounded import bound_copies, bound_primaries
from kvcache_client.placement.partitions import PARTITIONS


def test_nothing_moves_while_nobody_is_over_the_limit() -> None:
    owners = [(partition % 4, (partition + 1) % 4) for partition in range(PARTITIONS)]
    before = list(owners)
    bound_copies(owners, [PARTITIONS // 2] * 4, [""] * 4, 2, lambda _: range(4))
    bound_primaries(owners, [PARTITIONS // 4] * 4)
    assert owners == before


def test_a_node_over_its_limit_gives_away_just_what_is_too_much_to_the_next_with_room() -> None:
    owners = [(0, 1)] * PARTITIONS
    limits = [PARTITIONS - 100, PARTITIONS, 60, 100]
    bound_copies(owners, limits, [""] * 4, 2, lambda _: (0, 1, 2, 3))
    assert Counter(chain.from_iterable(owners)) == {0: PARTITIONS - 100, 1: PARTITIONS, 2: 60, 3: 40}
    assert all(chosen == (0, 1) or chosen in ((1, 2), (1, 3)) for chosen in owners)


def test_a_zone_that_holds_its_quota_takes_no_second_copy() -> None:
    owners = [(0, 1)] * PARTITIONS
    bound_copies(owners, [PARTITIONS - 10, PARTITIONS, PARTITIONS, PARTITIONS], list("abbc"), 1, lambda _: range(4))
    assert Counter(owners) == {(0, 1): PARTITIONS - 10, (1, 3): 10}


def test_a_copy_that_nobody_may_take_stays() -> None:
    owners = [(0, 1)] * PARTITIONS
    bound_copies(owners, [10, PARTITIONS], ["", ""], 2, lambda _: range(2))
    assert owners == [(0, 1)] * PARTITIONS


def test_a_slightly_lower_limit_gives_away_the_same_partitions_and_some_more() -> None:
    given_away = []
    for limit in (16000, 15900):
        owners = [(0,)] * PARTITIONS
        bound_copies(owners, [limit, PARTITIONS], ["", ""], 1, lambda _: range(2))
        given_away.append({partition for partition in range(PARTITIONS) if owners[partition] == (1,)})
    assert given_away[0] < given_away[1]
    assert [len(partitions) for partitions in given_away] == [384, 484]


def test_primaries_are_spread_without_moving_a_copy() -> None:
    owners = [(0, 1, 2)] * PARTITIONS
    bound_primaries(owners, [PARTITIONS // 2, PARTITIONS // 4, PARTITIONS // 2])
    assert Counter(chosen[0] for chosen in owners) == {0: 8192, 1: 4096, 2: 4096}
    assert {tuple(sorted(chosen)) for chosen in owners} == {(0, 1, 2)}
