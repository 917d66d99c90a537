"""One partition's memory, or that of some neighbouring ones in a small store: plain dicts from key to record.

Here lives the container and the bytes its dicts take. Never here: which record is kept or thrown out.

Dicts of ``bytes`` are nothing to the cyclic garbage collector, and they remember the order of insertion, which makes each
of them the first-in-first-out queue of its partition. 16384 small dicts take less per record than one big one, and
none ever stalls a node while it grows.
"""

from __future__ import annotations

from typing import Final

from kvcache.store.sizes import DICT_BYTES, Ledger
from kvcache_client.protocol.record import NEVER

__all__ = ["EMPTY_TABLE", "TABLE_BYTES", "Table", "close_if_empty", "open_table"]


class Table:
    """The records of one partition. ``small`` and ``main`` hold live ones (see ``eviction``), ``graves`` tombstones.

    ``number`` is that of the partition, of the first one where several share a table.
    """

    __slots__ = ("graves", "graves_size", "main", "main_size", "number", "small", "small_size")

    def __init__(self, number: int) -> None:
        self.number = number
        self.small: dict[bytes, bytes] = {}
        self.main: dict[bytes, bytes] = {}
        self.graves: dict[bytes, bytes] = {}
        self.small_size = self.main_size = self.graves_size = _EMPTY_SIZE

    def find(self, key: bytes) -> bytes | None:
        """Return the record of ``key`` that is not a tombstone, expired or not."""
        return self.main.get(key) or self.small.get(key)

    def due(self, now6: bytes, most: int) -> list[bytes]:
        """Return keys of records that have expired by ``now6``, the time as six big-endian bytes; at most ``most``."""
        homes = (self.main, self.small)
        return [key for home in homes for key, record in home.items() if record[8:14] <= now6][:most]

    def times(self, first_ms: int, end_ms: int) -> list[int]:
        """Return when records expire, from one time to before another, each time once; ``NEVER`` is no time."""
        first, end = first_ms.to_bytes(6, "big"), min(end_ms, NEVER).to_bytes(6, "big")
        homes = (self.main, self.small)
        expiries = {at for home in homes for record in home.values() if first <= (at := record[8:14]) < end}
        return list(map(int.from_bytes, expiries))

    def measure(self) -> int:
        """Return by how many bytes the dicts of live records have grown since they were last measured."""
        before = self.small_size + self.main_size
        self.small_size = self.small.__sizeof__()
        self.main_size = self.main.__sizeof__()
        return self.small_size + self.main_size - before

    def tighten(self) -> int:
        """Build dicts of live records anew that have just grown; return by how many bytes they grew in all.

        A dict that is full makes itself three times as large as it need be, to grow on. One of a steady length, whose records
        come and go, does so again and again and is never half full.
        """
        if self.small.__sizeof__() > self.small_size:
            self.small = _tight(self.small)
        if self.main.__sizeof__() > self.main_size:
            self.main = _tight(self.main)
        return self.measure()

    def measure_graves(self) -> int:
        """Return by how many bytes the dict of tombstones has grown since it was last measured."""
        before = self.graves_size
        self.graves_size = self.graves.__sizeof__()
        return self.graves_size - before

    def shrink(self) -> int:
        """Give back the room of dicts of live records that are mostly empty; return by how many bytes they grew (at most 0).

        A dict never shrinks on removal. Callers come here when a length passes a power of two on its way down, so that the
        look costs next to nothing on average.
        """
        self.small = _compact(self.small)
        self.main = _compact(self.main)
        return self.measure()

    def shrink_graves(self) -> int:
        """Do the same for the dict of tombstones."""
        self.graves = _compact(self.graves)
        return self.measure_graves()

    def __repr__(self) -> str:
        return f"<Table {self.number} small={len(self.small)} main={len(self.main)} graves={len(self.graves)}>"


def _compact(table: dict[bytes, bytes]) -> dict[bytes, bytes]:
    if table.__sizeof__() <= _SPARSE_FLOOR + _SPARSE_BYTES * len(table):
        return table
    return dict(table.items())  # entry by entry: a copy of a dict with holes is larger than it need be


def _tight(table: dict[bytes, bytes]) -> dict[bytes, bytes]:
    length = len(table)
    room = (1 << (3 * length // 2).bit_length()) * 2 // 3  # of a dict that is built from another one
    if room - length < length >> 3:  # full again at once
        return table
    return {**table}


_EMPTY_SIZE: Final = {}.__sizeof__()
_SPARSE_BYTES: Final = 120  # a full dict takes 26 to 60 bytes per entry
_SPARSE_FLOOR: Final = _EMPTY_SIZE + 8

_SLOTS_BYTES: Final = 96
TABLE_BYTES: Final = _SLOTS_BYTES + 3 * (_EMPTY_SIZE + DICT_BYTES)
"""What an empty table takes."""

EMPTY_TABLE: Final = Table(-1)
"""Stands for every partition that holds nothing, so that a read needs no test for one. Never written to."""


def open_table(tables: list[Table], number: int, ledger: Ledger, sharing: int = 1) -> Table:
    """Return the table of a partition, a new one if it held nothing. ``sharing`` partitions have it together."""
    table = tables[number]
    if table is EMPTY_TABLE:
        first = number - number % sharing
        table = Table(first)
        tables[first : first + sharing] = [table] * len(tables[first : first + sharing])
        ledger.used += TABLE_BYTES
    return table


def close_if_empty(tables: list[Table], table: Table, ledger: Ledger, sharing: int = 1) -> None:
    """Let a table go that holds nothing any more. Its dicts must have been shrunk."""
    first = table.number
    if not (table.small or table.main or table.graves) and tables[first] is table:
        tables[first : first + sharing] = [EMPTY_TABLE] * len(tables[first : first + sharing])
        ledger.used -= TABLE_BYTES
