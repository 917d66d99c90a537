"""Tombstones that are held beyond their time, tombstones that were given up before it, and records forgotten one by one."""

from __future__ import annotations

from collections.abc import Callable

from kvcache.store import Put, Store
from kvcache_client.protocol.record import NEVER, TOMBSTONE_MS, make_record, tombstone

Make = Callable[..., Store]

KEY = b"key"
NOW = 1_800_000_000_000
OVER = NOW + TOMBSTONE_MS
LONG_AFTER = NOW + 100 * TOMBSTONE_MS


def value(version: int, expiry_ms: int = NEVER) -> bytes:
    return make_record(version, expiry_ms, 1, b"v")


def reclaim(store: Store, now_ms: int) -> None:
    while store.advance(now_ms):
        pass


def test_a_held_tombstone_beats_older_puts_long_after_its_time(store: Store) -> None:
    store.put(0, KEY, tombstone(5, OVER))
    store.hold_tombstones(True)
    reclaim(store, LONG_AFTER)
    assert store.put(0, KEY, value(4)) is Put.OLDER
    assert store.peek(0, KEY) == tombstone(5, OVER)
    assert dict(store.records(0)) == {KEY: tombstone(5, OVER)}
    assert store.put(0, KEY, value(6)) is Put.CREATED


def test_not_held_it_is_forgotten_and_the_old_value_comes_back(store: Store) -> None:
    store.put(0, KEY, tombstone(5, OVER))
    reclaim(store, LONG_AFTER)
    assert store.put(0, KEY, value(4)) is Put.CREATED


def test_when_they_are_let_go_those_whose_time_is_over_go(store: Store) -> None:
    store.put(0, b"over", tombstone(5, OVER))
    store.put(0, b"not yet", tombstone(5, LONG_AFTER + 1))
    store.hold_tombstones(True)
    reclaim(store, LONG_AFTER)
    assert store.statistics().tombstones == 2
    store.hold_tombstones(False)
    assert store.peek(0, b"over") is None
    reclaim(store, LONG_AFTER)
    assert dict(store.records(0)) == {b"not yet": tombstone(5, LONG_AFTER + 1)}
    assert store.statistics().tombstones_forgotten == 1


def test_one_whose_time_was_over_before_stays_invisible(store: Store) -> None:
    store.put(0, KEY, tombstone(5, NOW + 1))
    store.advance(NOW + 1, work=0)
    store.hold_tombstones(True)
    assert store.peek(0, KEY) is None
    assert store.put(0, KEY, value(4)) is Put.CREATED


def test_one_that_arrives_while_they_are_held_is_kept_though_its_time_is_over(store: Store) -> None:
    store.hold_tombstones(True)
    reclaim(store, LONG_AFTER)
    store.put(0, KEY, tombstone(5, OVER))
    assert store.put(0, KEY, value(4)) is Put.OLDER


def test_a_record_that_expires_meanwhile_leaves_a_tombstone_that_is_held(store: Store) -> None:
    store.put(0, KEY, value(5, NOW + 1_000))
    store.hold_tombstones(True)
    reclaim(store, LONG_AFTER)
    assert store.statistics().tombstones == 1
    assert store.put(0, KEY, value(4)) is Put.OLDER


def test_values_expire_in_time_while_tombstones_are_held(store: Store) -> None:
    store.put(0, KEY, value(5, LONG_AFTER))
    store.hold_tombstones(True)
    reclaim(store, LONG_AFTER - 1)
    assert store.get(0, KEY) is not None
    reclaim(store, LONG_AFTER + 1_000)
    assert store.get(0, KEY) is None
    assert len(store) == 0


def test_holding_what_is_held_does_not_begin_anew(store: Store) -> None:
    store.put(0, KEY, tombstone(5, OVER))
    store.hold_tombstones(True)
    store.advance(LONG_AFTER)
    store.hold_tombstones(True)
    assert store.forget_ms == NOW
    assert store.peek(0, KEY) is not None


def test_a_store_at_rest_is_not_woken_by_what_is_held(store: Store) -> None:
    store.put(0, KEY, tombstone(5, OVER))
    store.hold_tombstones(True)
    reclaim(store, LONG_AFTER)
    assert store._wake_ms > LONG_AFTER


def test_the_budget_of_tombstones_holds_while_they_are_held(make_store: Make) -> None:
    store = make_store(tombstones=20_000)
    store.hold_tombstones(True)
    for number in range(1_000):
        store.put(number % 16, b"%d" % number, tombstone(5, OVER))
    reclaim(store, LONG_AFTER)
    facts = store.statistics()
    assert facts.tombstone_bytes <= 20_000
    assert facts.tombstones_dropped > 800


def test_partitions_whose_tombstones_were_given_up_are_remembered(make_store: Make) -> None:
    store = make_store(tombstones=20_000)
    assert store.thin_graves == set()
    for number in range(400):
        store.put(3, b"%d" % number, tombstone(5, OVER))
    assert store.thin_graves == {3}
    store.thin_graves.clear()
    store.put(3, b"later", tombstone(5, OVER))
    assert store.thin_graves <= {3}
    for number in range(400):
        store.put(5, b"again %d" % number, tombstone(5, OVER + 1))
    assert store.thin_graves == {3, 5}


def test_a_partition_that_is_dropped_has_nothing_to_be_repaired(make_store: Make) -> None:
    store = make_store(tombstones=0)
    store.put(3, KEY, tombstone(5, OVER))
    store.put(4, KEY, tombstone(5, OVER))
    store.drop(3)
    assert store.thin_graves == {4}


def test_tombstones_forgotten_in_their_time_make_nothing_thin(store: Store) -> None:
    store.put(3, KEY, tombstone(5, OVER))
    reclaim(store, LONG_AFTER)
    assert store.thin_graves == set()


def test_a_value_is_forgotten_without_a_trace(store: Store) -> None:
    store.put(0, KEY, value(5, NOW + 1_000))
    assert store.forget(0, KEY, 5)
    assert store.peek(0, KEY) is None
    assert store.put(0, KEY, value(1)) is Put.CREATED
    assert store.statistics().dropped == 1


def test_a_tombstone_is_forgotten_without_a_trace(store: Store) -> None:
    store.put(0, KEY, tombstone(5, OVER))
    assert store.forget(0, KEY, 5)
    assert store.statistics().tombstones == 0
    assert store.put(0, KEY, value(1)) is Put.CREATED


def test_an_expired_record_is_forgotten_and_leaves_no_tombstone(store: Store) -> None:
    store.put(0, KEY, value(5, NOW + 1_000))
    store.advance(NOW + 1_000, work=0)
    assert store.forget(0, KEY, 5)
    reclaim(store, NOW + 5_000)
    assert store.statistics().tombstones == 0


def test_only_the_very_version_is_forgotten(store: Store) -> None:
    store.put(0, KEY, value(5))
    assert [store.forget(0, KEY, version) for version in (4, 6)] == [False, False]
    assert store.peek(0, KEY) == value(5)
    assert not store.forget(0, b"nobody", 5)
    assert not store.forget(1, KEY, 5)


def test_the_last_record_of_a_partition_gives_its_table_back(store: Store) -> None:
    before = store.used_bytes
    store.put(0, KEY, value(5))
    assert store.forget(0, KEY, 5)
    assert store.used_bytes == before


def test_a_store_shows_that_its_tombstones_are_held(store: Store) -> None:
    assert "(held)" not in repr(store)
    store.hold_tombstones(True)
    assert "tombstones=0 (held)" in repr(store)
    assert store.holds_tombstones
