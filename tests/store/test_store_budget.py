"""Memory is what the budget says: after every put, for every kind of load, down to the last byte."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest

from kvcache.store import Put, Store
from kvcache_client.protocol.record import NEVER, TOMBSTONE_MS, make_record, tombstone

Make = Callable[..., Store]
Writes = Iterator[tuple[bytes, bytes]]

NOW = 1_800_000_000_000
MIB = 1 << 20


def value(version: int, size: int, expiry_ms: int = NEVER) -> bytes:
    return make_record(version, expiry_ms, 1, bytes(size))


def equal_sizes() -> Writes:
    for number in range(20_000):
        yield b"%d" % number, value(1, 400)


def random_sizes() -> Writes:
    dice = random.Random(1)
    for number in range(10_000):
        yield b"%d" % number, value(1, dice.randint(10, 4_096))


def growing_overwrites() -> Writes:
    for version in range(1, 60):
        for number in range(200):
            yield b"%d" % number, value(version, version * 200)


def times_to_live() -> Writes:
    dice = random.Random(2)
    for number in range(10_000):
        yield b"%d" % number, value(1, 300, NOW + dice.randint(10_000, 100_000_000))


def deletes_of_absent_keys() -> Writes:
    yield from random_sizes()
    for number in range(10_000):
        yield b"absent %d" % number, tombstone(1, NOW + TOMBSTONE_MS)


LOADS = [equal_sizes, random_sizes, growing_overwrites, times_to_live, deletes_of_absent_keys]


def fill(store: Store, writes: Writes) -> int:
    """Put everything; return by how many bytes the budget was exceeded at most, after any put."""
    worst = 0
    for key, record in writes:
        store.put(hash(key) % 16, key, record)
        worst = max(worst, store.used_bytes - store.budget_bytes)
    return worst


@pytest.mark.parametrize("load", LOADS, ids=lambda load: load.__name__)
def test_the_budget_holds_after_every_put(make_store: Make, load: Callable[[], Writes]) -> None:
    store = make_store(2 * MIB)
    # A dict that doubles may take more at once than one put should pay for: the next puts do, at twice their cost.
    assert fill(store, load()) <= 20_000
    store.advance(NOW)
    assert store.used_bytes <= store.budget_bytes
    assert store.used_bytes > 0.95 * store.budget_bytes
    assert store.statistics().evictions > 0


def test_deletes_make_room_and_are_counted_as_deletions(make_store: Make) -> None:
    store = make_store(2 * MIB)
    fill(store, random_sizes())
    for partition in range(16):
        for key, _ in store.records(partition):
            store.put(partition, key, tombstone(2, NOW + TOMBSTONE_MS))
    facts = store.statistics()
    assert facts.records == 0
    assert facts.deletions == facts.tombstones_made
    assert facts.used_bytes < 400_000


@pytest.mark.parametrize("held", [False, True])
def test_a_record_larger_than_the_budget_is_evicted_at_once_and_nothing_else_goes(store: Store, held: bool) -> None:
    store.put(0, b"small", value(1, 100))
    if held:
        store.put(0, b"large", value(1, 100))
    assert store.put(0, b"large", value(2, 2 * MIB)) is (Put.REPLACED if held else Put.CREATED)
    assert store.get(0, b"large") is None
    assert store.get(0, b"small") == value(1, 100)
    assert store.statistics().evictions == 1


def test_a_record_larger_than_the_budget_with_a_time_to_live_leaves_no_trace(store: Store) -> None:
    before = store.used_bytes
    store.put(0, b"large", value(1, 2 * MIB, NOW + 1_000))
    assert store.used_bytes == before
    assert len(store.live.deadlines) == 0


def test_a_record_as_large_as_the_budget_gives_way_to_what_comes_next(store: Store) -> None:
    store.put(0, b"large", value(1, MIB - 100))
    assert store.used_bytes <= store.budget_bytes
    assert store.put(0, b"small", value(1, 100)) is Put.CREATED
    assert store.get(0, b"small") == value(1, 100)


def test_a_smaller_budget_is_reached_step_by_step(make_store: Make) -> None:
    store = make_store(8 * MIB)
    fill(store, equal_sizes())
    store.resize(2 * MIB)
    records = len(store)
    assert store.advance(NOW, work=500) is True
    assert len(store) == records - 500
    while store.advance(NOW, work=500):
        assert store.used_bytes > 2 * MIB
    assert 1.9 * MIB < store.used_bytes <= 2 * MIB


def test_a_larger_budget_is_used(make_store: Make) -> None:
    store = make_store(2 * MIB)
    fill(store, equal_sizes())
    store.resize(4 * MIB)
    fill(store, ((b"more " + key, record) for key, record in equal_sizes()))
    assert 3.8 * MIB < store.used_bytes <= 4 * MIB


def test_an_expired_record_that_is_evicted_counts_as_expired_and_leaves_its_tombstone(make_store: Make) -> None:
    store = make_store(MIB)
    for number in range(100):
        store.put(0, b"%d" % number, value(5, 1_000, NOW + 10))
    store.advance(NOW + 10, work=0)
    fill(store, equal_sizes())
    assert store.statistics().expirations == 100
    assert store.put(0, b"7", value(4, 10)) is Put.OLDER


def test_live_records_never_push_out_tombstones(make_store: Make) -> None:
    store = make_store(MIB)
    for number in range(100):
        store.put(0, b"deleted %d" % number, tombstone(5, NOW + TOMBSTONE_MS))
    fill(store, equal_sizes())
    assert store.statistics().tombstones == 100
    assert store.statistics().tombstones_dropped == 0


def test_the_ledger_is_empty_again_when_everything_has_expired(make_store: Make) -> None:
    store, empty = make_store(4 * MIB), make_store(4 * MIB)
    for number in range(500):
        store.put(number % 16, b"%d" % number, value(1, 100, NOW + number * 60_000))
    store.advance(NOW + 500 * 60_000 + 2 * TOMBSTONE_MS)
    assert len(store) == store.statistics().tombstones == 0
    assert store.used_bytes == empty.used_bytes
