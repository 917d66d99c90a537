"""Health: which nodes this client cannot reach, and when to try each again.

Here lives what the data path taught about nodes. Never here: sockets or timers; bodies report, plans read ``down``.

A node is down for this client from its first failed connection, or its first silence of a whole attempt, until it has
answered again: pings by somebody else prove nothing about our own path to it (Huang et al., "Gray Failure", HotOS'17).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kvcache_client.core.retry import Backoff
from kvcache_client.protocol.errors import KvCacheError

__all__ = ["Down", "Health"]


@dataclass(slots=True)
class Down:
    """Why and since when (monotonic seconds) a node is avoided, and when it is tried next."""

    reason: KvCacheError
    since: float
    failures: int
    retry_at: float


class Health:
    """The nodes that can't be reached. ``down`` is empty in good times, so plans pay one truth test for it.

    Threads may report at the same time and without a lock, so every change of ``down`` is one step of the dict.
    """

    __slots__ = ("_backoff", "_clock", "_random", "down", "errors")

    def __init__(self, clock: Callable[[], float], random: Callable[[], float], backoff: Backoff) -> None:
        self._clock = clock
        self._random = random
        self._backoff = backoff
        self.down: dict[str, Down] = {}
        """Neither reads nor writes go there."""
        self.errors: dict[str, tuple[float, str]] = {}
        """Node -> when (monotonic seconds) and what this client last met there."""

    def met(self, node: str, error: KvCacheError) -> None:
        """Remember an error of a node, for those who look for the reason later."""
        self.errors[node] = self._clock(), f"{type(error).__name__}: {error}"

    def failed(self, node: str, reason: KvCacheError) -> float:
        """Note a failure and return the seconds to wait before the next try."""
        self.met(node, reason)
        now = self._clock()
        entry = self.down.setdefault(node, Down(reason, now, 0, now))
        entry.reason = reason
        entry.failures += 1
        delay = self._backoff.delay(entry.failures, self._random)
        entry.retry_at = now + delay
        return delay

    def answered(self, node: str) -> None:
        """The node has answered: it is used again from now on."""
        self.down.pop(node, None)

    def due(self) -> list[str]:
        """Return the nodes that may be tried again now. Each is handed out once per wait, so callers don't pile up."""
        now = self._clock()
        due = [(node, entry) for node, entry in self._entries() if entry.retry_at <= now]
        for _, entry in due:
            entry.retry_at = now + self._backoff.delay(entry.failures, self._random)
        return [node for node, _ in due]

    def forget(self, members: set[str]) -> None:
        """Keep only what concerns ``members``."""
        for node, _ in self._entries():
            if node not in members:
                self.answered(node)

    def start_over(self) -> None:
        """Know nothing of anybody: after a fork, every connection is made anew."""
        self.down.clear()

    def _entries(self) -> list[tuple[str, Down]]:
        """Return what is in ``down`` at this moment: threads share a blocking client, and may report at any time."""
        # A copy is made in one go; a list of pairs is not, as the collector may run at each of them, and then another thread.
        return list(self.down.copy().items())

    def __repr__(self) -> str:
        return f"<Health down={{{', '.join(f'{node}: {entry.reason}' for node, entry in self._entries())}}}>"
