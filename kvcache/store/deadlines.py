"""When live records are due: a timer wheel of tables.

Here lives in which table something may be due at which time. Never here: a clock, records, or what happens to one that is due.

Five levels of buckets, 256 ms, 16 s, 17 min, 19 h and 50 days wide, after Varghese and Lauck, "Hashed and hierarchical timing
wheels" (SOSP 1987). Unlike theirs a bucket holds no timers: it has one bit for each table, "look there". So a record with a
time to live takes nothing here, an overwrite takes nothing out, and endless rewrites with new times never pile up. Who is told
to look at a table for a record that has gone finds none, and no harm is done. Wider steps would mean more buckets and more
looks for times that were soon overwritten, narrower ones more looks on the way from the widest bucket to the narrowest.

A level covers the current and the next bucket of the one above. A bucket that comes into reach of the level below is *dealt
out*: the tables are asked for the times that fall into it, and the bit moves on to where they belong. There is a whole width of
time for that, and what was not dealt out by then is due as it is. All times beyond the last level wait in one bucket.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

from kvcache.store.sizes import Ledger, bytes_cost
from kvcache_client.protocol.record import NEVER

__all__ = ["TICK_MS", "Deadlines", "Reap", "Times"]

_BITS: Final = (8, 14, 20, 26, 32)
_LAST: Final = len(_BITS) - 1

TICK_MS: Final = 1 << _BITS[0]
"""The width of the narrowest bucket: how late a record may be found due, beside how often the wheel is asked."""

_BUCKET_BYTES: Final = 120  # its entry in a dict, and its object beside the bits
_TIMES_PER_WORK: Final = 8  # so many times are noted as fast as one record is removed

Reap: TypeAlias = Callable[[int, int], tuple[int, bool]]
"""Takes out what is due in a table, at most so many records; returns what work that was and whether more may be left."""

Times: TypeAlias = Callable[[int, int, int], tuple[int, list[int]]]
"""Finds the times of a table from one to before another, without repetition; returns what work that was, and them."""


class Deadlines:
    """Bits for ``tables`` tables, by due time in milliseconds. A table is known by its ordinal, from 0."""

    __slots__ = ("_cost", "_due", "_horizons", "_ledger", "_levels", "_now_ms", "_width", "wake_ms")

    def __init__(self, tables: int, now_ms: int, ledger: Ledger) -> None:
        self._ledger = ledger
        self._width = -(-tables // 8)
        self._cost = bytes_cost(self._width) + _BUCKET_BYTES
        self._levels: tuple[dict[int, bytearray], ...] = tuple({} for _ in _BITS)
        self._due = 0  # bits as well: where there may be something due
        self._reach(now_ms)
        self.wake_ms = 0
        """Nothing can be due, and no work is left, before this time."""
        ledger.used += self.cost()

    def _reach(self, now_ms: int) -> None:
        self._now_ms = now_ms
        # Of each level but the last, the first time that it does not cover.
        self._horizons = [((now_ms >> bits) + 2) << bits for bits in _BITS[1:]]

    def add(self, ordinal: int, expiry_ms: int) -> None:
        """Note that something in a table is due at a time."""
        level = bisect(self._horizons, expiry_ms)
        place = expiry_ms >> _BITS[level] if level < _LAST else self._horizons[-1] >> _BITS[-1]
        buckets = self._levels[level]
        bits = buckets.get(place)
        if bits is None:
            bits = buckets[place] = bytearray(self._width)
            self._ledger.used += self._cost
        bits[ordinal >> 3] |= 1 << (ordinal & 7)

    def work_off(self, now_ms: int, work: int, reap: Reap, times: Times) -> None:
        """Have tables looked at where something may be due, then deal out, until about so much ``work`` is done.

        What is more urgent comes first. If ``wake_ms`` is 0 afterwards, there is more to do at once.
        """
        self._reach(now_ms)
        self._collect()
        work = self._reap(work, reap)
        for level, place in list(self._in_reach()):
            if work <= 0:
                break
            work = self._deal_out(level, place, work, times)
        waits = self._due or any(self._passed()) or any(self._in_reach())
        self.wake_ms = 0 if waits else ((now_ms >> _BITS[0]) + 1) << _BITS[0]

    def _reap(self, work: int, reap: Reap) -> int:
        due = self._due
        while due and work > 0:
            ordinal = due.bit_length() - 1
            done, more = reap(ordinal, work)
            work -= max(1, done)
            if not more:
                due ^= 1 << ordinal
        self._due = due
        return work

    def _collect(self) -> None:
        # What has wholly passed is looked at once, in however many buckets it is noted: after a leap of the clock in thousands.
        for level, place in list(self._passed()):
            self._due |= int.from_bytes(self._levels[level][place], "little")
            self._close(level, place)

    def _passed(self) -> Iterator[tuple[int, int]]:
        for level, bits in enumerate(_BITS[:-1]):
            yield from ((level, place) for place in self._levels[level] if place < self._now_ms >> bits)

    def _in_reach(self) -> Iterator[tuple[int, int]]:
        for level, horizon in enumerate(self._horizons, 1):
            end = horizon >> _BITS[level]
            yield from ((level, place) for place in sorted(self._levels[level]) if place < end)

    def _deal_out(self, level: int, place: int, work: int, times: Times) -> int:
        bits = self._levels[level][place]
        first_ms = place << _BITS[level]
        end_ms = first_ms + (1 << _BITS[level]) if level < _LAST else NEVER
        left = int.from_bytes(bits, "little")
        while left and work > 0:
            ordinal = left.bit_length() - 1
            left ^= 1 << ordinal
            done, found = times(ordinal, first_ms, end_ms)
            work -= max(1, done) + len(found) // _TIMES_PER_WORK
            for expiry_ms in found:
                self.add(ordinal, expiry_ms)
        if left:
            bits[:] = left.to_bytes(self._width, "little")
        else:
            self._close(level, place)
        return work

    def _close(self, level: int, place: int) -> None:
        del self._levels[level][place]
        self._ledger.used -= self._cost

    def clear(self) -> None:
        """Forget all, when there is no record left."""
        self._ledger.used -= self.cost()
        self._due = 0
        for buckets in self._levels:
            buckets.clear()
        self._ledger.used += self.cost()

    def covers(self, ordinal: int, expiry_ms: int) -> bool:
        """Say whether a table will be looked at in time for a record that expires then; for ``audit``."""
        noted = [buckets.get(expiry_ms >> bits) for buckets, bits in zip(self._levels[:-1], _BITS, strict=False)]
        noted += [bits for place, bits in self._levels[-1].items() if place <= expiry_ms >> _BITS[-1]]
        if any(bits is not None and bits[ordinal >> 3] >> (ordinal & 7) & 1 for bits in noted):
            return True
        return expiry_ms <= self._now_ms and bool(self._due >> ordinal & 1)

    def cost(self) -> int:
        """Recount the bytes of all buckets and of the bits that are due; for ``audit``."""
        return self._cost * (1 + len(self))

    def __len__(self) -> int:
        """Return the number of buckets."""
        return sum(map(len, self._levels))

    def __repr__(self) -> str:
        return f"<Deadlines buckets={[len(level) for level in self._levels]} due={self._due.bit_count()} wake={self.wake_ms} ms>"
