"""Lookups: what reads have found, and why they have not.

Here lives the counting of hits and misses of one namespace. Never here: finding (``reading``), or showing (``statistics``).

A hit costs one increment. Threads that share a blocking client may now and then lose one: these are statistics, not a ledger.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from kvcache_client.protocol.errors import InDoubt, KvCacheError, NotApplied
from kvcache_client.protocol.verbs import Reason

__all__ = ["Lookups", "MissReason", "why_failed"]


class MissReason(IntEnum):
    """Why a read found nothing. The first four are what a node said, the others what this client knows itself."""

    ABSENT = Reason.ABSENT
    """Nothing is known of the key, or nobody said."""
    EXPIRED = Reason.EXPIRED
    DELETED = Reason.DELETED
    EVICTED = Reason.EVICTED
    """It went for want of memory, not long ago."""
    NODE_DOWN = 4
    """An owner cannot be reached, and no other copy was found."""
    TIMEOUT = 5
    """Nobody answered in time; a miss only where ``fail_open`` makes it one."""


def why_failed(error: KvCacheError) -> MissReason:
    """Return the reason of a miss that is none but for ``fail_open``: the read came to ``error``."""
    if isinstance(error, TimeoutError):
        return MissReason.TIMEOUT
    return MissReason.NODE_DOWN if isinstance(error, NotApplied | InDoubt) else MissReason.ABSENT


class Lookups:
    """Counters of one namespace. Keys looked up = hits + the sum of misses + those that raised."""

    __slots__ = ("hits", "misses")

    def __init__(self) -> None:
        self.hits = 0
        self.misses = [0] * len(MissReason)
        """A count for each ``MissReason``."""

    def missed(self, reason: Any = MissReason.ABSENT) -> None:
        """Count a miss. A reason that is not known, as a newer node may give, counts as none."""
        known = reason.__class__ in (int, MissReason) and 0 <= reason < len(self.misses)
        self.misses[reason if known else MissReason.ABSENT] += 1

    def __repr__(self) -> str:
        return f"<Lookups hits={self.hits} misses={sum(self.misses)}>"
