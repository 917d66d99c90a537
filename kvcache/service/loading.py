"""Loading: which partitions a node has still to pull before they are complete.

Here lives the bookkeeping of what is waiting, on its way and done. Never here: the pulling, or what an incomplete partition
may be asked (``service``).

Each round of loading has a session (the id of a move, or of this life of the node). What comes from another session is
refused, so that a stream which was given up and finishes late can never make a partition look complete.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from kvcache_client.placement.partitions import PARTITIONS
from kvcache_client.protocol.errors import InvalidOption

__all__ = ["Loading"]

_DONE: Final = 0
_LOADING: Final = 1


class Loading:
    """The partitions of one node that are not yet complete.

    ``flags`` has one byte for each partition, 1 while it is loading. It stays the same object, so that a read path may keep it.
    """

    __slots__ = ("_again", "_out", "_waiting", "bytes", "flags", "left", "records", "session", "total")

    def __init__(self) -> None:
        self.flags = bytearray(PARTITIONS)
        self._reset("")

    def _reset(self, session: str) -> None:
        self.session = session
        self.flags[:] = bytes(PARTITIONS)
        self._waiting: OrderedDict[int, None] = OrderedDict()
        self._out: set[int] = set()
        self._again: set[int] = set()  # on their way, and already out of date
        self.left = 0
        """Partitions that are not complete."""
        self.total = 0
        """Pulls that this session takes: one for each partition, one more for each that must be pulled again."""
        self.records = 0
        """Records pulled in this session."""
        self.bytes = 0
        """Bytes of their keys and records."""

    def begin(self, session: str, partitions: Iterable[int]) -> None:
        """Load ``partitions``, in this order, and nothing else from now on. No partitions: nothing is loading any more."""
        wanted = OrderedDict.fromkeys(map(_checked, partitions))
        self._reset(session)
        self._waiting = wanted
        for partition in wanted:
            self.flags[partition] = _LOADING
        self.left = self.total = len(wanted)

    def next(self, count: int) -> list[int]:
        """Return up to ``count`` partitions to pull. None is handed out again before it has ``failed``."""
        chosen = [self._waiting.popitem(last=False)[0] for _ in range(min(count, len(self._waiting)))]
        self._out.update(chosen)
        return chosen

    def done(self, session: str, partition: int) -> bool:
        """Note that a partition which was handed out is pulled; returns whether it is complete now.

        It is not if the session is another one, or if ``again`` was said while it was on its way: then it waits anew.
        """
        if session != self.session or partition not in self._out:
            return False
        if partition in self._again:
            self.total += 1
            self.failed(session, partition)
            return False
        self._out.discard(partition)
        self.flags[partition] = _DONE
        self.left -= 1
        return True

    def failed(self, session: str, partition: int) -> bool:
        """Put a partition that could not be pulled at the end of those that wait; returns whether it had been handed out."""
        if session != self.session or partition not in self._out:
            return False
        self._out.discard(partition)
        self._again.discard(partition)
        self._waiting[partition] = None
        return True

    def again(self, partition: int) -> None:
        """Have a partition pulled once more, because something was missed: also one that is complete, or on its way."""
        if partition in self._out:
            self._again.add(partition)
        elif not self.is_loading(partition):
            self._waiting[partition] = None
            self.flags[partition] = _LOADING
            self.left += 1
            self.total += 1

    def pulled(self, records: int, size: int) -> None:
        """Count records that arrived, and the bytes of their keys and records."""
        self.records += records
        self.bytes += size

    def is_loading(self, partition: int) -> bool:
        """Say whether a partition is not complete."""
        return self.flags[_checked(partition)] == _LOADING

    def __repr__(self) -> str:
        state = f"left={self.left}/{self.total} on their way={len(self._out)}"
        return f"<Loading {self.session!r} {state} pulled={self.records} records, {self.bytes} B>"


def _checked(partition: int) -> int:
    if not 0 <= partition < PARTITIONS:
        raise InvalidOption(f"partition {partition} is not in 0..{PARTITIONS - 1}")
    return partition
