"""How often each record was used lately, at two bytes a counter.

Here lives the counting that a read does. Never here: what follows from it.

One table of small counters, found by hash, two to four of them per record. A counter carries 14 bits of its key's hash and
a key may stand in either of two places, so hardly ever is one key taken for another or left without a counter. Exact
counters would be a dict entry per record, or a second copy of every key that was ever read; on real traces these lose 0.0
to 0.2 points of hit ratio against them (with neither the 14 bits nor the second place it would be 1 to 2.5). The hash is
the process's own, so a test that must repeat exactly fixes ``PYTHONHASHSEED``.
"""

from __future__ import annotations

from array import array
from typing import Final

from kvcache.store.sizes import Ledger

__all__ = ["MAX_USES", "UseCounts"]

MAX_USES: Final = 3
"""Where a counter stops."""

_TAG_SHIFT: Final = 40
_TAG_MASK: Final = 0xFFFC
"""The part of the hash, shifted down by ``_TAG_SHIFT``, that a counter carries above its two bits."""

_PER_RECORD: Final = 2

_ROOM_AT_START: Final = 1024
_SLOT_BYTES: Final = 2


class UseCounts:
    """Counters from 0 to ``MAX_USES`` for up to ``room`` keys."""

    __slots__ = ("_ledger", "_mask", "_slots", "room")

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._slots = array("H", bytes(_ROOM_AT_START * _PER_RECORD * _SLOT_BYTES))
        self._mask = _ROOM_AT_START * _PER_RECORD - 1
        self.room = _ROOM_AT_START
        ledger.used += self.cost()

    def hit(self, key: bytes) -> None:
        """Count a use of ``key``."""
        self.count(hash(key))

    def count(self, digest: int) -> None:
        """Count a use of the key with this hash; if others have both its places, the first one's counter is lowered instead."""
        slots, tag = self._slots, digest >> _TAG_SHIFT & _TAG_MASK
        place = self._place(digest)
        slot = slots[place]
        if slot & _TAG_MASK != tag:
            slots[place] = slot - 1 if slot & MAX_USES else tag + 1
        elif slot & MAX_USES != MAX_USES:
            slots[place] = slot + 1

    def of(self, key: bytes) -> int:
        """Return how many uses of ``key`` are counted."""
        return self[hash(key)]

    def take(self, key: bytes) -> int:
        """Return how many uses of ``key`` are counted, and forget them."""
        digest, slots = hash(key), self._slots
        place, tag = digest & self._mask, digest >> _TAG_SHIFT & _TAG_MASK
        slot = slots[place]
        if slot & _TAG_MASK != tag:
            place ^= 1
            slot = slots[place]
            if slot & _TAG_MASK != tag:
                return 0
        slots[place] = 0
        return slot & MAX_USES

    def give(self, key: bytes, uses: int) -> None:
        """Count so many uses of ``key`` at once."""
        for _ in range(uses):
            self.hit(key)

    def __getitem__(self, digest: int) -> int:
        """Return how many uses are counted of the key with this hash."""
        slot = self._slots[self._place(digest)]
        return slot & MAX_USES if slot & _TAG_MASK == digest >> _TAG_SHIFT & _TAG_MASK else 0

    def _place(self, digest: int) -> int:
        # Where the key is counted; else a place that is free; else the first of its two.
        slots, tag = self._slots, digest >> _TAG_SHIFT & _TAG_MASK
        first = digest & self._mask
        if slots[first] & _TAG_MASK == tag:
            return first
        second = first ^ 1
        if slots[second] & _TAG_MASK == tag or (slots[first] & MAX_USES and not slots[second] & MAX_USES):
            return second
        return first

    def double(self) -> None:
        """Make room for twice as many keys. A key's new place is the old one or its copy in the new half."""
        self._ledger.used += self.cost()
        self._slots = self._slots + self._slots
        self._mask = len(self._slots) - 1
        self.room *= 2

    def cost(self) -> int:
        """Return the bytes that the counters take."""
        return len(self._slots) * _SLOT_BYTES

    def __repr__(self) -> str:
        return f"<UseCounts slots={len(self._slots)} room={self.room}>"
