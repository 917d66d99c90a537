"""Fences: the last guard against a lock holder that does not know that it has lost its lock.

Here lives the highest fence that this node has seen for each resource. Never here: handing fences out (the coordinator does).

A paused holder can't be stopped by a lease: it may wake up at any line and go on. So every command carries the number that the
lock gave out, and whoever has seen a higher one refuses (Kleppmann, "How to do distributed locking", 2016).
"""

from __future__ import annotations

from typing import Final

from kvcache.service.checks import shown
from kvcache_client.protocol.errors import InvalidOption, MalformedFrame, StaleFence

__all__ = ["FENCE_JUMP", "Fences"]

FENCE_JUMP: Final = 1 << 32
"""How far a fence may be above the highest one seen. A node may have missed any number of locks, but not so many; and one that
somebody made up must not use up the numbers that are left, of which there are 2**21 times as many."""


class Fences:
    """The highest fence by resource, and how many commands were refused."""

    __slots__ = ("highest", "refused")

    def __init__(self) -> None:
        self.highest: dict[str, int] = {}
        self.refused = 0

    def check(self, resource: str, fence: object) -> int:
        """Return ``fence`` and remember it.

        Raises ``StaleFence`` if a higher one was here before, ``InvalidOption`` for one that no lock can have given out.
        """
        if type(fence) is not int or fence < 1:
            raise MalformedFrame(f"a fence is a positive integer, not {shown(fence)}")
        seen = self.highest.get(resource, 0)
        if fence > seen + FENCE_JUMP:
            raise InvalidOption(
                f"fence {fence} of {resource}: no lock has given that out, the highest seen is {seen}", detail=seen
            )
        if fence < seen:
            self.refused += 1
            raise StaleFence(f"fence {fence} of {resource}: a holder with fence {seen} was here already", detail=seen)
        self.highest[resource] = fence
        return fence

    def saw(self, resource: str, fence: int) -> None:
        """Remember a fence that others report."""
        if fence > self.highest.get(resource, 0):
            self.highest[resource] = fence

    def __repr__(self) -> str:
        return f"<Fences {self.highest} refused={self.refused}>"
