"""Hints: which records a stand-in keeps for owners that could not be reached.

Here lives the list of what is owed to whom, and what is given up when it grows too long or too old. Never here: the
records (they lie in the store, readable like any other), or the way to an owner.

Nothing is lost in silence: each pair of owner and key that was noted is held, or delivered, or its partition is *dirty* for
that owner, to be made good by comparing the whole partition. After DeCandia et al., "Dynamo" (SOSP 2007), section 4.6.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple, TypeAlias

from kvcache_client.protocol.errors import InvalidOption

__all__ = ["OVERHEAD_BYTES", "Hints"]

OVERHEAD_BYTES: Final = 330
"""What a pair takes beside its key and record, as measured: a node in a linked dict, a tuple and its numbers."""


class _Hint(NamedTuple):
    partition: int
    version: int
    noted_ms: int
    cost: int


_Pairs: TypeAlias = OrderedDict[bytes, _Hint]  # the oldest first; a plain dict is slow at losing its first key


class Hints:
    """Pairs of owner and key, within a budget in bytes and an age in milliseconds. This always holds::

    len(hints) == noted - delivered - dropped - forgotten

    A record that is owed to two owners is counted twice in ``used_bytes``.
    """

    __slots__ = (
        "_dirty", "_latest_ms", "_pairs", "budget_bytes", "delivered_count", "dropped_count", "forgotten_count",
        "max_age_ms", "noted_count", "strays", "used_bytes",
    )  # fmt: skip

    def __init__(self, budget_bytes: int, max_age_ms: int) -> None:
        if budget_bytes < 0:
            raise InvalidOption(f"the budget for hints is {budget_bytes} bytes; it must not be negative")
        if max_age_ms < 1:
            raise InvalidOption(f"hints are kept for {max_age_ms} ms; the least is 1")
        self.budget_bytes = budget_bytes
        self.max_age_ms = max_age_ms
        self.used_bytes = 0
        self._pairs: dict[str, _Pairs] = {}
        self._dirty: dict[str, set[int]] = {}
        self.strays: set[int] = set()
        """Partitions in which something was given up: its record may lie in the store, and nobody waits for it."""
        self._latest_ms = 0
        self.noted_count = 0
        """Pairs that were not held before."""
        self.delivered_count = 0
        self.dropped_count = 0
        """Pairs given up for want of room, for their age or because the store had lost the record."""
        self.forgotten_count = 0
        """Pairs of owners that are no longer waited for."""

    def note(self, owner: str, partition: int, key: bytes, record_length: int, version: int, now_ms: int) -> None:
        """Note that ``owner`` is to get this version of ``key``. A newer one takes the place and age of an older one.

        Over the budget the oldest pairs go; one that exceeds it alone goes at once and costs no other its place.
        """
        self._latest_ms = now_ms = max(now_ms, self._latest_ms)  # so that pairs stand in the order of their age
        pairs = self._pairs.setdefault(owner, OrderedDict())
        held = pairs.get(key)
        if held is not None and version <= held.version:
            return
        if held is None:
            self.noted_count += 1
        else:
            self._take(owner, key)
        cost = len(key) + record_length + OVERHEAD_BYTES
        self._pairs.setdefault(owner, pairs)[key] = _Hint(partition, version, now_ms, cost)
        self.used_bytes += cost
        if cost > self.budget_bytes:
            self._drop(owner, key)
        while self.used_bytes > self.budget_bytes:
            self._drop(*self._oldest())

    def owners(self) -> dict[str, int]:
        """Return how many keys wait for each owner."""
        return {owner: len(pairs) for owner, pairs in self._pairs.items()}

    def batch(self, owner: str, limit_bytes: int, limit_count: int) -> list[tuple[int, bytes, int]]:
        """Return partition, key and version of the oldest pairs of an owner; they stay until ``delivered`` or ``lost``.

        They end with the one whose key and record reach ``limit_bytes``, so there is at least one if any is held.
        """
        chosen: list[tuple[int, bytes, int]] = []
        room = limit_bytes
        for key, hint in self._pairs.get(owner, {}).items():
            if chosen and (room <= 0 or len(chosen) >= limit_count):
                break
            chosen.append((hint.partition, key, hint.version))
            room -= hint.cost - OVERHEAD_BYTES
        return chosen

    def delivered(self, owner: str, key: bytes, version: int) -> bool:
        """Let a pair go that the owner has; one that was noted anew meanwhile stays. Returns whether it went."""
        if not self._holds(owner, key, version):
            return False
        self._take(owner, key)
        self.delivered_count += 1
        return True

    def lost(self, owner: str, key: bytes, version: int) -> bool:
        """Give a pair up whose record the store no longer holds: its partition becomes dirty. Returns whether it went."""
        if not self._holds(owner, key, version):
            return False
        self._drop(owner, key)
        return True

    def expire(self, now_ms: int) -> int:
        """Give up every pair that is older than ``max_age_ms``; returns how many."""
        before = self.dropped_count
        for owner in list(self._pairs):
            pairs = self._pairs[owner]
            while pairs:
                key = next(iter(pairs))
                if now_ms - pairs[key].noted_ms <= self.max_age_ms:
                    break
                self._drop(owner, key)
        return self.dropped_count - before

    def keys_in(self, partitions: Collection[int]) -> dict[int, set[bytes]]:
        """Return the keys that are held for somebody, by partition, in those of ``partitions`` that have any."""
        found: dict[int, set[bytes]] = {}
        for pairs in self._pairs.values():
            for key, hint in pairs.items():
                if hint.partition in partitions:
                    found.setdefault(hint.partition, set()).add(key)
        return found

    @property
    def dirty(self) -> Mapping[str, set[int]]:
        """The partitions, by owner, for which hints were given up; each owner named has at least one."""
        return MappingProxyType(self._dirty)

    def clean(self, owner: str, partitions: Iterable[int]) -> None:
        """Take partitions off ``dirty``, before or after they were compared: what is given up later makes them dirty anew."""
        dirty = self._dirty.get(owner)
        if dirty is not None:
            dirty.difference_update(partitions)
            if not dirty:
                del self._dirty[owner]

    def forget_owner(self, owner: str) -> int:
        """Let go of all that waits for an owner which is no longer one, dirty partitions too; returns how many pairs."""
        self._dirty.pop(owner, None)
        pairs = self._pairs.pop(owner, None)
        if pairs is None:
            return 0
        self.used_bytes -= sum(hint.cost for hint in pairs.values())
        self.forgotten_count += len(pairs)
        self.strays.update(hint.partition for hint in pairs.values())
        return len(pairs)

    def is_held(self, key: bytes) -> bool:
        """Say whether any owner still waits for ``key``."""
        return any(key in pairs for pairs in self._pairs.values())

    def owners_of(self, key: bytes) -> list[str]:
        """Return the owners that still wait for ``key``."""
        return [owner for owner, pairs in self._pairs.items() if key in pairs]

    def _holds(self, owner: str, key: bytes, version: int) -> bool:
        pairs = self._pairs.get(owner)
        hint = pairs.get(key) if pairs else None
        return hint is not None and hint.version == version

    def _oldest(self) -> tuple[str, bytes]:
        owner = min(self._pairs, key=lambda name: next(iter(self._pairs[name].values())).noted_ms)
        return owner, next(iter(self._pairs[owner]))

    def _drop(self, owner: str, key: bytes) -> None:
        partition = self._take(owner, key).partition
        self._dirty.setdefault(owner, set()).add(partition)
        self.strays.add(partition)
        self.dropped_count += 1

    def _take(self, owner: str, key: bytes) -> _Hint:
        pairs = self._pairs[owner]
        hint = pairs.pop(key)
        self.used_bytes -= hint.cost
        if not pairs:
            del self._pairs[owner]
        return hint

    def __len__(self) -> int:
        return sum(map(len, self._pairs.values()))

    def __repr__(self) -> str:
        used = f"{self.used_bytes}/{self.budget_bytes} B"
        return f"<Hints {len(self)} for {len(self._pairs)} owners, {used}, dirty={sum(map(len, self._dirty.values()))}>"
