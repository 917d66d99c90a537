"""Misses: what a node adds to the word that a key has no value.

Here lives the form of the reason on the wire. Never here: how it is known (``store``).
"""

from __future__ import annotations

from typing import Any, Final

from kvcache.store.outcome import Missing
from kvcache_client.protocol.verbs import Status

__all__ = ["miss"]

_MISS: Final = int(Status.MISS)


def miss(number: int, reason: Missing) -> tuple[Any, ...]:
    """Return the reply to a read that found nothing; that nothing is known of the key needs no field."""
    return (number, _MISS, int(reason)) if reason else (number, _MISS)
