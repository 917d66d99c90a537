"""What a put did.

Here lives the one enumeration that ``Store.put`` answers with. Never here: statuses of the wire.
"""

from __future__ import annotations

from enum import IntEnum

__all__ = ["Put"]


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
