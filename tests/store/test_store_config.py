from __future__ import annotations

import pytest

from kvcache.store import MIN_BUDGET_BYTES, Store, StoreConfig

MIB = 1 << 20


def test_tombstones_get_a_sixteenth_of_the_budget_unless_told_otherwise() -> None:
    assert StoreConfig(64 * MIB).tombstone_budget(64 * MIB) == 4 * MIB
    assert StoreConfig(64 * MIB).tombstone_budget(32 * MIB) == 2 * MIB


def test_a_tombstone_budget_of_its_own_stays_when_the_budget_changes_but_lies_within_it() -> None:
    config = StoreConfig(64 * MIB, tombstone_budget_bytes=8 * MIB)
    assert config.tombstone_budget(32 * MIB) == 8 * MIB
    assert config.tombstone_budget(4 * MIB) == 4 * MIB


@pytest.mark.parametrize("partitions", [1, 16384, 65536])
def test_a_partition_number_fits_into_two_bytes(partitions: int) -> None:
    assert StoreConfig(MIB, partitions=partitions).partitions == partitions


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"budget_bytes": MIN_BUDGET_BYTES - 1}, ["1048575", "1048576"]),
        ({"budget_bytes": 0}, ["is 0 bytes", "1048576"]),
        ({"budget_bytes": MIB, "partitions": 0}, ["partitions is 0", "65536"]),
        ({"budget_bytes": MIB, "partitions": 65537}, ["65537", "65536"]),
        ({"budget_bytes": MIB, "tombstone_budget_bytes": -1}, ["-1", "1048576"]),
        ({"budget_bytes": MIB, "tombstone_budget_bytes": MIB + 1}, ["1048577", "1048576"]),
    ],
)
def test_a_figure_out_of_range_is_refused_with_the_figure_and_the_limit(
    arguments: dict[str, int], words: list[str]
) -> None:
    with pytest.raises(ValueError, match=r"must be|the least is") as caught:
        StoreConfig(**arguments)
    assert [word for word in words if word not in str(caught.value)] == []


@pytest.mark.parametrize(
    ("budget", "partitions", "sharing"),
    [(256 * MIB, 16384, 1), (128 * MIB, 16384, 1), (64 * MIB, 16384, 2), (MIB, 16384, 128), (MIB, 4, 1), (MIB, 1, 1)],
)
def test_so_many_partitions_share_a_table_that_each_table_has_room(budget: int, partitions: int, sharing: int) -> None:
    assert StoreConfig(budget, partitions=partitions).partitions_per_table() == sharing


def test_partitions_share_no_table_where_their_keys_cannot_be_told_apart() -> None:
    config = StoreConfig(MIB, partitions=16384)
    assert Store(config, 0).sharing == 1
    assert Store(config, 0, lambda key: key[0]).sharing == 128


def test_a_small_store_holds_many_more_records_when_partitions_share_tables() -> None:
    def filled(store: Store) -> int:
        for number in range(40_000):
            key = number.to_bytes(4, "big")
            store.put(number % 16384, key, bytes(7) + b"\x01" + b"\xff" * 6 + b"\x01" + bytes(100))
        store.check()
        return len(store)

    config = StoreConfig(4 * MIB, partitions=16384)
    shared = filled(Store(config, 0, lambda key: int.from_bytes(key, "big") % 16384))
    assert shared > 1.5 * filled(Store(config, 0))


def test_a_store_cannot_be_resized_below_the_least_budget_and_keeps_the_one_it_has() -> None:
    store = Store(StoreConfig(2 * MIB, partitions=16), now_ms=0)
    with pytest.raises(ValueError, match="1048576"):
        store.resize(MIB - 1)
    assert store.budget_bytes == 2 * MIB


def test_the_least_budget_leaves_room_for_a_hundred_records_in_a_store_of_full_width(make_store) -> None:
    store = make_store(MIN_BUDGET_BYTES, partitions=16384)
    for number in range(1000):
        store.put(number * 16, b"%016d" % number, bytes(7) + b"\x01" + b"\xff" * 6 + b"\x01" + bytes(100))
    assert len(store) >= 100
