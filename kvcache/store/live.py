"""Live records: in their table, in the eviction order, in the timer wheel and in the ledger, all or none.

Here lives every change to a value that is kept. Never here: versions and tombstones, or when a change is due.
"""

from __future__ import annotations

from typing import Final

from kvcache.store.eviction import S3Fifo
from kvcache.store.expiry import Wheel
from kvcache.store.sizes import Ledger, bytes_cost, entry_cost
from kvcache.store.table import Table, close_if_empty, open_table
from kvcache_client.protocol.record import NEVER, expiry_of

__all__ = ["LiveRecords"]

_NEVER6: Final = NEVER.to_bytes(6, "big")


class LiveRecords:
    """The values of all partitions, expired or not. ``policy`` orders them, ``wheel`` times them, ``ledger`` counts bytes."""

    __slots__ = ("_sharing", "_tables", "ledger", "policy", "wheel")

    def __init__(self, tables: list[Table], ledger: Ledger, now_ms: int, sharing: int = 1) -> None:
        self._tables = tables
        self._sharing = sharing
        self.ledger = ledger
        self.policy = S3Fifo(tables, ledger)
        self.wheel = Wheel(now_ms, ledger, self._expiry_ms)

    def insert(self, partition: int, key: bytes, record: bytes) -> int:
        """Keep the record of a key that has none; return what it takes without the structures around it."""
        table = open_table(self._tables, partition, self.ledger, self._sharing)
        self.policy.admit(table, key, record)
        if record[8:14] != _NEVER6:
            self.wheel.add(key, table.number, expiry_of(record))
        cost = entry_cost(key, record)
        self.ledger.used += cost
        return cost

    def replace(self, table: Table, key: bytes, old: bytes, record: bytes) -> None:
        """Keep another record of a key that has one."""
        before, after = expiry_of(old), expiry_of(record)
        same_bucket = before >> self.wheel.bucket_bits == after >> self.wheel.bucket_bits and before != NEVER
        if same_bucket or after == NEVER:
            home = table.main if key in table.main else table.small
            home[key] = record
            if before != NEVER == after:
                self.wheel.discard(key, table.number, before)
        else:
            # The key object moves with the record, so that table and wheel share one, as the ledger has it.
            if before != NEVER:
                self.wheel.discard(key, table.number, before)
            self.policy.renew(table, key, record)
            self.wheel.add(key, table.number, after)
        self.ledger.used += bytes_cost(len(record)) - bytes_cost(len(old))

    def take(self, table: Table, key: bytes) -> bytes:
        """Remove and return the record of a key that has one."""
        record = self.policy.discard(table, key)
        if record[8:14] != _NEVER6:
            self.wheel.discard(key, table.number, expiry_of(record))
        self._release(table, key, record)
        return record

    def evict(self) -> tuple[int, bytes, bytes] | None:
        """Remove the record that goes first; return partition, key and record, or None when there is none."""
        victim = self.policy.evict()
        if victim is None:
            return None
        table, key, record = victim
        if record[8:14] != _NEVER6:
            self.wheel.discard(key, table.number, expiry_of(record))
        self._release(table, key, record)
        return table.number, key, record

    def take_due(self, now_ms: int, limit: int) -> list[tuple[int, bytes, bytes]]:
        """Remove and return up to ``limit`` records whose time is over, each with its partition and key."""
        due = []
        for key, partition in self.wheel.take_due(now_ms, limit):
            table = self._tables[partition]
            record = self.policy.discard(table, key)
            self._release(table, key, record)
            due.append((partition, key, record))
        return due

    def clear(self, table: Table) -> int:
        """Remove all records of a table; return how many."""
        self.policy.clear(table)
        count = len(table.main) + len(table.small)
        for home in (table.main, table.small):
            for key, record in home.items():
                self.ledger.used -= entry_cost(key, record)
                if record[8:14] != _NEVER6:
                    self.wheel.discard(key, table.number, expiry_of(record))
            home.clear()
        self.ledger.used += table.measure()
        close_if_empty(self._tables, table, self.ledger, self._sharing)
        return count

    def _release(self, table: Table, key: bytes, record: bytes) -> None:
        ledger = self.ledger
        ledger.used -= entry_cost(key, record)
        left = len(table.small) + len(table.main)
        if not left & (left - 1):
            ledger.used += table.shrink()
            if not left:
                close_if_empty(self._tables, table, ledger, self._sharing)

    def _expiry_ms(self, key: bytes, partition: int) -> int:
        record = self._tables[partition].find(key)
        if record is None:
            raise LookupError(f"key {key!r:.60} is in the wheel, but partition {partition} does not hold it")
        return expiry_of(record)

    def __len__(self) -> int:
        return len(self.policy)

    def __repr__(self) -> str:
        return f"<LiveRecords {len(self)} using {self.ledger.used} B, {len(self.wheel)} timed>"
