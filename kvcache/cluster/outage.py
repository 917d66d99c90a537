"""Outage: how a task bears that coordination is away: it waits, longer each time, and says so once.

Here lives the back-off and its two log lines. Never here: what failed, or the waiting itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from kvcache.events import journal
from kvcache_client.protocol.errors import KvCacheError

__all__ = ["BACKOFF_SECONDS", "Outage", "delays"]

BACKOFF_SECONDS: Final = (0.05, 2.0)
"""The first and the longest wait after a failure."""


def delays(jitter: Callable[[], float]) -> Iterator[float]:
    """Yield the waits of one back-off in seconds: doubling, bounded, each shortened by up to half at random.

    ``jitter`` draws from [0, 1). It keeps many nodes from asking a server that came back in the same instant.
    """
    wait, longest = BACKOFF_SECONDS
    while True:
        yield wait * (0.5 + jitter() / 2)
        wait = min(longest, wait * 2)


class Outage:
    """A stretch of failures of one task, logged when it begins and when it ends."""

    def __init__(self, consequence: str, jitter: Callable[[], float]) -> None:
        self.consequence = consequence
        self.failures = 0
        self._jitter = jitter
        self._delays = delays(jitter)

    def failed(self, error: KvCacheError) -> float:
        """Count a failure, log the first, and return the seconds to wait before the next attempt."""
        self.failures += 1
        if self.failures == 1:
            journal.say("coordination_lost", consequence=self.consequence, error=error)
        return next(self._delays)

    def over(self) -> None:
        """Start afresh after a success, and log it if there were failures."""
        if self.failures:
            journal.say("coordination_back", failures=self.failures)
            self.failures = 0
            self._delays = delays(self._jitter)

    def __repr__(self) -> str:
        return f"<Outage {self.consequence!r} failures={self.failures}>"
