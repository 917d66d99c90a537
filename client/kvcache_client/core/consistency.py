"""Consistency: of how many copies a read or a write must know before it returns.

Here lives the meaning of the levels. Never here: asking those copies (``reading``, ``writing``).

A read at a level asks that many *owners* and takes the newest that they hold. A write acknowledged at a named level is held by
that many owners; a number counts stand-ins too: live processes, whoever they are. So a quorum of reads meets a quorum of
writes in at least one owner (Gifford, "Weighted Voting for Replicated Data", SOSP 1979).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from kvcache_client.protocol.errors import InvalidOption
from kvcache_client.protocol.shown import shown

__all__ = ["LEVELS", "MOST_ACKS", "Acks", "check_acks", "check_level", "copies_needed", "needed_acks"]

Acks = int | str
"""How many live processes must hold a write, or the level that its owners must reach."""

MOST_ACKS: Final = 8

LEVELS: Final[Mapping[str, Callable[[int], int]]] = {
    "one": lambda owners: 1,
    "quorum": lambda owners: owners // 2 + 1,
    "all": lambda owners: owners,
}
"""Level -> how many of so many owners it takes."""


def check_level(level: object) -> str:
    """Return the level of a read, or raise ``InvalidOption``."""
    if not isinstance(level, str) or level not in LEVELS:
        raise InvalidOption(f"consistency={shown(level, 40)}: must be one of {', '.join(LEVELS)}")
    return level


def check_acks(acks: object) -> Acks:
    """Return the acknowledgement level of a write, or raise ``InvalidOption``."""
    if isinstance(acks, str) and acks in LEVELS:
        return acks
    if type(acks) is not int or not 1 <= acks <= MOST_ACKS:
        raise InvalidOption(f"acks={shown(acks, 40)}: must be 1 to {MOST_ACKS}, or one of {', '.join(LEVELS)}")
    return acks


def copies_needed(level: str, owners: int) -> int:
    """Return how many of so many owners ``level`` takes."""
    return LEVELS[level](owners)


def needed_acks(acks: Acks, owners: int, *, asked_for: bool = False) -> int:
    """Return how many copies make a write of a partition with so many owners acknowledged.

    A number goes as far as there are owners; one that was ``asked_for`` by a single call and can never be reached is refused.
    """
    if isinstance(acks, str):
        return copies_needed(acks, owners)
    if asked_for and acks > owners:
        raise InvalidOption(f"acks={acks}: there are only {owners} copies of a key (the replication factor)")
    return min(acks, owners)
