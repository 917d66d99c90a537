"""Tombstones: what keeps deleted and expired values from coming back.

Here lives their keeping within a budget of their own. Never here: live records, or who beats whom.

A tombstone is forgotten when its own time is over. When the budget is full, those that would be forgotten soonest go first and
are counted and their partitions noted, since from then on an old version of their key could return; live records never push
one out.
"""

from __future__ import annotations

from collections.abc import Callable

from kvcache.store.expiry import Wheel
from kvcache.store.rows import Shared
from kvcache.store.sizes import Ledger, entry_cost
from kvcache.store.table import Table, close_if_empty, open_table
from kvcache_client.protocol.record import expiry_of

__all__ = ["Graves"]

_DROP_AT_ONCE = 64


class Graves:
    """The tombstones of all partitions; they lie in ``Table.graves``, their bytes are in ``ledger``."""

    __slots__ = (
        "_partition_of",
        "_shared",
        "_sharing",
        "_tables",
        "_tables_ledger",
        "budget_bytes",
        "count",
        "dropped",
        "forgotten",
        "ledger",
        "made",
        "superseded",
        "thin",
        "wheel",
    )

    def __init__(
        self,
        tables: list[Table],
        tables_ledger: Ledger,
        now_ms: int,
        budget_bytes: int,
        sharing: int = 1,
        partition_of: Callable[[bytes], int] | None = None,
        shared: Shared | None = None,
    ) -> None:
        self._tables = tables
        self._shared = shared
        self._sharing = sharing
        self._partition_of = partition_of
        self._tables_ledger = tables_ledger
        self.ledger = Ledger()
        self.wheel = Wheel(now_ms, self.ledger, self._forget_ms)
        self.budget_bytes = budget_bytes
        self.thin: set[int] = set()
        """Partitions of tombstones that were dropped; the reader takes out what it has dealt with."""
        self.count = 0
        self.made = self.superseded = self.forgotten = self.dropped = 0

    def keep(self, partition: int, key: bytes, grave: bytes) -> None:
        """Keep a tombstone of a key that has none; then hold the budget.

        The time to forget it must lie ahead.
        """
        table = open_table(self._tables, partition, self._tables_ledger, self._sharing, self._shared)
        table.graves[key] = grave
        self.wheel.add(key, table.number, expiry_of(grave))
        self.ledger.used += entry_cost(key, grave) + table.measure_graves()
        self.count += 1
        self.made += 1
        self.hold_budget()

    def hold_budget(self) -> None:
        """Drop those that would be forgotten soonest until the rest fits."""
        while self.ledger.used > self.budget_bytes and self.count:
            for oldest, number in self.wheel.soonest(_DROP_AT_ONCE):
                self.remove(self._tables[number], oldest)
                self.dropped += 1
                self.thin.add(self._partition_of(oldest) if self._partition_of else number)

    def supersede(self, table: Table, key: bytes) -> None:
        """Remove the tombstone of a key because of a newer version, or because it is no longer wanted."""
        self.remove(table, key)
        self.superseded += 1

    def forget_due(self, now_ms: int, limit: int) -> int:
        """Remove up to ``limit`` tombstones whose time is over; return how many."""
        due = self.wheel.take_due(now_ms, limit)
        for key, number in due:
            table = self._tables[number]
            self._unlink(table, key, table.graves[key])
        self.forgotten += len(due)
        self.hold_budget()  # keys that were dealt out to narrower buckets may take more there
        return len(due)

    def clear(self, table: Table) -> None:
        """Remove all tombstones of a table."""
        for key, grave in table.graves.items():
            self.wheel.discard(key, table.number, expiry_of(grave))
            self.ledger.used -= entry_cost(key, grave)
        self.count -= len(table.graves)
        self.superseded += len(table.graves)
        table.graves.clear()
        self.ledger.used += table.measure_graves()
        close_if_empty(self._tables, table, self._tables_ledger, self._sharing)

    def remove(self, table: Table, key: bytes) -> None:
        """Remove the tombstone of a key; the caller counts why."""
        grave = table.graves[key]
        self.wheel.discard(key, table.number, expiry_of(grave))
        self._unlink(table, key, grave)

    def _unlink(self, table: Table, key: bytes, grave: bytes) -> None:
        del table.graves[key]
        self.ledger.used -= entry_cost(key, grave)
        self.count -= 1
        left = len(table.graves)
        if not left & (left - 1):
            self.ledger.used += table.shrink_graves()
            if not left:
                close_if_empty(self._tables, table, self._tables_ledger, self._sharing)

    def _forget_ms(self, key: bytes, partition: int) -> int:
        return expiry_of(self._tables[partition].graves[key])

    def __len__(self) -> int:
        return self.count

    def __repr__(self) -> str:
        return f"<Graves {self.count} using {self.ledger.used}/{self.budget_bytes} B dropped={self.dropped}>"
