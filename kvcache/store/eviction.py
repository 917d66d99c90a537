"""Which record goes when memory is short: S3-FIFO.

Here lives the policy: two queues and a ghost. Never here: budgets, versions, expiry, or how uses are counted.

Yang et al., "FIFO queues are all you need for cache eviction" (SOSP 2023). A new record enters the *small* queue, a tenth
of all. One that was used often enough by the time it comes up there moves to the *main* queue; the others, most of them never
to be asked for again, leave early, and only a fingerprint stays in the *ghost*. A key that returns while its ghost is there
goes to the main queue at once. In the main queue a record takes another round and pays for it with its uses. A read only
counts, it moves nothing. The ghost is up to twice as long as the main queue, which measured better than equal.

Unlike theirs, the price depends on the size: in the place of one large record many small ones could be kept. On a trace of
values from 1 byte to some KiB that gains 0.05 to 0.15 points of hit ratio; where all are of one size the price is theirs.
"""

from __future__ import annotations

from typing import Final

from kvcache.store.fifo import Fifo
from kvcache.store.ghost import Ghost
from kvcache.store.sizes import Ledger
from kvcache.store.table import Table
from kvcache.store.uses import UseCounts

__all__ = ["S3Fifo"]

_SMALL_STEPS: Final = (0.75, 2.0)
_MAIN_STEPS: Final = (1.5, 3.0)
"""Up to which size, in mean records, one use is enough to stay, and up to which two are; in the small and in the main queue."""
_BESIDE_BYTES: Final = 190
"""What a record takes beyond its length, about."""
_MEAN_OF: Final = 1024
"""About how many of the records that came up last the mean is taken of."""
_SMALL_SHARE: Final = 10
_SMALL_FLOOR: Final = 10
"""Records that the small queue may always hold: with fewer a new key is gone before it can be used twice."""
_GHOST_RATIO: Final = 2
_GHOST_FLOOR: Final = 256
_TRIES: Final = 128
"""Records that may be spared before one must go: bounds the time of a put when everything was in use."""


class S3Fifo:
    """The eviction order of all live records in ``tables``. Reads tell ``uses`` of their hits."""

    __slots__ = ("_ghost", "_ledger", "_main", "_mean", "_small", "_tables", "uses")

    def __init__(self, tables: list[Table], ledger: Ledger) -> None:
        self._tables = tables
        self._ledger = ledger
        self._small = Fifo(len(tables), ledger)
        self._main = Fifo(len(tables), ledger)
        self._ghost: Ghost | None = None
        self._mean = 0.0  # what records take that came up lately
        self.uses = UseCounts(ledger)

    def admit(self, table: Table, key: bytes, record: bytes) -> None:
        """Insert a record whose key is in neither queue."""
        small, main, ghost = self._small, self._main, self._ghost
        if ghost is not None and ghost.remove(key, self._ghost_capacity()):
            self._enter_main(table, key, record)
        else:
            home = table.small
            home[key] = record
            small.push(table.number)
            size = home.__sizeof__()
            if size != table.small_size:
                self._ledger.used += table.tighten()
        if small.records + main.records > self.uses.room:
            self._grow()

    def remembers(self, key: bytes) -> bool:
        """Say whether there is a trace of the key having gone for want of memory."""
        return self._ghost is not None and self._ghost.holds(key)

    def _ghost_capacity(self) -> int:
        return max(_GHOST_FLOOR, _GHOST_RATIO * self._main.records)

    def discard(self, table: Table, key: bytes) -> bytes:
        """Take out a record that is in one of the queues, and return it."""
        home, queue = (table.main, self._main) if key in table.main else (table.small, self._small)
        record = home.pop(key)
        queue.spare(table.number)
        self.uses.take(key)
        return record

    def clear(self, table: Table) -> None:
        """Let go of all records of a table that is thrown away as a whole."""
        self._small.spare(table.number, len(table.small))
        self._main.spare(table.number, len(table.main))

    def evict(self) -> tuple[Table, bytes, bytes] | None:
        """Take out the record that goes first; return its table, its key and itself, or None when there is none."""
        small, main = self._small, self._main
        for tries_left in range(_TRIES, -1, -1):
            in_small, in_main = small.records, main.records
            if not in_main or (in_small > _SMALL_FLOOR and in_small * _SMALL_SHARE >= in_small + in_main):
                if not in_small:
                    return None
                victim = self._leave_small(not tries_left)
            else:
                victim = self._leave_main(not tries_left)
            if victim is not None:
                return victim
        return None

    def _leave_small(self, at_any_rate: bool) -> tuple[Table, bytes, bytes] | None:
        table = self._tables[self._small.pop()]
        key = next(iter(table.small))
        record = table.small.pop(key)
        if self.uses.take(key) >= self._price(record, _SMALL_STEPS) and not at_any_rate:
            self._enter_main(table, key, record)
            return None
        if self._ghost is None:
            self._ghost = Ghost(self.uses.room, self._ledger)
        self._ghost.add(key)
        return table, key, record

    def _leave_main(self, at_any_rate: bool) -> tuple[Table, bytes, bytes] | None:
        table = self._tables[self._main.pop()]
        key = next(iter(table.main))
        record = table.main.pop(key)
        if self.uses.spend(key, self._price(record, _MAIN_STEPS)) and not at_any_rate:
            self._enter_main(table, key, record)
            return None
        if self._ghost is not None:
            self._ghost.note(key, self._ghost_capacity())
        return table, key, record

    def _price(self, record: bytes, steps: tuple[float, float]) -> int:
        # How many uses a record must have had to stay: 1 to 3.
        size = len(record) + _BESIDE_BYTES
        mean = self._mean or size
        self._mean = mean + (size - mean) / _MEAN_OF
        return 1 if size < steps[0] * mean else 2 if size < steps[1] * mean else 3

    def _enter_main(self, table: Table, key: bytes, record: bytes) -> None:
        main = table.main
        main[key] = record
        self._main.push(table.number)
        size = main.__sizeof__()
        if size != table.main_size:
            self._ledger.used += table.tighten()

    def _grow(self) -> None:
        # The ghost keeps too few bits of a hash to grow, so it starts anew; once memory is full it hardly ever has to.
        self.uses.double()
        if self._ghost is not None:
            self._ledger.used -= self._ghost.cost()
            self._ghost = Ghost(self.uses.room, self._ledger)

    def queues(self) -> tuple[Fifo, Fifo]:
        """Return the small and the main queue; for ``audit``."""
        return self._small, self._main

    def cost(self) -> int:
        """Recount the bytes of queues, ghost and counters; for ``audit``."""
        ghost = self._ghost.cost() if self._ghost is not None else 0
        return self._small.cost() + self._main.cost() + ghost + self.uses.cost()

    def __len__(self) -> int:
        return self._small.records + self._main.records

    def __repr__(self) -> str:
        return f"<S3Fifo small={self._small.records} main={self._main.records} {self.uses!r} {self._ghost!r}>"
