"""Stamps: the versions that a node gives.

Here lives the rule that what a node decides is newer than all that it has seen of the key. Never here: deciding, or the clock.
"""

from __future__ import annotations

from kvcache_client.protocol.record import version_of
from kvcache_client.protocol.version import HybridClock

__all__ = ["stamp_above"]


def stamp_above(clock: HybridClock, standing: bytes | None) -> int:
    """Return a version above that of ``standing``, the record or tombstone of the key, if there is one."""
    if standing is not None:
        clock.observe(version_of(standing))
    return clock.stamp()
