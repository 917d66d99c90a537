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
from kvcache.store.rows import RECORD_BYTES, Shared, new_shared
from kvcache.store.sizes import Ledger
from kvcache.store.table import Table
from kvcache.store.uses import UseCounts

__all__ = ["S3Fifo"]

_SMALL_STEPS: Final = (0.75, 2.0)
_MAIN_STEPS: Final = (1.5, 3.0)
"""Up to which size, in mean records, one use is enough to stay, and up to which two are; in the small and in the main queue."""
_MEAN_OF: Final = 1024
"""About how many of the records that came up last the mean is taken of."""
_SMALL_SHARE: Final = 10
_SMALL_FLOOR: Final = 10
"""Records that the small queue may always hold: with fewer a new key is gone before it can be used twice."""
_GHOST_RATIO: Final = 2
_GHOST_FLOOR: Final = 256
_GHOST_CROWD: Final = 2
"""So many records to each of its slots are too many."""
_SETTLE_EVERY: Final = 64
"""After how many new records what they share is looked at."""
_TRIES: Final = 128
"""Records that may be spared before one must go: bounds the time of a put when everything was in use."""


class S3Fifo:
    """The eviction order of all live records in ``tables``. ``shared`` is what their rows have in common."""

    __slots__ = ("_beside", "_ghost", "_ledger", "_main", "_mean", "_small", "_tables", "shared")

    def __init__(self, tables: list[Table], ledger: Ledger) -> None:
        self._tables = tables
        self._ledger = ledger
        self._small = Fifo(len(tables), ledger)
        self._main = Fifo(len(tables), ledger)
        self._ghost = Ghost(_GHOST_FLOOR, ledger)
        self._mean = 0.0  # what records take that came up lately
        self.shared: Shared = new_shared(ledger)
        self._beside = 0  # what compiled records take beside themselves, as the ledger has it

    def admit(self, table: Table, key: bytes, record: bytes) -> None:
        """Insert a record whose key is in neither queue."""
        small, main, ghost = self._small, self._main, self._ghost
        records = small.records + main.records
        if records > ghost.slots and (records > _GHOST_CROWD * ghost.slots or ghost.is_new):
            ghost = self._renew_ghost(records)
        if ghost.remove(key, self._ghost_capacity()):
            self._enter_main(table, key, record, 0)
        else:
            home = table.small
            home[key] = record
            small.push(table.number)
            size = home.__sizeof__()
            if size != table.small_size:
                self._ledger.used += table.tighten()
        if not records % _SETTLE_EVERY:
            self.settle()

    def settle(self) -> None:
        """Look after what all records share: counters must grow with them, compiled records take some memory beside theirs."""
        shared, records = self.shared, len(self)
        if not isinstance(shared, UseCounts):
            self._ledger.used += shared.allowance - self._beside
            self._beside = shared.allowance
        elif records + _SETTLE_EVERY > shared.room:
            shared.double()
        if not records and self._ghost.is_new:
            self._renew_ghost(0)

    def remembers(self, key: bytes) -> bool:
        """Say whether there is a trace of the key having gone for want of memory."""
        return self._ghost.holds(key)

    def _ghost_capacity(self) -> int:
        return max(_GHOST_FLOOR, _GHOST_RATIO * self._main.records)

    def discard(self, table: Table, key: bytes) -> bytes:
        """Take out a record that is in one of the queues, and return it."""
        home, queue = (table.main, self._main) if key in table.main else (table.small, self._small)
        record = home.pop(key)
        queue.spare(table.number)
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
        key, record, uses = table.small.pop_oldest()
        if uses >= self._price(record, _SMALL_STEPS) and not at_any_rate:
            self._enter_main(table, key, record, 0)
            return None
        self._ghost.add(key)
        return table, key, record

    def _leave_main(self, at_any_rate: bool) -> tuple[Table, bytes, bytes] | None:
        table = self._tables[self._main.pop()]
        key, record, uses = table.main.pop_oldest()
        left = uses - self._price(record, _MAIN_STEPS)
        if left >= 0 and not at_any_rate:
            self._enter_main(table, key, record, left)
            return None
        self._ghost.note(key, self._ghost_capacity())
        return table, key, record

    def _price(self, record: bytes, steps: tuple[float, float]) -> int:
        # How many uses a record must have had to stay: 1 to 3.
        size = len(record) + RECORD_BYTES
        mean = self._mean or size
        self._mean = mean + (size - mean) / _MEAN_OF
        return 1 if size < steps[0] * mean else 2 if size < steps[1] * mean else 3

    def _enter_main(self, table: Table, key: bytes, record: bytes, uses: int) -> None:
        main = table.main
        main.append(key, record, uses)
        self._main.push(table.number)
        size = main.__sizeof__()
        if size != table.main_size:
            self._ledger.used += table.tighten()

    def _renew_ghost(self, records: int) -> Ghost:
        # What it remembers is lost. So it grows while memory fills, when it remembers nothing, and hardly ever afterwards.
        self._ledger.used -= self._ghost.cost()
        self._ghost = Ghost(max(_GHOST_FLOOR, 4 * (records * 3 // 8)), self._ledger)
        return self._ghost

    def queues(self) -> tuple[Fifo, Fifo]:
        """Return the small and the main queue; for ``audit``."""
        return self._small, self._main

    def cost(self) -> int:
        """Recount the bytes of queues, ghost and counters; for ``audit``."""
        shared = self.shared.cost() if isinstance(self.shared, UseCounts) else self._beside
        return self._small.cost() + self._main.cost() + self._ghost.cost() + shared

    def __len__(self) -> int:
        return self._small.records + self._main.records

    def __repr__(self) -> str:
        return f"<S3Fifo small={self._small.records} main={self._main.records} {self._ghost!r}>"
