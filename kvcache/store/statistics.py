"""What a store has done and what it holds.

Here lives the snapshot that metrics and tests read. Never here: the counting itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["StoreStatistics"]


@dataclass(frozen=True, slots=True)
class StoreStatistics:
    """Counters since the start and figures of this moment. These equations always hold::

    gets       == hits + misses
    misses     == the sum of misses_by_reason
    records    == created - deletions - expirations - evictions - dropped
    tombstones == tombstones_made - tombstones_superseded - tombstones_forgotten - tombstones_dropped
    used_bytes includes tombstone_bytes; tombstone_bytes <= tombstone_budget_bytes
    """

    records: int
    """Live records, and expired ones whose memory is not reclaimed yet."""
    tombstones: int
    used_bytes: int
    """Real memory: keys, records and every structure around them."""
    budget_bytes: int
    tombstone_bytes: int
    tombstone_budget_bytes: int
    hits: int
    misses: int
    misses_by_reason: Mapping[str, int]
    """The misses by what the store remembers of their keys: absent, expired, deleted, evicted."""
    created: int
    """Values put where no live one was."""
    deletions: int
    """Live values that a tombstone took away."""
    expirations: int
    """Records reclaimed because their time was over."""
    evictions: int
    """Live records thrown out for want of memory, one that alone exceeds the budget included."""
    dropped: int
    """Records that went with their whole partition, or were forgotten one by one."""
    tombstones_made: int
    """Tombstones kept, by a delete or in place of an expired record."""
    tombstones_superseded: int
    """Tombstones replaced by a newer version, gone with their whole partition, or forgotten one by one."""
    tombstones_forgotten: int
    """Tombstones whose own time was over."""
    tombstones_dropped: int
    """Tombstones given up before their time because their budget was full: the only way an old version can come back."""
