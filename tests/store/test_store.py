"""The rules of the store one by one; ``test_store_machine`` has them all together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from kvcache.store import Put, Store, StoreConfig
from kvcache.store.outcome import Missing
from kvcache_client.protocol.record import NEVER, TOMBSTONE_MS, make_record, tombstone

Make = Callable[..., Store]

KEY = b"key"
NOW = 1_800_000_000_000
LONG = NOW + TOMBSTONE_MS


def value(version: int, payload: bytes = b"v", expiry_ms: int = NEVER) -> bytes:
    return make_record(version, expiry_ms, 1, payload)


def put(store: Store, *records: bytes) -> list[Put]:
    return [store.put(0, KEY, record) for record in records]


def test_a_record_is_given_back_as_it_came(store: Store) -> None:
    assert put(store, value(1, b"payload")) == [Put.CREATED]
    assert store.get(0, KEY) == value(1, b"payload")


def test_a_key_that_was_never_put_is_a_miss(store: Store) -> None:
    assert store.get(0, KEY) is None
    assert store.peek(0, KEY) is None
    assert (store.statistics().hits, store.statistics().misses) == (0, 1)


@pytest.mark.parametrize(
    ("held", "came", "outcome"),
    [
        (value(5), value(6), Put.REPLACED),
        (value(5), value(5), Put.SAME),
        (value(5), value(4), Put.OLDER),
        (value(5, b"a"), value(5, b"b"), Put.REPLACED),
        (value(5, b"b"), value(5, b"a"), Put.SAME),
        (value(5, b"b"), value(4, b"c"), Put.OLDER),
        (value(5, expiry_ms=LONG), value(5), Put.REPLACED),
        (value(5), value(5, expiry_ms=LONG), Put.SAME),
        (value(5), value(6, expiry_ms=LONG), Put.REPLACED),
        (value(5), tombstone(6, LONG), Put.REPLACED),
        (value(5), tombstone(5, LONG), Put.REPLACED),
        (value(5), tombstone(4, LONG), Put.OLDER),
        (tombstone(5, LONG), value(6), Put.CREATED),
        (tombstone(5, LONG), value(5), Put.SAME),
        (tombstone(5, LONG), value(4), Put.OLDER),
        (tombstone(5, LONG), tombstone(6, LONG), Put.CREATED),
        (tombstone(5, LONG), tombstone(5, LONG), Put.SAME),
        (tombstone(5, LONG), tombstone(4, LONG), Put.OLDER),
    ],
)
def test_newer_wins_and_a_tie_goes_to_the_tombstone_then_to_the_larger_bytes(
    store: Store, held: bytes, came: bytes, outcome: Put
) -> None:
    put(store, held)
    assert put(store, came) == [outcome]
    assert store.peek(0, KEY) == (came if outcome in (Put.REPLACED, Put.CREATED) else held)


@pytest.mark.parametrize("first", [0, 1, 2, 3])
def test_the_same_records_in_any_order_end_in_the_same(make_store: Make, first: int) -> None:
    records = [value(5, b"a"), value(5, b"b", LONG), tombstone(5, LONG), value(4, b"z")]
    store = make_store()
    put(store, *records[first:], *records[:first])
    assert store.peek(0, KEY) == tombstone(5, LONG)


def test_a_deleted_key_is_a_miss_but_its_tombstone_can_be_seen(store: Store) -> None:
    put(store, value(1), tombstone(2, LONG))
    assert store.get(0, KEY) is None
    assert store.peek(0, KEY) == tombstone(2, LONG)
    assert len(store) == 0


@pytest.mark.parametrize("reclaimed", [False, True])
@pytest.mark.parametrize("lifetime", [1, 255, 256, 65_536, 70_000, 20_000_000])
def test_a_record_expires_at_its_millisecond_reclaimed_or_not(store: Store, lifetime: int, reclaimed: bool) -> None:
    record = value(1, expiry_ms=NOW + lifetime)
    put(store, record)
    store.advance(NOW + lifetime - 1)
    assert store.get(0, KEY) == store.peek(0, KEY) == record
    store.advance(NOW + lifetime, work=1000 if reclaimed else 0)
    assert store.get(0, KEY) is None
    assert store.peek(0, KEY) == tombstone(1, NOW + lifetime + TOMBSTONE_MS)


@pytest.mark.parametrize("late_ms", [0, 1_000])
def test_an_expired_record_shadows_older_versions_until_its_tombstone_is_forgotten(store: Store, late_ms: int) -> None:
    put(store, value(5, expiry_ms=NOW + 10))
    store.advance(NOW + 10 + late_ms)
    assert put(store, value(4), value(5, b"z"), value(6)) == [Put.OLDER, Put.SAME, Put.CREATED]


def test_a_shadow_is_forgotten_in_time_and_then_an_old_version_may_come(store: Store) -> None:
    put(store, value(5, expiry_ms=NOW + 10))
    store.advance(NOW + 1_000)
    store.advance(NOW + 10 + TOMBSTONE_MS - 1)
    assert put(store, value(4)) == [Put.OLDER]
    store.advance(NOW + 10 + TOMBSTONE_MS)
    assert store.peek(0, KEY) is None
    assert put(store, value(4)) == [Put.CREATED]


def test_a_record_that_is_expired_when_it_comes_deletes(store: Store) -> None:
    put(store, value(1))
    assert put(store, value(2, expiry_ms=NOW)) == [Put.REPLACED]
    assert store.get(0, KEY) is None
    assert store.peek(0, KEY) == tombstone(2, NOW + TOMBSTONE_MS)
    assert store.statistics().deletions == 1


def test_a_delete_whose_tombstone_is_over_leaves_nothing(store: Store) -> None:
    put(store, value(1))
    assert put(store, tombstone(2, NOW)) == [Put.REPLACED]
    assert store.peek(0, KEY) is None
    assert list(store.records(0)) == []


@pytest.mark.parametrize(
    ("before", "after"), [(NEVER, LONG), (LONG, NEVER), (LONG, LONG + 1), (LONG, LONG + 20_000_000)]
)
def test_an_overwrite_takes_its_own_time_to_live(store: Store, before: int, after: int) -> None:
    put(store, value(1, expiry_ms=before), value(2, expiry_ms=after))
    store.check()
    store.advance(min(before, after))
    assert (store.get(0, KEY) is None) is (after <= min(before, after))
    store.advance(min(after, LONG + 30_000_000))
    assert (store.get(0, KEY) is None) is (after != NEVER)


def test_time_never_runs_back(store: Store) -> None:
    put(store, value(1, expiry_ms=NOW + 100))
    store.advance(NOW + 100)
    store.advance(NOW)
    assert store.now_ms == NOW + 100
    assert store.get(0, KEY) is None


def test_expired_records_are_reclaimed_within_a_second(store: Store) -> None:
    for number in range(200):
        store.put(0, b"%d" % number, value(1, bytes(1_000), NOW + 1_000 + number))
    before = store.used_bytes
    store.advance(NOW + 1_200 + 256)
    assert len(store) == 0
    assert store.statistics().expirations == store.statistics().tombstones == 200
    assert store.used_bytes - store.statistics().tombstone_bytes < before - 200 * 1_000


def test_reclaiming_is_bounded_and_says_that_more_is_waiting(store: Store) -> None:
    for number in range(250):
        store.put(number % 16, b"%d" % number, value(1, b"", NOW + 10))
    left = []
    while store.advance(NOW + 1_000, work=100):
        left.append(len(store))
    assert left[:2] == [150, 50]
    assert len(store) == 0
    assert store.advance(NOW + 1_001, work=100) is False


def test_a_key_whose_time_to_live_is_rewritten_for_ever_is_held_once_and_its_old_times_do_not_pile_up(
    store: Store,
) -> None:
    put(store, value(1, expiry_ms=NOW + 60_000))
    before = store.used_bytes
    for version in range(2, 5_000):
        put(store, value(version, expiry_ms=store.now_ms + 60_000))
        store.advance(store.now_ms + 500)
    assert len(store) == 1
    assert len(store.live.deadlines) <= 17  # a minute in buckets of 4 s
    assert store.used_bytes < before + 17 * 200
    assert store.statistics().expirations == 0


def test_expired_records_are_reclaimed_in_every_table_that_partitions_share() -> None:
    store = Store(StoreConfig(1 << 20, partitions=512), NOW, lambda key: int(key) % 512)
    assert store.sharing == 4
    for number in range(600):
        store.put(number % 512, b"%d" % number, value(1, expiry_ms=NOW + 1 + number * 100))
    for passed in range(100, 61_000, 100):
        store.advance(NOW + passed)
        assert len(store) <= max(0, 600 - (passed - 256) // 100)
        if passed % 10_000 == 0:
            store.check()
    assert store.statistics().expirations == 600


def test_only_a_get_counts_hits_and_misses(store: Store) -> None:
    put(store, value(1))
    store.peek(0, KEY)
    list(store.records(0))
    assert (store.statistics().hits, store.statistics().misses) == (0, 0)
    store.get(0, KEY)
    store.get(0, b"other")
    assert (store.statistics().hits, store.statistics().misses) == (1, 1)


def test_dropping_a_partition_forgets_its_values_and_tombstones_and_no_others(store: Store) -> None:
    for partition in (0, 1):
        store.put(partition, b"value %d" % partition, value(1, expiry_ms=LONG))
        store.put(partition, b"grave %d" % partition, tombstone(1, LONG))
    store.drop(0)
    store.drop(5)
    assert list(store.records(0)) == []
    assert dict(store.records(1)) == {b"value 1": value(1, expiry_ms=LONG), b"grave 1": tombstone(1, LONG)}
    assert store.statistics().dropped == 1
    assert store.put(0, b"grave 0", value(1)) is Put.CREATED


def test_a_dropped_store_costs_what_an_empty_one_costs(make_store: Make) -> None:
    store, empty = make_store(), make_store()
    for number in range(500):
        store.put(number % 16, b"%d" % number, value(1, b"", LONG + number * 100_000))
        store.put(number % 16, b"grave %d" % number, tombstone(1, LONG + number * 100_000))
    for partition in range(16):
        store.drop(partition)
    assert store.used_bytes == empty.used_bytes
    assert len(store) == store.statistics().tombstones == 0


def test_the_records_of_a_partition_are_those_of_the_moment_whatever_happens_later(store: Store) -> None:
    for number in range(10):
        store.put(3, b"%d" % number, value(1))
    listed = store.records(3)
    store.drop(3)
    store.put(3, b"new", value(1))
    assert dict(listed) == {b"%d" % number: value(1) for number in range(10)}


def test_the_records_of_a_partition_show_an_expired_value_as_its_tombstone(store: Store) -> None:
    store.put(0, b"stays", value(1))
    store.put(0, b"expires", value(2, expiry_ms=NOW + 10))
    store.put(0, b"is forgotten", tombstone(3, NOW + 10))
    store.advance(NOW + 10)
    assert dict(store.records(0)) == {b"stays": value(1), b"expires": tombstone(2, NOW + 10 + TOMBSTONE_MS)}


def test_one_key_in_each_of_many_partitions_is_found_again(make_store: Make) -> None:
    store = make_store(8 << 20, partitions=16384)
    for partition in range(0, 16384, 100):
        store.put(partition, b"%d" % partition, value(1, b"%d" % partition))
    assert all(
        store.get(partition, b"%d" % partition) == value(1, b"%d" % partition) for partition in range(0, 16384, 100)
    )
    assert store.get(1, b"0") is None


def test_an_empty_payload_is_a_value(store: Store) -> None:
    put(store, value(1, b""))
    assert store.get(0, KEY) == value(1, b"")


def test_a_store_shows_its_state(store: Store) -> None:
    put(store, value(1))
    assert repr(store) == f"<Store records=1 tombstones=0 used={store.used_bytes}/1048576 B now={NOW} ms>"


def test_a_miss_is_told_apart_by_what_became_of_the_key(store: Store) -> None:
    written = NOW << 21
    assert store.why_missing(0, KEY) is Missing.ABSENT
    put(store, value(written, expiry_ms=store.now_ms + 50))
    store.advance(store.now_ms + 50)
    assert store.why_missing(0, KEY) is Missing.EXPIRED
    while store.advance(store.now_ms + 300):  # its memory is reclaimed, a tombstone takes its place
        pass
    assert store.peek(0, KEY) is not None
    assert store.why_missing(0, KEY) is Missing.EXPIRED
    deleted = store.now_ms << 21
    put(store, value(deleted - 1), tombstone(deleted, store.now_ms + TOMBSTONE_MS))
    assert store.why_missing(0, KEY) is Missing.DELETED
    assert store.statistics().misses == 0


def test_a_key_that_went_for_want_of_memory_is_remembered_for_a_while(make_store: Make) -> None:
    store = make_store()
    names = [b"key %d" % number for number in range(8000)]
    for number, key in enumerate(names):
        store.put(number % 16, key, value(1, b"x" * 200))
    gone = [(number % 16, key) for number, key in enumerate(names) if store.get(number % 16, key) is None]
    reasons = Counter(store.why_missing(*place) for place in gone)
    assert store.statistics().evictions == len(gone) > 500
    assert set(reasons) == {Missing.EVICTED, Missing.ABSENT}
    assert [store.why_missing(*place) for place in gone[-100:]].count(Missing.EVICTED) > 80
    by_reason = store.statistics().misses_by_reason
    assert by_reason["evicted"] == reasons[Missing.EVICTED]
    assert sum(by_reason.values()) == store.misses == len(gone)
    partition, key = gone[-1]
    store.put(partition, key, value(2))
    store.put(partition, key, tombstone(NOW << 21, LONG))
    assert store.why_missing(partition, key) is Missing.DELETED
