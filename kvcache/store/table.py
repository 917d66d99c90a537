"""One partition's memory, or that of some neighbouring ones in a small store: rows from key to record.

Here lives the container and the bytes its rows take. Never here: which record is kept or thrown out.

Rows are nothing to the cyclic garbage collector, and they remember the order of insertion, which makes each of them the
first-in-first-out queue of its partition. 16384 small ones take less per record than one big one, and none ever stalls a
node while it grows.
"""

from __future__ import annotations

from typing import Final

from kvcache.store.rows import EMPTY_ROWS_BYTES, Shared, is_sparse, new_rows
from kvcache.store.sizes import DICT_BYTES, Ledger
from kvcache_client.protocol.record import NEVER

__all__ = ["EMPTY_TABLE", "TABLE_BYTES", "Table", "close_if_empty", "open_table"]


class Table:
    """The records of one partition. ``small`` and ``main`` hold live ones (see ``eviction``), ``graves`` tombstones.

    ``number`` is that of the partition, of the first one where several share a table.
    """

    __slots__ = ("graves", "graves_size", "main", "main_size", "number", "small", "small_size")

    def __init__(self, number: int, shared: Shared | None = None) -> None:
        self.number = number
        self.small = new_rows(shared)
        self.main = new_rows(shared)
        self.graves: dict[bytes, bytes] = {}
        self.small_size = self.main_size = self.small.__sizeof__()
        self.graves_size = _EMPTY_SIZE

    def find(self, key: bytes) -> bytes | None:
        """Return the record of ``key`` that is not a tombstone, expired or not."""
        return self.main.get(key) or self.small.get(key)

    def due(self, now6: bytes, most: int) -> list[bytes]:
        """Return keys of records that have expired by ``now6``, the time as six big-endian bytes; at most ``most``."""
        due = self.main.due(now6, most)
        return due + self.small.due(now6, most - len(due))

    def times(self, first_ms: int, end_ms: int) -> list[int]:
        """Return when records expire, from one time to before another, each time once; ``NEVER`` is no time."""
        end_ms = min(end_ms, NEVER)
        return list(self.main.times(first_ms, end_ms) | self.small.times(first_ms, end_ms))

    def measure(self) -> int:
        """Return by how many bytes the rows of live records have grown since they were last measured."""
        before = self.small_size + self.main_size
        self.small_size = self.small.__sizeof__()
        self.main_size = self.main.__sizeof__()
        return self.small_size + self.main_size - before

    def tighten(self) -> int:
        """Give back what rows that have just grown took in advance; return by how many bytes they grew in all."""
        if self.small.__sizeof__() > self.small_size:
            self.small.tighten()
        if self.main.__sizeof__() > self.main_size:
            self.main.tighten()
        return self.measure()

    def measure_graves(self) -> int:
        """Return by how many bytes the dict of tombstones has grown since it was last measured."""
        before = self.graves_size
        self.graves_size = self.graves.__sizeof__()
        return self.graves_size - before

    def shrink(self) -> int:
        """Give back the room of rows that are mostly empty; return by how many bytes they grew (at most 0).

        Callers come here when a length passes a power of two on its way down, so that the look costs next to nothing on
        average.
        """
        self.small.compact()
        self.main.compact()
        return self.measure()

    def shrink_graves(self) -> int:
        """Do the same for the dict of tombstones."""
        if is_sparse(self.graves):
            self.graves = dict(self.graves.items())  # entry by entry, as ``Rows`` does
        return self.measure_graves()

    def __repr__(self) -> str:
        return f"<Table {self.number} small={len(self.small)} main={len(self.main)} graves={len(self.graves)}>"


_EMPTY_SIZE: Final = {}.__sizeof__()
_SLOTS_BYTES: Final = 96
TABLE_BYTES: Final = _SLOTS_BYTES + 2 * EMPTY_ROWS_BYTES + _EMPTY_SIZE + DICT_BYTES
"""What an empty table takes."""

EMPTY_TABLE: Final = Table(-1)
"""Stands for every partition that holds nothing, so that a read needs no test for one. Never written to."""


def open_table(
    tables: list[Table], number: int, ledger: Ledger, sharing: int = 1, shared: Shared | None = None
) -> Table:
    """Return the table of a partition, a new one if it held nothing. ``sharing`` partitions have it together."""
    table = tables[number]
    if table is EMPTY_TABLE:
        first = number - number % sharing
        table = Table(first, shared)
        tables[first : first + sharing] = [table] * len(tables[first : first + sharing])
        ledger.used += TABLE_BYTES
    return table


def close_if_empty(tables: list[Table], table: Table, ledger: Ledger, sharing: int = 1) -> None:
    """Let a table go that holds nothing any more. Its dicts must have been shrunk."""
    first = table.number
    if not (table.small or table.main or table.graves) and tables[first] is table:
        tables[first : first + sharing] = [EMPTY_TABLE] * len(tables[first : first + sharing])
        ledger.used -= TABLE_BYTES
