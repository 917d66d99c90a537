"""Rows: records by their keys, in the order of arrival; what a table keeps its live records in.

Here lives what rows can do, in Python, and the choice of the compiled form where there is one (``kvcache.compiled``). Never
here: which record is kept or thrown out.

In Python rows are a dict. In C each record is one block of memory, and ten bytes stand beside it: it takes some 50 bytes beyond
key and value there, some 160 here. What comes out of compiled rows is a copy, which for small records is as quick.

Rows also know how often each record was used, up to ``MAX_USES``: compiled ones exactly, plain ones by the table of counters that
they are given, which all rows of a store share.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias, cast

from kvcache.compiled import native
from kvcache.store.sizes import DICT_BYTES, Ledger, entry_cost
from kvcache.store.uses import UseCounts
from kvcache_client.protocol.record import EXPIRY, expiry_of

__all__ = ["EMPTY_ROWS_BYTES", "RECORD_BYTES", "Rows", "Shared", "cost_of", "is_sparse", "new_rows", "new_shared"]

_SPARSE_BYTES: Final = 120  # a full dict takes 26 to 60 bytes per entry
_SPARSE_FLOOR: Final = {}.__sizeof__() + 8


def is_sparse(table: dict[bytes, bytes]) -> bool:
    """Say whether most of the room of a dict is unused: it never shrinks on removal."""
    return table.__sizeof__() > _SPARSE_FLOOR + _SPARSE_BYTES * len(table)


Shared: TypeAlias = UseCounts | Any
"""What all rows of a store have in common."""


class Rows(dict[bytes, bytes]):
    """Key -> record. ``uses`` counts for all rows of a store."""

    __slots__ = ("_uses",)

    def __init__(self, uses: UseCounts) -> None:
        super().__init__()
        self._uses = uses

    def read(self, key: bytes) -> bytes | None:
        """Return the record of a key, or None; count a use."""
        record = self.get(key)
        if record is not None:
            self._uses.hit(key)
        return record

    def uses_of(self, key: bytes) -> int:
        """Return how often the record of a key was used; 0 if there is none."""
        return self._uses.of(key) if key in self else 0

    def append(self, key: bytes, record: bytes, uses: int) -> None:
        """Keep the record of a key that has none behind all others, as one that was used so often."""
        if key in self:
            raise KeyError(f"{key!r:.60} is there already")
        self[key] = record
        self._uses.give(key, uses)

    def pop_oldest(self) -> tuple[bytes, bytes, int]:
        """Take out what came first; return its key, its record and its uses. Raises ``KeyError`` if nothing is left."""
        for key in self:
            return key, super().pop(key), self._uses.take(key)
        raise KeyError("no record is left")

    def pop(self, key: bytes) -> bytes:  # type: ignore[override]
        """Take out and return the record of a key. Raises ``KeyError``."""
        record = super().pop(key)
        self._uses.take(key)
        return record

    def due(self, now6: bytes, most: int) -> list[bytes]:
        """Return up to ``most`` keys whose records expire at ``now6``, six big-endian bytes, or before."""
        due: list[bytes] = []
        for key, record in self.items():
            if len(due) >= most:
                break
            if record[EXPIRY] <= now6:
                due.append(key)
        return due

    def times(self, first_ms: int, end_ms: int) -> set[int]:
        """Return at which times from ``first_ms`` on and before ``end_ms`` records expire."""
        return {time for record in self.values() if first_ms <= (time := expiry_of(record)) < end_ms}

    def tighten(self) -> None:
        """Give back the room that growing has just taken in advance.

        A dict that is full makes itself three times as large as it need be, to grow on. One of a steady length, whose records
        come and go, does so again and again and is never half full.
        """
        length = len(self)
        room = (1 << (3 * length // 2).bit_length()) * 2 // 3  # of a dict that is built from another one
        if room - length >= length >> 3:  # else it would be full again at once
            self._rebuild()

    def compact(self) -> None:
        """Give back room if most of it is unused."""
        if is_sparse(self):
            self._rebuild()

    def _rebuild(self) -> None:
        entries = dict(self.items())  # entry by entry: a copy of a dict with holes is larger than it need be
        self.clear()
        self.update(entries)

    @staticmethod
    def cost_of(key: bytes, record: bytes) -> int:
        """Return what a record and its key take, in bytes, without the structures around them."""
        return entry_cost(key, record)


def new_shared(ledger: Ledger) -> Shared:
    """Return what all rows of a store share: the memory of compiled records, the counters of plain ones."""
    shared: Shared = UseCounts(ledger) if native is None else native.Arena()
    return shared


def new_rows(shared: Shared | None) -> Rows:
    """Return empty rows in the form that this process uses; without ``shared`` they are on their own."""
    if native is None:
        return Rows(shared if isinstance(shared, UseCounts) else UseCounts(Ledger()))
    return cast("Rows", native.Rows(native.Arena() if shared is None else shared))


cost_of: Final = Rows.cost_of if native is None else cast("type[Rows]", native.Rows).cost_of

EMPTY_ROWS_BYTES: Final = (
    DICT_BYTES + Rows(UseCounts(Ledger())).__sizeof__() if native is None else native.Rows(native.Arena()).__sizeof__()
)
"""What rows take before the first record comes."""

RECORD_BYTES: Final = 190 if native is None else 60
"""What a record takes beyond its own length, about, with all that is around it."""
