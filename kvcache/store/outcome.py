"""What a put did, and why a get found nothing.

Here live the enumerations that ``Store`` answers with. Never here: statuses of the wire.
"""

from __future__ import annotations

from enum import IntEnum

__all__ = ["Missing", "Put"]


class Put(IntEnum):
    """The outcome of a put, of values and tombstones alike."""

    REPLACED = 0
    """Kept; a live value was there before."""
    CREATED = 1
    """Kept; nothing live was there."""
    SAME = 2
    """Nothing changed: this very record is there, or one of the same version that wins the tie."""
    OLDER = 3
    """Nothing changed: a newer version is there."""


class Missing(IntEnum):
    """Why there is no live record of a key, as far as the store remembers; the numbers are those of the wire."""

    ABSENT = 0
    """It was never here, or all traces of it are gone."""
    EXPIRED = 1
    DELETED = 2
    EVICTED = 3
    """It went for want of memory not long ago: the ghost of the eviction policy has a trace of it."""
