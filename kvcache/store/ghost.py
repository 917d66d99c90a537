"""A memory of keys that were thrown out, without the keys.

Here lives the ghost queue of S3-FIFO. Never here: the policy that asks it.

A first-in-first-out queue of fingerprints, kept as a table: four slots to a bucket, each slot 16 bits of a hash and 16 bits of
the time it came, counted in evictions. An entry is too old when more keys came since than the queue may hold, so nothing need be moved to
drop it. The hash is the process's own (a test that must repeat exactly fixes ``PYTHONHASHSEED``).
"""

from __future__ import annotations

from array import array
from typing import Final

from kvcache.store.sizes import Ledger

__all__ = ["Ghost"]

_WAYS: Final = 4
_SLOT_BYTES: Final = 4
_AGES: Final = 1 << 16
_AGE_STEPS: Final = 13  # ages run to about 2**13 in a full queue, so a stamp comes round after 8 to 16 queue lengths


class Ghost:
    """Fingerprints of the last ``capacity`` keys added, roughly: one in 16000 strangers is mistaken for a member."""

    __slots__ = ("_clock", "_ledger", "_mask", "_shift", "_slots", "capacity")

    def __init__(self, capacity: int, ledger: Ledger) -> None:
        buckets = 1
        while buckets * _WAYS < capacity:
            buckets *= 2
        self._slots = array("I", bytes(buckets * _WAYS * _SLOT_BYTES))
        self._mask = buckets - 1
        self._shift = max(0, capacity.bit_length() - _AGE_STEPS)
        self._clock = 0
        self._ledger = ledger
        self.capacity = capacity
        """How many of the latest keys count; may be lowered and raised again within the size of the table."""
        ledger.used += self.cost()

    @property
    def room(self) -> int:
        """How many keys the table has slots for."""
        return len(self._slots)

    def add(self, key: bytes) -> None:
        """Remember ``key``, in the place of the oldest of its bucket."""
        digest = hash(key)
        first = (digest & self._mask) * _WAYS
        self._clock += 1
        now = self._clock >> self._shift & 0xFFFF
        slots = self._slots
        oldest, place = -1, first
        for at in range(first, first + _WAYS):
            slot = slots[at]
            age = (now - slot) % _AGES if slot else _AGES
            if age > oldest:
                oldest, place = age, at
        slots[place] = _fingerprint(digest) << 16 | now

    def remove(self, key: bytes) -> bool:
        """Say whether ``key`` is remembered, and forget it."""
        digest = hash(key)
        first = (digest & self._mask) * _WAYS
        fingerprint = _fingerprint(digest)
        slots = self._slots
        for at in range(first, first + _WAYS):
            slot = slots[at]
            if slot >> 16 == fingerprint:
                slots[at] = 0
                now = self._clock >> self._shift
                return (now - slot) % _AGES <= self.capacity >> self._shift
        return False

    def close(self) -> None:
        """Give the memory back to the ledger; the ghost must not be used any more."""
        self._ledger.used -= self.cost()

    def cost(self) -> int:
        """Return the bytes that the table takes."""
        return len(self._slots) * _SLOT_BYTES

    def __repr__(self) -> str:
        return f"<Ghost capacity={self.capacity} slots={len(self._slots)} added={self._clock}>"


def _fingerprint(digest: int) -> int:
    # From the other end of the hash than the bucket; 0 marks an empty slot.
    return digest >> 40 & 0xFFFF or 1
