"""The breaker: which nodes answer, but so badly that reads had better go elsewhere.

Here lives opening, probing and closing, fed by the data path. Never here: nodes that can't be reached at all (``health``).

A node is open for reads after three failures that make up at least half of what it answered meanwhile (where many calls are under
way, answers are not "in a row"), or when its 95th percentile has been over five times that of its peers for a second. Writes
still go to it: its copy must stay whole. ::

    closed --failures, or slow for a second--> open --wait (0.2 to 5 s, jittered)--> half-open: one read as a probe
       ^                                         ^---too slow, or no answer-------------|
       `--------------------------- a real answer in good time ------------------------'

After Nygard, *Release It!* (2007), "Circuit Breaker".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median
from typing import Final

from kvcache_client.core.nodes import HEDGE_FLOOR, Nodes
from kvcache_client.core.retry import Backoff

__all__ = ["Breaker", "Opened"]

_FAILURES: Final = 3
_WINDOW_REPLIES: Final = 200
_TIMES_SLOWER: Final = 5.0
_SLOW_FOR_SECONDS: Final = 1.0
_TIMES_PEERS: Final = 3.0
"""A hedge does not wait for longer than this many times the 95th percentile of the peers: a node that is always slow has a high
percentile of its own."""

_PROBING: Final = Backoff(0.2, 5.0)


@dataclass(slots=True)
class Opened:
    """Why and since when (monotonic seconds) reads avoid a node, and when one may try it again."""

    reason: str
    since: float
    attempts: int
    retry_at: float


class Breaker:
    """The breakers of all nodes. Those in ``opened`` are open.

    Threads may report at the same time and without a lock, so every change of a dict is one step of it.
    """

    __slots__ = ("_clock", "_nodes", "_random", "_slow_since", "_windows", "opened")

    def __init__(self, clock: Callable[[], float], random: Callable[[], float], nodes: Nodes) -> None:
        self._clock = clock
        self._random = random
        self._nodes = nodes
        self._slow_since: dict[str, float] = {}
        self._windows: dict[str, tuple[int, int]] = {}
        """Node -> (failures, its count of replies when the first of them came)."""
        self.opened: dict[str, Opened] = {}

    def failed(self, node: str, reason: str) -> None:
        """Note an answer that was a failure, or did not come."""
        replies = self._nodes[node].replies
        failures, began = self._windows.get(node, (0, replies - self._nodes[node].batch))
        if replies - began > _WINDOW_REPLIES:
            failures, began = 0, replies - self._nodes[node].batch
        failures += 1
        self._windows[node] = failures, began
        if failures >= _FAILURES and 2 * failures >= replies - began:
            self._open(node, reason)

    def watch(self, now: float) -> None:
        """Compare the nodes with each other; called a few times a second."""
        known = {node: state.p95 for node, state in self._nodes.copy().items() if state.p95}
        for node, p95 in known.items():
            peers = [other for name, other in known.items() if name != node]
            usual = median(peers) if peers else p95
            self._nodes[node].hedge_after = max(HEDGE_FLOOR, min(p95, _TIMES_PEERS * usual))
            if p95 <= max(HEDGE_FLOOR, _TIMES_SLOWER * usual):
                self._slow_since.pop(node, None)
            elif now - self._slow_since.setdefault(node, now) >= _SLOW_FOR_SECONDS and node not in self.opened:
                self._open(node, f"slow: 95 % within {p95 * 1000:.1f} ms, its peers {usual * 1000:.1f} ms")

    def _open(self, node: str, reason: str) -> None:
        now = self._clock()
        if node not in self.opened:
            self.opened.setdefault(node, Opened(reason, now, 1, now + _PROBING.delay(1, self._random)))

    def due(self, owners: Iterable[str]) -> str | None:
        """Return one of ``owners`` that is open and may be tried by one read now; only that caller gets it."""
        now = self._clock()
        for node in owners:
            entry = self.opened.get(node)
            if entry is not None and entry.retry_at <= now:
                entry.attempts += 1
                entry.retry_at = now + _PROBING.delay(entry.attempts, self._random)
                return node
        return None

    def probed(self, node: str, seconds: float) -> None:
        """Note that a probe was answered, after so many seconds. In good time, it closes the breaker."""
        peers = [state.p95 for name, state in self._nodes.copy().items() if name != node and state.p95]
        if seconds <= max(HEDGE_FLOOR, _TIMES_SLOWER * median(peers) if peers else 0.0):
            self.close(node)
            self._nodes[node].forget()

    def close(self, node: str) -> None:
        """Let reads go to a node again."""
        self.opened.pop(node, None)
        self._slow_since.pop(node, None)
        self._windows.pop(node, None)

    def start_over(self) -> None:
        """Know nothing of anybody."""
        for node in list(self.opened):
            self.close(node)

    def __repr__(self) -> str:
        return f"<Breaker open={{{', '.join(f'{node}: {it.reason}' for node, it in self.opened.copy().items())}}}>"
