"""A whole store against a model that is too simple to be wrong.

The model keeps one record per key and never runs out of memory. The store may know less (it evicts, and gives up tombstones),
but each loss must be counted, and it may never know anything else.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kvcache.store import MIN_BUDGET_BYTES, Put, Store, StoreConfig
from kvcache_client.protocol.record import (
    NEVER,
    TOMBSTONE_MS,
    expiry_of,
    is_tombstone,
    make_record,
    tombstone,
    version_of,
)

START_MS = 1_800_000_000_000
PARTITIONS = 4
LIFETIMES = (
    0,
    1,
    255,
    256,
    257,
    1_000,
    4_096,
    65_535,
    65_536,
    70_000,
    131_072,
    TOMBSTONE_MS,
    1 << 24,
    3 << 24,
    3 << 32,
)
"""Milliseconds around the borders of the timer wheels' levels; 0 is due at once."""

keys = st.sampled_from(
    [bytes([letter]) * length for letter, length in zip(range(97, 121), [1, 3, 40] * 8, strict=True)]
)
versions = st.integers(1, 6)
lifetimes = st.none() | st.sampled_from(LIFETIMES)
sizes = st.sampled_from([0, 1, 600, 60_000, 200_000])


def partition_of(key: bytes) -> int:
    return key[0] % PARTITIONS


def seen_at(now_ms: int, record: bytes | None, forget_ms: int) -> bytes | None:
    """Return what a record is at a moment: itself, the tombstone that it leaves when it expires, or nothing."""
    if record is None or expiry_of(record) > (forget_ms if is_tombstone(record) else now_ms):
        return record
    if is_tombstone(record):
        return None
    return seen_at(now_ms, tombstone(version_of(record), expiry_of(record) + TOMBSTONE_MS), forget_ms)


def rank(record: bytes) -> tuple[int, bool, bytes]:
    return version_of(record), is_tombstone(record), record


def judge(known: bytes | None, record: bytes, now_ms: int, forget_ms: int) -> tuple[Put, bytes | None]:
    """Return what putting ``record`` must do to a key of which ``known`` is seen, and what is seen of it from then on."""
    new = seen_at(now_ms, record, forget_ms)
    bid = new or tombstone(version_of(record), expiry_of(record))  # a delete as old as that can still take a value away
    if known is not None and rank(bid) <= rank(known):
        return Put.SAME if version_of(bid) == version_of(known) else Put.OLDER, known
    if known is not None and not is_tombstone(known):
        return Put.REPLACED, new
    return Put.CREATED, new or known


class StoreMachine(RuleBasedStateMachine):
    @initialize(tombstones=st.sampled_from([None, 0, 1_500, 6_000]), phase=st.sampled_from([0, 1, 200, 65_000]))
    def start(self, tombstones: int | None, phase: int) -> None:
        self.now_ms = START_MS + phase
        self.held_ms: int | None = None
        self.store = self.make_store(tombstones)
        self.model: dict[bytes, bytes] = {}
        self.digests: dict[frozenset[tuple[bytes, int]], int] = {frozenset(): 0}
        self.gets = self.evictions = self.tombstones_dropped = 0

    def make_store(self, tombstones: int | None) -> Store:
        return Store(StoreConfig(MIN_BUDGET_BYTES, tombstones, PARTITIONS), self.now_ms)

    @property
    def forget_ms(self) -> int:
        """When tombstones are judged: now, or when they were first held."""
        return self.now_ms if self.held_ms is None else self.held_ms

    def seen(self, record: bytes | None) -> bytes | None:
        return seen_at(self.now_ms, record, self.forget_ms)

    def expiry(self, lifetime: int | None) -> int:
        return NEVER if lifetime is None else self.now_ms + lifetime

    @rule(key=keys, version=versions, lifetime=lifetimes, size=sizes)
    def put_a_value(self, key: bytes, version: int, lifetime: int | None, size: int) -> None:
        self.put(key, make_record(version, self.expiry(lifetime), 1, b"x" * size))

    @rule(key=keys, version=versions, lifetime=lifetimes)
    def put_a_tombstone(self, key: bytes, version: int, lifetime: int | None) -> None:
        self.put(key, tombstone(version, self.expiry(lifetime)))

    @rule(key=keys, size=sizes, lifetime=lifetimes)
    def overwrite(self, key: bytes, size: int, lifetime: int | None) -> None:
        now = self.model.get(key)
        version = version_of(now) + 1 if now else 1
        self.put(key, make_record(version, self.expiry(lifetime), 1, b"x" * size))

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def put_again(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.model)))
        before = self.model[key]
        self.put(key, before)

    def put(self, key: bytes, record: bytes) -> None:
        known = self.seen(self.model.pop(key, None))
        expected, after = judge(known, record, self.now_ms, self.forget_ms)
        dropped = self.store.statistics().tombstones_dropped
        # The key is a copy, as from a socket: a store must not count on its being the object that it holds.
        outcome = self.store.put(partition_of(key), bytes(bytearray(key)), record)
        if outcome is not expected:
            # Putting to an expired record leaves its tombstone first, which may be given up at once for want of room.
            assert known is not None
            assert is_tombstone(known)
            assert self.store.statistics().tombstones_dropped > dropped
            self.tombstones_dropped += 1
            expected, after = judge(None, record, self.now_ms, self.forget_ms)
        assert outcome is expected
        if after is not None:
            self.model[key] = after

    @rule(key=keys)
    def get(self, key: bytes) -> None:
        self.gets += 1
        known = self.seen(self.model.get(key))
        expected = None if known is None or is_tombstone(known) else known
        assert self.store.get(partition_of(key), key) == expected

    @rule(
        ms=st.sampled_from([0, 1, 100, 256, 1_000, 65_536, TOMBSTONE_MS, 1 << 24, 2 << 32]),
        work=st.sampled_from([0, 1, 5, 1000]),
    )
    def advance(self, ms: int, work: int) -> None:
        self.move_to(self.now_ms + ms, work)

    @precondition(lambda self: any(expiry_of(record) != NEVER for record in self.model.values()))
    @rule(data=st.data(), early=st.integers(0, 1))
    def advance_to_an_expiry(self, data: st.DataObject, early: int) -> None:
        times = sorted({expiry_of(record) for record in self.model.values()} - {NEVER})
        self.move_to(max(self.now_ms, data.draw(st.sampled_from(times)) - early), 1000)

    @rule(ms=st.integers(1, 100_000))
    def a_clock_that_runs_back_changes_nothing(self, ms: int) -> None:
        self.store.advance(self.now_ms - ms)
        assert self.store.now_ms == self.now_ms

    def move_to(self, now_ms: int, work: int) -> None:
        self.now_ms = now_ms
        before = len(self.store)
        self.store.advance(now_ms, work)
        assert before - len(self.store) <= work

    @rule()
    def reclaim_everything(self) -> None:
        for _ in range(100):
            if not self.store.advance(self.now_ms):
                break
        assert self.store.used_bytes <= self.store.budget_bytes
        late = [
            record
            for record in self.held()
            if expiry_of(record) >> 8 < (self.forget_ms if is_tombstone(record) else self.now_ms) >> 8
        ]
        assert late == []

    def held(self) -> list[bytes]:
        tables = self.store.tables
        return [
            record for table in tables for home in (table.small, table.main, table.graves) for record in home.values()
        ]

    @rule(partition=st.integers(0, PARTITIONS - 1))
    def drop(self, partition: int) -> None:
        self.store.drop(partition)
        self.model = {key: record for key, record in self.model.items() if partition_of(key) != partition}
        assert list(self.store.records(partition)) == []

    @rule(held=st.booleans())
    def hold_tombstones(self, held: bool) -> None:
        self.store.hold_tombstones(held)
        self.held_ms = self.forget_ms if held else None

    @rule(key=keys, version=versions, late=st.integers(0, 1_000))
    def bury_and_let_the_time_pass(self, key: bytes, version: int, late: int) -> None:
        self.hold_tombstones(True)
        self.put(key, tombstone(version + 1, self.now_ms + 1_000))
        self.count_losses()
        self.move_to(self.now_ms + 1_000 + late, 1000)
        self.count_losses()
        self.put(key, make_record(version, NEVER, 1, b"older"))

    @rule(key=keys, version=versions)
    def forget(self, key: bytes, version: int) -> None:
        known = self.seen(self.model.get(key))
        expected = known is not None and version_of(known) == version
        assert self.store.forget(partition_of(key), key, version) is expected
        if expected:
            del self.model[key]
            assert self.store.peek(partition_of(key), key) is None

    @rule(limit=st.sampled_from([1, 60, 1_000, 1 << 20]), with_payload=st.booleans(), partition=st.integers(0, 3))
    def scan(self, limit: int, with_payload: bool, partition: int) -> None:
        expected = sorted(self.store.records(partition))
        found: list[tuple[bytes, bytes]] = []
        more = True
        while more:
            rows, more = self.store.scan(partition, found[-1][0] if found else b"", limit, with_payload)
            assert rows or not expected
            assert sum(len(key) + len(record) for key, record in rows[:-1]) < limit
            found += rows
        assert found == [(key, record if with_payload else record[:15]) for key, record in expected]

    @rule(budget=st.sampled_from([MIN_BUDGET_BYTES, MIN_BUDGET_BYTES + 300_000, 4 * MIN_BUDGET_BYTES]))
    def resize(self, budget: int) -> None:
        self.store.resize(budget)

    @invariant()
    def the_store_knows_what_the_model_knows_but_for_counted_losses(self) -> None:
        self.count_losses()
        for partition in range(PARTITIONS):
            expected = {key: self.seen(record) for key, record in self.model.items() if partition_of(key) == partition}
            assert dict(self.store.records(partition)) == expected
            again = {key: version_of(record) for key, record in expected.items() if record is not None}
            assert self.digests.setdefault(frozenset(again.items()), self.store.digest(partition)) == (
                self.store.digest(partition)
            )

    def count_losses(self) -> None:
        store = self.store
        values = tombstones = 0
        for key, record in list(self.model.items()):
            expected = self.seen(record)
            held = store.peek(partition_of(key), key)
            if held is not None:
                assert held == expected
                continue
            del self.model[key]
            if expected is not None:
                values, tombstones = values + (not is_tombstone(expected)), tombstones + is_tombstone(expected)
        facts = store.statistics()
        assert bool(store.thin_graves) <= bool(facts.tombstones_dropped)
        assert values <= facts.evictions - self.evictions
        assert tombstones <= facts.tombstones_dropped - self.tombstones_dropped
        self.evictions, self.tombstones_dropped = facts.evictions, facts.tombstones_dropped
        assert facts.hits + facts.misses == self.gets

    @invariant()
    def the_tombstone_budget_holds(self) -> None:
        facts = self.store.statistics()
        assert facts.tombstone_bytes <= facts.tombstone_budget_bytes or not facts.tombstones

    @invariant()
    def a_recount_agrees(self) -> None:
        self.store.check()


class SharedTables(StoreMachine):
    """So many partitions for so little memory that these four share one table."""

    def make_store(self, tombstones: int | None) -> Store:
        config = StoreConfig(MIN_BUDGET_BYTES, tombstones, 128 * PARTITIONS)
        store = Store(config, self.now_ms, partition_of)
        assert store.sharing == PARTITIONS
        return store


SharedTables.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestSharedTablesAgainstAModel = SharedTables.TestCase

StoreMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestStoreAgainstAModel = StoreMachine.TestCase
