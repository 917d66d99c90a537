"""Versions: hybrid-logical-clock stamps that order the writes of a key.

Here lives the stamp's layout and the clock that makes stamps. Never here: a source of time (it is an argument).

A version is an unsigned 64-bit number::

    | 43 bits: milliseconds since 1970 | 9 bits: logical | 12 bits: writer |

Numbers order as time orders, so "newer" is ``>``, on integers and on their big-endian bytes alike. The logical part counts
stamps within one millisecond and simply carries into the next one when it is full. The writer part keeps two writers that
stamp in the same instant apart. Source: Kulkarni et al., "Logical Physical Clocks" (OPODIS 2014), packed into one word.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

__all__ = [
    "MAX_CLOCK_OFFSET_MS",
    "MAX_VERSION",
    "WRITERS",
    "HybridClock",
    "version_at",
    "version_ms",
    "writer_of",
]

_WRITER_BITS: Final = 12
_LOGICAL_BITS: Final = 9
_MS_SHIFT: Final = _WRITER_BITS + _LOGICAL_BITS

WRITERS: Final = 1 << _WRITER_BITS
"""How many distinct writer ids there are; each process draws one at random."""

MAX_VERSION: Final = (1 << 64) - 1

MAX_CLOCK_OFFSET_MS: Final = 500
"""A node refuses a version further than this ahead of its own time, so no bad clock can make a key undeletable."""


def version_ms(version: int) -> int:
    """Return the milliseconds since 1970 in which ``version`` was stamped."""
    return version >> _MS_SHIFT


def writer_of(version: int) -> int:
    """Return the id of the clock that stamped ``version``."""
    return version % WRITERS


def version_at(ms: int) -> int:
    """Return the lowest version of the millisecond ``ms``."""
    return ms << _MS_SHIFT


class HybridClock:
    """Stamps that never repeat, never run backwards and never trail what was observed.

    ``now_ms`` is the physical clock (milliseconds since 1970). ``offset_ms`` is what must be added to it to get the
    cluster's time; replies of nodes teach it.
    """

    __slots__ = ("_last", "_now_ms", "_writer", "offset_ms")

    def __init__(self, now_ms: Callable[[], int], writer: int) -> None:
        self._now_ms = now_ms
        self.become(writer)
        self._last = 0
        self.offset_ms = 0

    def become(self, writer: int) -> None:
        """Stamp as ``writer`` from now on. Two clocks of one writer could stamp the same version twice."""
        if not 0 <= writer < WRITERS:
            raise ValueError(f"writer id {writer} is not in 0..{WRITERS - 1}")
        self._writer = writer

    def now_ms(self) -> int:
        """Return the cluster's time in milliseconds since 1970."""
        return self._now_ms() + self.offset_ms

    def stamp(self) -> int:
        """Return a version higher than every one stamped or observed before."""
        ticks = (self._now_ms() + self.offset_ms) << _LOGICAL_BITS
        last = self._last + 1
        self._last = ticks = ticks if ticks > last else last
        return ticks << _WRITER_BITS | self._writer

    def stamps(self, count: int) -> range:
        """Return so many versions, as that many calls of ``stamp`` in this moment would."""
        first = max((self._now_ms() + self.offset_ms) << _LOGICAL_BITS, self._last + 1)
        self._last = first + count - 1
        return range(first << _WRITER_BITS | self._writer, (first + count) << _WRITER_BITS, WRITERS)

    def observe(self, version: int) -> None:
        """Make every later stamp higher than ``version``."""
        ticks = version >> _WRITER_BITS
        if ticks > self._last:
            self._last = ticks

    def correct(self, cluster_ms: int) -> None:
        """Learn that the cluster's time is ``cluster_ms``; stamps too far ahead of it are taken back, for nobody took them."""
        self.offset_ms = cluster_ms - self._now_ms()
        if version_ms(self._last << _WRITER_BITS) > cluster_ms + MAX_CLOCK_OFFSET_MS:
            self._last = cluster_ms << _LOGICAL_BITS

    def __repr__(self) -> str:
        return f"<HybridClock writer={self._writer} offset={self.offset_ms}ms last={version_ms(self._last << _WRITER_BITS)}>"
