"""A memory of keys that were thrown out, without the keys.

Here lives the ghost queue of S3-FIFO. Never here: the policy that asks it.

A first-in-first-out queue of fingerprints, kept as a table: two slots to a bucket, each slot 16 bits of a hash and 16 bits of
the time it came, counted in keys added. An entry is too old when more keys came since than the queue may hold, so nothing
need be moved to drop it; a full bucket loses its older one, at most one live entry in six. The hash is the process's own,
so a test that must repeat exactly fixes ``PYTHONHASHSEED``.
"""

from __future__ import annotations

from array import array
from typing import Final

from kvcache.store.sizes import Ledger

__all__ = ["Ghost"]

_SLOT_BYTES: Final = 4
_OLDEST: Final = 0x8000
_STAMP_BITS: Final = 13  # a stamp comes round after four times as many keys as there are slots, or more


class Ghost:
    """Fingerprints of keys added lately; one stranger in 32000 is mistaken for one. ``slots`` is even."""

    __slots__ = ("_added", "_buckets", "_shift", "_slots")

    def __init__(self, slots: int, ledger: Ledger) -> None:
        self._slots = array("I", bytes(slots * _SLOT_BYTES))
        self._buckets = slots // 2
        self._shift = max(0, slots.bit_length() - 1 - _STAMP_BITS)
        self._added = 0
        ledger.used += self.cost()

    def add(self, key: bytes) -> None:
        """Remember ``key``, in the place of the older one of its bucket."""
        digest = hash(key)
        place = digest % self._buckets * 2
        slots = self._slots
        self._added += 1
        now = self._added >> self._shift
        first, second = slots[place], slots[place + 1]
        if first and (not second or (now - second & 0xFFFF) > (now - first & 0xFFFF)):
            place += 1
        slots[place] = (digest >> 40 & 0xFFFF or 1) << 16 | now & 0xFFFF

    def remove(self, key: bytes, capacity: int) -> bool:
        """Say whether ``key`` is among the last ``capacity`` keys added, and forget it."""
        place = self._place(key)
        if place < 0:
            return False
        slot = self._slots[place]
        self._slots[place] = 0
        return self._is_recent(slot, capacity)

    def note(self, key: bytes, capacity: int) -> None:
        """Remember ``key`` for ``holds`` alone, if that costs none of the last ``capacity`` keys added its slot."""
        digest = hash(key)
        place = digest % self._buckets * 2
        for at in (place, place + 1):
            if not self._slots[at] or not self._is_recent(self._slots[at], capacity):
                # A stamp as old as one can be: nothing that is asked of ``remove``, and the first to make way.
                stamp = (self._added >> self._shift) - _OLDEST & 0xFFFF
                self._slots[at] = (digest >> 40 & 0xFFFF or 1) << 16 | stamp
                return

    def holds(self, key: bytes) -> bool:
        """Say whether ``key`` was added or noted, as far back as there are traces."""
        return self._place(key) >= 0

    def _place(self, key: bytes) -> int:
        digest = hash(key)
        place = digest % self._buckets * 2
        fingerprint = digest >> 40 & 0xFFFF or 1  # from the other end than the place; 0 marks an empty slot
        if self._slots[place] >> 16 == fingerprint:
            return place
        return place + 1 if self._slots[place + 1] >> 16 == fingerprint else -1

    def _is_recent(self, slot: int, capacity: int) -> bool:
        return ((self._added >> self._shift) - slot & 0xFFFF) <= capacity >> self._shift

    @property
    def is_new(self) -> bool:
        """Whether nothing was added yet."""
        return not self._added

    @property
    def slots(self) -> int:
        """How many fingerprints there is room for."""
        return len(self._slots)

    def cost(self) -> int:
        """Return the bytes that the table takes."""
        return len(self._slots) * _SLOT_BYTES

    def __repr__(self) -> str:
        return f"<Ghost slots={len(self._slots)} added={self._added}>"
