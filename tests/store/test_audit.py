"""Each kind of corruption, planted by hand, is found and named."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kvcache.store import Store, StoreConfig, StoreCorrupted
from kvcache.store.table import EMPTY_TABLE, Table
from kvcache_client.protocol.record import NEVER, TOMBSTONE_MS, make_record, tombstone

NOW = 1_800_000_000_000
LATER = NOW + 60_000
FOREVER = make_record(1, NEVER, 1, b"value")
TIMED = make_record(1, LATER, 1, b"value")
GRAVE = tombstone(1, NOW + TOMBSTONE_MS)


@pytest.fixture
def sound() -> Store:
    """A store with a value, a timed value and a tombstone in partition 3, and one value in partition 4."""
    store = Store(StoreConfig(1 << 20, partitions=8), NOW)
    store.put(3, b"forever", FOREVER)
    store.put(3, b"timed", TIMED)
    store.put(3, b"grave", GRAVE)
    store.put(4, b"other", FOREVER)
    store.check()
    return store


def replace_a_key(store: Store) -> None:
    graves = store.tables[3].graves
    del graves[b"grave"]
    graves[bytes(bytearray(b"grave"))] = GRAVE


def move_a_deadline(store: Store) -> None:
    store.tables[3].small[b"timed"] = make_record(1, LATER + 1_000_000, 1, b"value")


def bring_a_deadline_forward(store: Store) -> None:
    store.tables[3].small[b"timed"] = make_record(1, NOW + 100, 1, b"value")


def forget_all_deadlines(store: Store) -> None:
    store.live.deadlines.clear()


def a_deadline_in_another_partition(store: Store) -> None:
    store.live.deadlines.clear()
    store.live.deadlines.add(4, LATER)


def lose_a_bucket(store: Store) -> None:
    for buckets in store.live.deadlines._levels:
        buckets.clear()


def a_grave_never_forgotten(store: Store) -> None:
    store.graves.wheel.discard(b"grave", 3, NOW + TOMBSTONE_MS)


def a_forget_time_of_nothing(store: Store) -> None:
    store.graves.wheel.add(b"nobody", 5, NOW + TOMBSTONE_MS)


def lose_a_record(store: Store) -> None:
    del store.tables[3].small[b"forever"]


def slip_a_record_in(store: Store) -> None:
    store.tables[4].main[b"stowaway"] = FOREVER


def move_a_record_to_the_other_queue(store: Store) -> None:
    table = store.tables[3]
    table.main[b"forever"] = table.small.pop(b"forever")


def an_entry_of_another_partition(store: Store) -> None:
    small, _ = store.policy.queues()
    small.spare(3)
    small.push(4)


def a_spare_too_many(store: Store) -> None:
    _, main = store.policy.queues()
    main.spare(4)


def a_key_that_stands_twice(store: Store) -> None:
    store.tables[3].graves[b"forever"] = GRAVE


def a_key_in_both_queues(store: Store) -> None:
    store.tables[4].main[b"other"] = FOREVER


def a_tombstone_among_values(store: Store) -> None:
    store.tables[3].small[b"forever"] = GRAVE


def a_value_among_tombstones(store: Store) -> None:
    store.tables[3].graves[b"grave"] = make_record(1, NOW + TOMBSTONE_MS, 1, b"")


def an_empty_table(store: Store) -> None:
    store.tables[6] = Table(6)


def a_table_in_a_wrong_place(store: Store) -> None:
    store.tables[3].number = 5


def lost_bytes_of_values(store: Store) -> None:
    store.live.ledger.used -= 16


def lost_bytes_of_tombstones(store: Store) -> None:
    store.graves.ledger.used += 16


def a_longer_value(store: Store) -> None:
    store.tables[3].small[b"forever"] = FOREVER + bytes(100)


def a_lost_count_of_values(store: Store) -> None:
    store._created += 1


def a_lost_count_of_tombstones(store: Store) -> None:
    store.graves.made += 1


def a_wrong_number_of_tombstones(store: Store) -> None:
    store.graves.count += 1


def tombstones_over_their_budget(store: Store) -> None:
    store.graves.budget_bytes = 10


def tombstones_of_another_time(store: Store) -> None:
    store._forget_ms -= 1


def a_thin_partition_that_is_none(store: Store) -> None:
    store.thin_graves.add(8)


def a_thin_partition_without_a_loss(store: Store) -> None:
    store.thin_graves.add(3)


@pytest.mark.parametrize(
    ("damage", "finding"),
    [
        (replace_a_key, "the tombstone wheel holds its own copy of the key b'grave'"),
        (move_a_deadline, f"nothing tells that b'timed' in partition 3 expires at {LATER + 1_000_000} ms"),
        (bring_a_deadline_forward, f"nothing tells that b'timed' in partition 3 expires at {NOW + 100} ms"),
        (forget_all_deadlines, f"nothing tells that b'timed' in partition 3 expires at {LATER} ms"),
        (a_deadline_in_another_partition, f"nothing tells that b'timed' in partition 3 expires at {LATER} ms"),
        (lose_a_bucket, f"nothing tells that b'timed' in partition 3 expires at {LATER} ms"),
        (lose_a_bucket, "the ledger of live records says"),
        (a_grave_never_forgotten, "the tombstone wheel holds 0 keys, 1 records have a time"),
        (a_forget_time_of_nothing, "the tombstone wheel has b'nobody' in a wrong bucket or partition"),
        (lose_a_record, "the small queue disagrees with partitions [3]"),
        (lose_a_record, "the small queue counts 3 records, there are 2"),
        (slip_a_record_in, "the main queue disagrees with partitions [4]"),
        (move_a_record_to_the_other_queue, "the main queue disagrees with partitions [3]"),
        (an_entry_of_another_partition, "the small queue disagrees with partitions [3, 4]"),
        (a_spare_too_many, "the main queue disagrees with partitions [4]"),
        (a_key_that_stands_twice, "a key stands twice in partition 3"),
        (a_key_in_both_queues, "a key stands twice in partition 4"),
        (a_tombstone_among_values, "a tombstone lies among the values of partition 3"),
        (a_value_among_tombstones, "a value lies among the tombstones of partition 3"),
        (an_empty_table, "partition 6 is empty but has a table"),
        (a_table_in_a_wrong_place, "the table of partition 3 says 5"),
        (lost_bytes_of_values, "the ledger of live records says"),
        (lost_bytes_of_tombstones, "the ledger of tombstones says"),
        (a_longer_value, "the ledger of live records says"),
        (a_lost_count_of_values, "the counters of values add up to 4, there are 3"),
        (a_lost_count_of_tombstones, "the counters of tombstones say 1, there are 1"),
        (a_wrong_number_of_tombstones, "the counters of tombstones say 2, there are 1"),
        (tombstones_over_their_budget, "bytes of 10"),
        (tombstones_of_another_time, f"tombstones are over up to {NOW - 1} ms, it is {NOW} ms"),
        (a_thin_partition_that_is_none, "tombstones were given up in 8, which is no partition"),
        (a_thin_partition_without_a_loss, "1 partitions have given tombstones up, but none was counted"),
    ],
)
def test_a_damage_is_found_and_named(sound: Store, damage: Callable[[Store], None], finding: str) -> None:
    damage(sound)
    with pytest.raises(StoreCorrupted) as caught:
        sound.check()
    assert finding in str(caught.value)
    assert repr(sound) in str(caught.value)


def test_a_write_to_the_table_that_stands_for_empty_ones_is_found(sound: Store) -> None:
    EMPTY_TABLE.small[b"key"] = FOREVER
    try:
        with pytest.raises(StoreCorrupted, match="stands for empty ones was written to"):
            sound.check()
    finally:
        del EMPTY_TABLE.small[b"key"]
        EMPTY_TABLE.small.clear()


def test_many_faults_are_told_in_one_error_of_bounded_length(sound: Store) -> None:
    for number in range(8):
        sound.tables[number] = Table(100 + number)
    with pytest.raises(StoreCorrupted) as caught:
        sound.check()
    assert str(caught.value).count(";") == 9


def test_a_check_changes_nothing(sound: Store) -> None:
    before = sound.statistics(), sorted(sound.records(3)), repr(sound.live.deadlines)
    sound.check()
    assert (sound.statistics(), sorted(sound.records(3)), repr(sound.live.deadlines)) == before
