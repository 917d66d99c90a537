"""Lagging owners: which of this client's own writes an owner may not have.

Here lives the memory that makes a client read its own writes whichever owner it asks. Never here: asking, or repairing
(``reading``).

A write is acknowledged once enough nodes hold it, so an owner may have missed it: it was out of reach, and a stand-in took its
copy. Until that owner is known to have the record, this client does not take its word for that key. It is known when the owner
has shown that version or a newer one, has taken a repair or a later write, or is another process, which pulls what it lacks
before it answers. A mark goes by itself after the time in which hints are handed over or made good by comparing partitions.

Memory is bounded: over ``limit`` keys, a whole partition is marked for the owner instead of the key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Final, NamedTuple

__all__ = ["KEYS", "Lagging"]

KEYS: Final = 8192
"""Keys that are remembered one by one."""

_TRUSTED_SECONDS: Final = 15 * 60
"""Nodes keep hints for ten minutes, then compare what is left over."""

_NOBODY: Final[frozenset[str]] = frozenset()


class _Mark(NamedTuple):
    version: int
    """The newest that the nodes may lack; 0 for a partition."""
    nodes: frozenset[str]
    at: float


class Lagging:
    """What owners may lack. ``marks`` is empty in good times, so reads and writes pay one truth test for it."""

    __slots__ = ("_clock", "_limit", "_make_mutex", "_mutex", "marks")

    def __init__(
        self, clock: Callable[[], float], mutex: Callable[[], AbstractContextManager[object]], limit: int = KEYS
    ) -> None:
        self._clock = clock
        self._make_mutex = mutex
        self._mutex = mutex()
        self._limit = limit
        self.marks: dict[bytes | int, _Mark] = {}
        """By key, or by partition."""

    def missed(self, partition: int, name: bytes, version: int, nodes: Iterable[str]) -> None:
        """Note that ``nodes`` may not have this version of a key."""
        with self._mutex:
            held = self.marks.get(name)
            if held is None and len(self.marks) >= self._limit:
                name_or_partition: bytes | int = partition
                held, version = self.marks.get(partition), 0
            else:
                name_or_partition = name
            together = frozenset(nodes) | (held.nodes if held else _NOBODY)
            self.marks[name_or_partition] = _Mark(max(version, held.version if held else 0), together, self._clock())

    def caught_up(self, name: bytes, version: int, nodes: Iterable[str]) -> None:
        """Note that ``nodes`` have this version of a key, or a newer one."""
        with self._mutex:
            held = self.marks.get(name)
            if held is not None and version >= held.version:
                left = held.nodes.difference(nodes)
                if left:
                    self.marks[name] = held._replace(nodes=left)
                else:
                    del self.marks[name]

    def of(self, partition: int, name: bytes) -> frozenset[str]:
        """Return the nodes whose word on a key must not be taken."""
        return self._nodes(name) | self._nodes(partition)

    def version(self, name: bytes) -> int:
        """Return the version of a key that is known to have been written, if some owner may lack it; else 0."""
        held = self.marks.get(name)
        return held.version if held else 0

    def _nodes(self, what: bytes | int) -> frozenset[str]:
        held = self.marks.get(what)
        if held is None:
            return _NOBODY
        if self._clock() - held.at < _TRUSTED_SECONDS:
            return held.nodes
        with self._mutex:
            if self.marks.get(what) is held:
                del self.marks[what]
        return _NOBODY

    def replaced(self, nodes: Iterable[str]) -> None:
        """Other processes have taken the place of ``nodes``: they answer nothing before they have pulled everything."""
        gone = frozenset(nodes)
        if not gone or not self.marks:
            return
        with self._mutex:
            for what, mark in self.marks.copy().items():
                left = mark.nodes - gone
                if not left:
                    del self.marks[what]
                elif left != mark.nodes:
                    self.marks[what] = mark._replace(nodes=left)

    def start_over(self) -> None:
        """After a fork: another thread of the parent may have held the mutex."""
        self._mutex = self._make_mutex()

    def __len__(self) -> int:
        return len(self.marks)

    def __repr__(self) -> str:
        return f"<Lagging {len(self.marks)}/{self._limit} keys or partitions>"
