"""Live records: in their table, in the eviction order, in the timer wheel of tables and in the ledger, all or none.

Here lives every change to a value that is kept. Never here: versions and tombstones, or when a change is due.
"""

from __future__ import annotations

from typing import Final

from kvcache.store.deadlines import Deadlines
from kvcache.store.eviction import S3Fifo
from kvcache.store.rows import cost_of
from kvcache.store.sizes import Ledger
from kvcache.store.table import Table, close_if_empty, open_table
from kvcache_client.protocol.record import NEVER, expiry_of

__all__ = ["LiveRecords"]

_NEVER6: Final = NEVER.to_bytes(6, "big")
_LOOKS_PER_WORK: Final = 16  # so many records are looked at as fast as one is removed


class LiveRecords:
    """The values of all partitions, expired or not.

    ``policy`` orders them, ``deadlines`` knows where some are due, ``ledger`` counts bytes.
    """

    __slots__ = ("_sharing", "_tables", "deadlines", "ledger", "policy")

    def __init__(self, tables: list[Table], ledger: Ledger, now_ms: int, sharing: int = 1) -> None:
        self._tables = tables
        self._sharing = sharing
        self.ledger = ledger
        self.policy = S3Fifo(tables, ledger)
        self.deadlines = Deadlines(-(-len(tables) // sharing), now_ms, ledger)

    def insert(self, partition: int, key: bytes, record: bytes) -> int:
        """Keep the record of a key that has none; return what it takes without the structures around it."""
        table = open_table(self._tables, partition, self.ledger, self._sharing, self.policy.shared)
        self.policy.admit(table, key, record)
        if record[8:14] != _NEVER6:
            self.expires(table.number, expiry_of(record))
        cost = cost_of(key, record)
        self.ledger.used += cost
        return cost

    def replace(self, table: Table, key: bytes, old: bytes, record: bytes) -> None:
        """Keep another record of a key that has one."""
        home = table.main if key in table.main else table.small
        home[key] = record
        if record[8:14] != _NEVER6:
            self.expires(table.number, expiry_of(record))
        self.ledger.used += cost_of(key, record) - cost_of(key, old)

    def expires(self, partition: int, expiry_ms: int) -> None:
        """Have the table of a partition be looked at when a record of it expires; one time too many does no harm."""
        if expiry_ms != NEVER:
            self.deadlines.add(partition // self._sharing, expiry_ms)

    def take(self, table: Table, key: bytes) -> bytes:
        """Remove and return the record of a key that has one."""
        record = self.policy.discard(table, key)
        self._release(table, key, record)
        return record

    def evict(self) -> tuple[int, bytes, bytes] | None:
        """Remove the record that goes first; return partition, key and record, or None when there is none."""
        victim = self.policy.evict()
        if victim is None:
            return None
        table, key, record = victim
        self._release(table, key, record)
        return table.number, key, record

    def take_due(self, now_ms: int, limit: int) -> list[tuple[int, bytes, bytes]]:
        """Remove and return up to ``limit`` records whose time is over, each with its partition and key."""
        due: list[tuple[int, bytes, bytes]] = []
        now6 = now_ms.to_bytes(6, "big")

        def reap(ordinal: int, most: int) -> tuple[int, bool]:
            table = self._tables[ordinal * self._sharing]
            work = _work_of_a_look(table)
            keys = table.due(now6, most)
            for key in keys:
                record = self.policy.discard(table, key)
                self._release(table, key, record)
                due.append((table.number, key, record))
            return max(work, len(keys)), len(keys) == most

        self.deadlines.work_off(now_ms, limit, reap, self._times)
        return due

    def _times(self, ordinal: int, first_ms: int, end_ms: int) -> tuple[int, list[int]]:
        table = self._tables[ordinal * self._sharing]
        return _work_of_a_look(table), table.times(first_ms, end_ms)

    def clear(self, table: Table) -> int:
        """Remove all records of a table; return how many."""
        self.policy.clear(table)
        count = len(table.main) + len(table.small)
        for home in (table.main, table.small):
            self.ledger.used -= sum(cost_of(key, record) for key, record in home.items())
            home.clear()
        self.ledger.used += table.measure()
        self._close(table)
        return count

    def _release(self, table: Table, key: bytes, record: bytes) -> None:
        ledger = self.ledger
        ledger.used -= cost_of(key, record)
        left = len(table.small) + len(table.main)
        if not left & (left - 1):
            ledger.used += table.shrink()
            if not left:
                self._close(table)

    def _close(self, table: Table) -> None:
        close_if_empty(self._tables, table, self.ledger, self._sharing)
        if not self.policy:
            self.deadlines.clear()
            self.policy.settle()

    def __len__(self) -> int:
        return len(self.policy)

    def __repr__(self) -> str:
        return f"<LiveRecords {len(self)} using {self.ledger.used} B {self.deadlines!r}>"


def _work_of_a_look(table: Table) -> int:
    return 1 + (len(table.small) + len(table.main)) // _LOOKS_PER_WORK
