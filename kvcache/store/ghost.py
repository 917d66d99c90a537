"""A memory of keys that were thrown out, without the keys.

Here lives the ghost queue of S3-FIFO. Never here: the policy that asks it.

A first-in-first-out queue of fingerprints, kept as a table: four slots to a bucket, each slot 16 bits of a hash and 16 bits
of the time it came, counted in keys added. An entry is too old when more keys came since than the queue may hold, so nothing
need be moved to drop it; a full bucket loses its oldest: of a table three quarters full, one live entry in nine. Buckets of
two would lose one in five, which was 0.05 points of hit ratio on a real trace. The hash is the process's own, so a test that
must repeat exactly fixes ``PYTHONHASHSEED``.
"""

from __future__ import annotations

from array import array
from typing import Final

from kvcache.store.sizes import Ledger

__all__ = ["Ghost"]

_SLOT_BYTES: Final = 4
_WAYS: Final = 4
"""The slots of a bucket."""

_OLDEST: Final = 0x8000
_STAMP_BITS: Final = 13  # a stamp comes round after four times as many keys as there are slots, or more


class Ghost:
    """Fingerprints of keys added lately; one stranger in 16000 is mistaken for one. ``slots`` is a multiple of 4."""

    __slots__ = ("_added", "_buckets", "_shift", "_slots")

    def __init__(self, slots: int, ledger: Ledger) -> None:
        self._slots = array("I", bytes(slots * _SLOT_BYTES))
        self._buckets = slots // _WAYS
        self._shift = max(0, slots.bit_length() - 1 - _STAMP_BITS)
        self._added = 0
        ledger.used += self.cost()

    def add(self, key: bytes) -> None:
        """Remember ``key``, in a free place of its bucket or that of the oldest."""
        digest = hash(key)
        bucket = digest % self._buckets * _WAYS
        slots = self._slots
        self._added += 1
        now = self._added >> self._shift
        place, oldest = bucket, -1
        for at in range(bucket, bucket + _WAYS):
            slot = slots[at]
            if not slot:
                place = at
                break
            if (age := now - slot & 0xFFFF) > oldest:
                place, oldest = at, age
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
        bucket = digest % self._buckets * _WAYS
        for at in range(bucket, bucket + _WAYS):
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
        bucket = digest % self._buckets * _WAYS
        fingerprint = digest >> 40 & 0xFFFF or 1  # from the other end than the bucket; 0 marks an empty slot
        slots = self._slots
        for at in range(bucket, bucket + _WAYS):
            if slots[at] >> 16 == fingerprint:
                return at
        return -1

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
