"""When records are due: a timer wheel in which each key stands in exactly one bucket.

Here lives the order of due times. Never here: a clock, or what happens to a key that is due.

Three levels of buckets, 256 ms, 65 s and 4.7 h wide, after Varghese and Lauck, "Hashed and hierarchical timing wheels"
(SOSP 1987). The near level covers the current and the next 65 s, the middle one the current and the next 4.7 h. A
bucket that comes into reach is dealt out to the level below, a bounded number of keys per call, and has a whole width of
time for it. The bucket of a key follows from its expiry alone, so an overwrite takes the key out at once and endless
rewrites with new times to live never pile up. The wheel does not store the expiry itself: it asks for it when it deals out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final, TypeAlias

from kvcache.store.sizes import Ledger, dict_cost

__all__ = ["NEAR_MS", "Wheel"]

NEAR_MS: Final = 256
"""The width of the narrowest bucket: how late a key may be found due, beside how often the wheel is asked."""

_NEAR: Final = 8
_MIDDLE: Final = 16
_FAR: Final = 24
_SHARD_BITS: Final = 4  # wide buckets are split by partition: no dict grows so large that its growing stalls a node
_SHARDS: Final = 1 << _SHARD_BITS
_SHARD_MASK: Final = _SHARDS - 1

_Bucket: TypeAlias = dict[bytes, int]
_Level: TypeAlias = dict[int, _Bucket]


class Wheel:
    """Keys with their partitions, by due time in milliseconds.

    ``expiry_of(key, partition)`` tells the time of a key inside; it raises ``LookupError`` for a key that is not kept.
    """

    __slots__ = (
        "_count",
        "_expiry_of",
        "_far",
        "_far_end",
        "_ledger",
        "_middle",
        "_moving",
        "_near",
        "_near_end",
        "wake_ms",
    )

    def __init__(self, now_ms: int, ledger: Ledger, expiry_of: Callable[[bytes, int], int]) -> None:
        self._ledger = ledger
        self._expiry_of = expiry_of
        self._near: _Level = {}
        self._middle: _Level = {}
        self._far: _Level = {}
        self._near_end = (now_ms >> _MIDDLE) + 2  # the first 65 s that the near level does not cover
        self._far_end = (now_ms >> _FAR) + 2
        self._moving: list[tuple[_Level, int]] = []
        self._count = 0
        self.wake_ms = 0
        """Nothing can be due, and no work is left, before this time."""

    def add(self, key: bytes, partition: int, expiry_ms: int) -> None:
        """Enter a key that is not in the wheel. The partition object is kept, so pass the same one for all keys of it."""
        level, place = self._place(partition, expiry_ms)
        bucket = level.get(place)
        if bucket is None:
            level[place] = bucket = {key: partition}
            self._ledger.used += dict_cost(bucket)
        else:
            before = bucket.__sizeof__()
            bucket[key] = partition
            self._ledger.used += bucket.__sizeof__() - before
        self._count += 1

    def discard(self, key: bytes, partition: int, expiry_ms: int) -> None:
        """Take out a key that is in the wheel with this expiry. Raises ``LookupError`` if it is not."""
        level, place = self._place(partition, expiry_ms)
        bucket = level.get(place)
        if bucket is None or bucket.pop(key, None) is None:
            level, place, bucket = self._pop_waiting(key, partition, expiry_ms)
        self._count -= 1
        if not bucket:
            self._close(level, place)

    def take_due(self, now_ms: int, limit: int) -> list[tuple[bytes, int]]:
        """Take out and return up to ``limit`` keys that are due, with their partitions; also deals out, equally bounded."""
        due: list[tuple[bytes, int]] = []
        self._reach(now_ms)
        work = self._take_near(now_ms, limit, due)
        work = self._deal_out(now_ms, work, due)
        if work:
            self.wake_ms = ((now_ms >> _NEAR) + 1) << _NEAR
        else:
            self.wake_ms = 0
        return due

    def soonest(self, count: int) -> list[tuple[bytes, int]]:
        """Return about ``count`` of the keys due soonest, in the order they came within a bucket; they stay inside."""
        for level, bits in ((self._near, 0), (self._middle, _SHARD_BITS), (self._far, _SHARD_BITS)):
            if level:
                first = min(level) >> bits
                buckets = [level[place] for place in range(first << bits, (first + 1) << bits) if place in level]
                share = -(-count // len(buckets))
                return [item for bucket in buckets for item in islice(bucket.items(), share)]
        return []

    def _place(self, partition: int, expiry_ms: int) -> tuple[_Level, int]:
        if expiry_ms >> _MIDDLE < self._near_end:
            return self._near, expiry_ms >> _NEAR
        if expiry_ms >> _FAR < self._far_end:
            return self._middle, expiry_ms >> _MIDDLE << _SHARD_BITS | partition & _SHARD_MASK
        return self._far, expiry_ms >> _FAR << _SHARD_BITS | partition & _SHARD_MASK

    def _places(self, partition: int, expiry_ms: int) -> Iterator[tuple[_Level, int]]:
        # Where the key belongs, then the wider buckets it may still wait in to be dealt out.
        yield self._place(partition, expiry_ms)
        yield self._middle, expiry_ms >> _MIDDLE << _SHARD_BITS | partition & _SHARD_MASK
        yield self._far, expiry_ms >> _FAR << _SHARD_BITS | partition & _SHARD_MASK

    def _pop_waiting(self, key: bytes, partition: int, expiry_ms: int) -> tuple[_Level, int, _Bucket]:
        for level, place in self._places(partition, expiry_ms):
            bucket = level.get(place)
            if bucket is not None and bucket.pop(key, None) is not None:
                return level, place, bucket
        raise LookupError(f"key {key!r:.60} is not in the wheel at {expiry_ms} ms")

    def _reach(self, now_ms: int) -> None:
        near_end = (now_ms >> _MIDDLE) + 2
        if near_end <= self._near_end:
            return
        self._near_end = near_end
        self._far_end = far_end = (now_ms >> _FAR) + 2
        far = sorted(place for place in self._far if place >> _SHARD_BITS < far_end)
        middle = sorted(place for place in self._middle if place >> _SHARD_BITS < near_end)
        self._moving = [(self._middle, place) for place in reversed(middle)]
        self._moving += [(self._far, place) for place in reversed(far)]

    def _take_near(self, now_ms: int, work: int, due: list[tuple[bytes, int]]) -> int:
        tick = now_ms >> _NEAR
        for place in sorted(place for place in self._near if place < tick):
            bucket = self._near[place]
            while bucket and work:
                due.append(bucket.popitem())
                self._count -= 1
                work -= 1
            if bucket:
                return 0
            self._close(self._near, place)
        return work

    def _deal_out(self, now_ms: int, work: int, due: list[tuple[bytes, int]]) -> int:
        moving = self._moving
        while moving and work:
            level, place = moving[-1]
            bucket = level.get(place)
            while bucket and work:
                key, partition = bucket.popitem()
                self._count -= 1
                work -= 1
                expiry_ms = self._expiry_of(key, partition)
                if expiry_ms <= now_ms:
                    due.append((key, partition))
                else:
                    self.add(key, partition, expiry_ms)
            if bucket:
                return 0
            moving.pop()
            if bucket is not None:
                self._close(level, place)
        return work

    def _close(self, level: _Level, place: int) -> None:
        self._ledger.used -= dict_cost(level.pop(place))

    def entries(self) -> Iterator[tuple[bytes, int, bool]]:
        """Yield every key with its partition, and whether it stands in a bucket that its expiry allows; for ``audit``."""
        for level in (self._near, self._middle, self._far):
            for place, bucket in level.items():
                for key, partition in bucket.items():
                    yield key, partition, self._may_stand(key, partition, level, place)

    def _may_stand(self, key: bytes, partition: int, level: _Level, place: int) -> bool:
        try:
            places = self._places(partition, self._expiry_of(key, partition))
        except LookupError:
            return False
        return any(level is there and place == at for there, at in places)

    def cost(self) -> int:
        """Recount the bytes of all buckets; for ``audit``."""
        return sum(dict_cost(bucket) for level in (self._near, self._middle, self._far) for bucket in level.values())

    def __len__(self) -> int:
        return self._count

    def __repr__(self) -> str:
        levels = f"near={len(self._near)} middle={len(self._middle)} far={len(self._far)}"
        return f"<Wheel keys={self._count} buckets: {levels} moving={len(self._moving)}>"
