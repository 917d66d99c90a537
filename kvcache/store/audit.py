"""A recount of a whole store, to prove that its books are right.

Here lives what must always be true of a store, for tests and for a doubtful operator. Never here: any change to it.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from kvcache.store.expiry import Wheel
from kvcache.store.rows import cost_of
from kvcache.store.sizes import entry_cost
from kvcache.store.table import EMPTY_TABLE, TABLE_BYTES, Table
from kvcache_client.protocol.record import FLAGS, NEVER, TOMBSTONE, expiry_of

if TYPE_CHECKING:
    from kvcache.store.store import Store

__all__ = ["StoreCorrupted", "audit"]


class StoreCorrupted(RuntimeError):
    """A recount does not agree with the books; the message names each difference."""


def audit(store: Store) -> None:
    """Recount bytes, queues, deadlines and counters. Raises ``StoreCorrupted``."""
    faults = [*_tables(store), *_queues(store), *_deadlines(store), *_bytes(store), *_counters(store), *_holding(store)]
    if faults:
        raise StoreCorrupted(f"{store!r}: " + "; ".join(faults[:10]))


def _open_tables(store: Store) -> list[Table]:
    firsts = store.tables[:: store.sharing]
    return [table for table in firsts if table is not EMPTY_TABLE]


def _tables(store: Store) -> list[str]:
    faults = []
    if EMPTY_TABLE.small or EMPTY_TABLE.main or EMPTY_TABLE.graves:
        faults.append("the table that stands for empty ones was written to")
    for number, table in enumerate(store.tables):
        if table is EMPTY_TABLE:
            continue
        if table.number != number - number % store.sharing:
            faults.append(f"the table of partition {number} says {table.number}")
        if table.number != number:
            continue
        faults += _strangers(store, table)
        if not (table.small or table.main or table.graves):
            faults.append(f"partition {number} is empty but has a table")
        values = [*table.small, *table.main]
        if len(set(values).union(table.graves)) != len(values) + len(table.graves):
            faults.append(f"a key stands twice in partition {number}")
        if any(record[FLAGS] >= TOMBSTONE for home in (table.small, table.main) for record in home.values()):
            faults.append(f"a tombstone lies among the values of partition {number}")
        if any(record[FLAGS] < TOMBSTONE for record in table.graves.values()):
            faults.append(f"a value lies among the tombstones of partition {number}")
    return faults


def _strangers(store: Store, table: Table) -> list[str]:
    belongs = [
        store.sharers.partition_of is None or store.tables[store.sharers.partition_of(key)] is table
        for home in (table.small, table.main, table.graves)
        for key in home
    ]
    return [] if all(belongs) else [f"a key of another partition lies in the table of {table.number}"]


def _queues(store: Store) -> list[str]:
    small, main = store.policy.queues()
    faults = []
    for name, queue, expected in (
        ("small", small, Counter({table.number: len(table.small) for table in _open_tables(store)})),
        ("main", main, Counter({table.number: len(table.main) for table in _open_tables(store)})),
    ):
        counted = queue.recount()
        if +counted != +expected or any(count < 0 for count in counted.values()):
            wrong = [number for number in {*counted, *expected} if counted[number] != expected[number]]
            faults.append(f"the {name} queue disagrees with partitions {sorted(wrong)[:5]}")
        if queue.records != expected.total():
            faults.append(f"the {name} queue counts {queue.records} records, there are {expected.total()}")
    return faults


def _deadlines(store: Store) -> list[str]:
    tables = _open_tables(store)
    faults = [
        f"nothing tells that {key!r:.60} in partition {table.number} expires at {expiry_of(record)} ms"
        for table in tables
        for home in (table.small, table.main)
        for key, record in home.items()
        if expiry_of(record) != NEVER
        and not store.live.deadlines.covers(table.number // store.sharing, expiry_of(record))
    ]
    graves = {key: (table.number, key) for table in tables for key in table.graves}
    return faults + _wheel(store.graves.wheel, graves)


def _wheel(wheel: Wheel, expected: dict[bytes, tuple[int, bytes]]) -> list[str]:
    faults = []
    entries = list(wheel.entries())
    if len(entries) != len(wheel):
        faults.append(f"the tombstone wheel counts {len(wheel)} keys, there are {len(entries)}")
    if len(entries) != len(expected) or {key for key, _, _ in entries} != expected.keys():
        faults.append(f"the tombstone wheel holds {len(entries)} keys, {len(expected)} records have a time")
    for key, partition, in_place in entries:
        number, own = expected.get(key, (partition, key))
        if number != partition or not in_place:
            faults.append(f"the tombstone wheel has {key!r:.60} in a wrong bucket or partition")
        if own is not key:
            faults.append(f"the tombstone wheel holds its own copy of the key {key!r:.60}")
    return faults


def _bytes(store: Store) -> list[str]:
    tables = _open_tables(store)
    homes = [home for table in tables for home in (table.small, table.main)]
    values = sum(cost_of(key, record) for home in homes for key, record in home.items())
    empty, empty_graves = EMPTY_TABLE.small.__sizeof__(), EMPTY_TABLE.graves.__sizeof__()
    live = (
        values
        + len(store.tables) * 8
        + len(tables) * TABLE_BYTES
        + sum(home.__sizeof__() - empty for home in homes)
        + store.policy.cost()
        + store.live.deadlines.cost()
    )
    graves = (
        sum(entry_cost(key, grave) for table in tables for key, grave in table.graves.items())
        + sum(table.graves.__sizeof__() - empty_graves for table in tables)
        + store.graves.wheel.cost()
    )
    return [
        f"the ledger of {name} says {said} bytes, a recount {counted}"
        for name, said, counted in (
            ("live records", store.live.ledger.used, live),
            ("tombstones", store.graves.ledger.used, graves),
        )
        if said != counted
    ]


def _holding(store: Store) -> list[str]:
    faults = []
    if store.forget_ms > store.now_ms or (store.forget_ms < store.now_ms and not store.holds_tombstones):
        faults.append(f"tombstones are over up to {store.forget_ms} ms, it is {store.now_ms} ms")
    unknown = [number for number in store.thin_graves if not 0 <= number < len(store.tables)]
    if unknown:
        faults.append(f"tombstones were given up in {unknown[0]}, which is no partition")
    if store.statistics().tombstones_dropped == 0 and store.thin_graves:
        faults.append(f"{len(store.thin_graves)} partitions have given tombstones up, but none was counted")
    return faults


def _counters(store: Store) -> list[str]:
    facts = store.statistics()
    records = facts.created - facts.deletions - facts.expirations - facts.evictions - facts.dropped
    made, gone = facts.tombstones_made, facts.tombstones_superseded + facts.tombstones_forgotten
    graves = sum(len(table.graves) for table in _open_tables(store))
    faults = []
    if facts.records != records:
        faults.append(f"the counters of values add up to {records}, there are {facts.records}")
    if facts.tombstones != graves or graves != made - gone - facts.tombstones_dropped:
        faults.append(f"the counters of tombstones say {facts.tombstones}, there are {graves}")
    if facts.tombstone_bytes > facts.tombstone_budget_bytes and graves:
        faults.append(f"tombstones take {facts.tombstone_bytes} bytes of {facts.tombstone_budget_bytes}")
    return faults
