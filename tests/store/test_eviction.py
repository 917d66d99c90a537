from __future__ import annotations

import pytest

from kvcache.store.eviction import S3Fifo
from kvcache.store.sizes import Ledger, entry_cost
from kvcache.store.table import EMPTY_TABLE, Table, open_table
from kvcache.store.uses import MAX_USES, UseCounts

PARTITIONS = 4


class Cache:
    """The policy at its plainest: as many records as there is room for, read and filled on a miss."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.ledger = Ledger()
        self.tables: list[Table] = [EMPTY_TABLE] * PARTITIONS
        self.policy = S3Fifo(self.tables, self.ledger)
        self.evicted: list[bytes] = []

    def table(self, key: bytes) -> Table:
        return open_table(self.tables, sum(key) % PARTITIONS, self.ledger, 1, self.policy.shared)

    def holds(self, key: bytes) -> bool:
        return self.table(key).find(key) is not None

    def is_in_main(self, key: bytes) -> bool:
        return key in self.table(key).main

    def use(self, key: bytes, times: int = 1) -> None:
        for _ in range(times):
            assert self.table(key).main.read(key) or self.table(key).small.read(key)

    def read(self, key: bytes) -> bool:
        if self.holds(key):
            self.use(key)
            return True
        self.add(key)
        return False

    def add(self, key: bytes) -> None:
        self.keep(key, b"record of " + key)

    def keep(self, key: bytes, record: bytes) -> None:
        self.ledger.used += entry_cost(key, record)
        self.policy.admit(self.table(key), key, record)
        while len(self.policy) > self.room:
            self.evict()

    def evict(self) -> bytes | None:
        victim = self.policy.evict()
        if victim is None:
            return None
        table, key, record = victim
        self.ledger.used -= entry_cost(key, record)
        assert record.startswith(b"record of " + key)
        assert table is self.table(key)
        assert not self.holds(key)
        self.evicted.append(key)
        return key

    def recount(self) -> None:
        small, main = self.policy.queues()
        assert small.records == sum(len(table.small) for table in self.tables)
        assert main.records == sum(len(table.main) for table in self.tables)
        for number, table in enumerate(self.tables):
            assert (small.recount()[number], main.recount()[number]) == (len(table.small), len(table.main))


def names(count: int, word: bytes) -> list[bytes]:
    return [b"%b %d" % (word, number) for number in range(count)]


def touch(cache: Cache, keys: list[bytes], rounds: int = 1) -> int:
    return sum(cache.read(key) for _ in range(rounds) for key in keys)


def fill(cache: Cache, keys: list[bytes]) -> None:
    for key in keys:
        cache.keep(key, b"record of " + key + bytes(1_000))
        while len(cache.policy) > cache.room:
            cache.evict()


def test_nothing_can_be_evicted_from_nothing() -> None:
    assert Cache(10).evict() is None


def test_records_that_nobody_asked_for_leave_in_the_order_they_came() -> None:
    cache = Cache(100)
    keys = names(300, b"key")
    touch(cache, keys)
    assert cache.evicted == keys[:200]
    cache.recount()


def test_every_record_can_be_evicted_however_much_it_was_used() -> None:
    cache = Cache(500)
    keys = names(500, b"key")
    touch(cache, keys, rounds=5)
    gone = {cache.evict() for _ in range(500)}
    assert gone == set(keys)
    assert cache.evict() is None
    cache.recount()


@pytest.mark.parametrize(("uses", "promoted"), [(0, False), (1, False), (2, True), (3, True)])
def test_two_uses_promote_a_record_when_it_comes_up(uses: int, promoted: bool) -> None:
    cache = Cache(200)
    cache.add(b"key")
    cache.use(b"key", uses)
    touch(cache, names(199, b"other"))
    assert not cache.is_in_main(b"key")  # a use alone moves nothing
    touch(cache, names(1, b"one more"))
    assert cache.is_in_main(b"key") is promoted
    assert cache.holds(b"key") is promoted


@pytest.mark.parametrize(("length", "price"), [(0, 1), (1_000, 2), (10_000, 3)])
def test_a_record_larger_than_most_needs_more_uses_to_stay_and_a_smaller_one_less(length: int, price: int) -> None:
    for uses in (price - 1, price):
        cache = Cache(200)
        fill(cache, names(400, b"before"))
        cache.keep(b"key", b"record of key" + bytes(length))
        cache.use(b"key", uses)
        fill(cache, names(200, b"after"))
        assert cache.is_in_main(b"key") is (uses == price)
        cache.recount()


def test_an_evicted_key_that_returns_soon_goes_to_the_main_queue_at_once() -> None:
    cache = Cache(200)
    cache.add(b"key")
    touch(cache, names(200, b"other"))
    assert cache.evicted == [b"key"]
    cache.add(b"key")
    assert cache.is_in_main(b"key")


def test_an_evicted_key_that_returns_late_starts_anew() -> None:
    cache = Cache(200)
    cache.add(b"key")
    touch(cache, names(3_000, b"other"))
    cache.add(b"key")
    assert not cache.is_in_main(b"key")


def test_a_deleted_key_is_not_remembered_as_evicted() -> None:
    cache = Cache(200)
    touch(cache, names(201, b"other"))  # there is a ghost now
    cache.add(b"key")
    cache.policy.discard(cache.table(b"key"), b"key")
    cache.add(b"key")
    assert not cache.is_in_main(b"key")
    cache.recount()


def test_a_scan_leaves_the_working_set_where_it_is() -> None:
    cache = Cache(1_000)
    working_set = names(700, b"work")
    touch(cache, working_set, rounds=3)
    touch(cache, names(20_000, b"scan"))
    # Keys that share a use counter lower each other's, and some of them lose their place.
    assert touch(cache, working_set) >= 0.75 * len(working_set)
    cache.recount()


def test_a_new_working_set_takes_the_place_of_an_old_one() -> None:
    cache = Cache(500)
    touch(cache, names(500, b"old"), rounds=5)
    new = names(400, b"new")
    touch(cache, new, rounds=8)
    assert touch(cache, new) >= 0.95 * len(new)


@pytest.mark.parametrize("room", [1, 2, 5, 9, 20])
def test_a_tiny_cache_still_keeps_what_is_read_again_at_once(room: int) -> None:
    cache = Cache(room)
    touch(cache, names(50, b"old"), rounds=3)
    for key in names(50, b"new"):
        assert not cache.read(key)
        assert cache.read(key)
    assert len(cache.policy) == room
    cache.recount()


def test_the_small_queue_keeps_room_for_ten_records_beside_a_full_main_queue() -> None:
    cache = Cache(30)
    touch(cache, names(30, b"old"), rounds=4)
    new = names(10, b"new")
    touch(cache, new)
    assert touch(cache, new) == len(new)


def test_a_use_counter_stops_and_one_round_in_the_main_queue_costs_one_use() -> None:
    cache = Cache(1_000)
    cache.add(b"key")
    cache.use(b"key", 10)
    assert cache.table(b"key").small.uses_of(b"key") == MAX_USES
    assert cache.evict() == b"key"  # the only record there is goes, if one has to


def test_what_was_counted_stays_counted_while_records_come() -> None:
    cache = Cache(5_000)
    cache.add(b"key")
    cache.use(b"key", 2)
    touch(cache, names(4_000, b"other"))
    assert cache.table(b"key").small.uses_of(b"key") >= 2
    assert not isinstance(cache.policy.shared, UseCounts) or cache.policy.shared.room >= len(cache.policy)


def test_the_ghost_grows_with_records_that_become_smaller() -> None:
    cache = Cache(1_000)
    touch(cache, names(1_001, b"key"))
    before = cache.policy.cost()
    cache.room = 5_000
    touch(cache, names(5_001, b"more"))
    assert cache.policy.cost() > before + 4 * 4 * 1_000
    assert cache.ledger.used > 0


def test_the_ghost_grows_while_it_remembers_nothing_and_is_paid_for() -> None:
    cache = Cache(1_000)
    before = cache.policy.cost()
    touch(cache, names(1_000, b"key"))
    full = cache.policy.cost()
    assert full >= before + 4 * 1_000
    touch(cache, names(1_000, b"more"))  # from now on it remembers
    assert cache.policy.cost() - full < 4 * 1_000


def test_a_partition_thrown_away_whole_leaves_the_order_of_the_others() -> None:
    cache = Cache(1_000)
    keys = names(200, b"key")
    touch(cache, keys)
    table = cache.tables[1]
    cache.policy.clear(table)
    gone = set(table.small)
    table.small.clear()
    cache.recount()
    left = [key for key in keys if key not in gone]
    assert [cache.evict() for _ in left] == left


def test_the_policy_shows_its_state() -> None:
    cache = Cache(100)
    touch(cache, names(3, b"key"))
    assert repr(cache.policy).startswith("<S3Fifo small=3 main=0 ")
