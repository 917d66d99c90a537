"""Shedding: which nodes have too much to do, and until when they want to be asked for nothing more.

Here lives what a client remembers of ``Overloaded`` answers. Never here: waiting (``answers``), or who is asked instead.

A node that sheds is well, so first requests go to it as ever; only what a client would send beyond them, to repeat or to hedge,
is kept from it for the time it has named. One that has been refusing for longer than it tells others to wait is in more than a
burst: to wait for it would only keep the queue long, so its refusal is final ("Handling Overload" in Beyer et al., *Site
Reliability Engineering*, 2016: where the whole service has too much to do, errors go up to the caller).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from kvcache_client.protocol.errors import Overloaded

__all__ = ["Shedding"]

_LONGEST_SECONDS: Final = 5.0
"""A node is not left alone for longer than this, whatever it says."""


class _Refusal(NamedTuple):
    error: Overloaded
    since: float
    """When the first of those that came without a break was met (monotonic seconds)."""
    until: float


class Shedding:
    """The nodes that shed load at the moment. ``refusals`` is empty in good times; old ones are harmless."""

    __slots__ = ("_clock", "refusals")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.refusals: dict[str, _Refusal] = {}

    def refused(self, node: str, error: Overloaded) -> None:
        """Note that a node has refused a request because it has too much to do."""
        seconds = min(error.retry_after, _LONGEST_SECONDS)
        if not seconds:
            return
        now = self._clock()
        held = self.refusals.get(node)
        since = held.since if held is not None and now <= held.until + seconds else now
        self.refusals[node] = _Refusal(error, since, now + seconds)

    def refusal(self, node: str) -> Overloaded | None:
        """Return what a node has said if it still wants to be left alone, else None."""
        held = self.refusals.get(node)
        return held.error if held is not None and self._clock() < held.until else None

    def any_of(self, nodes: Iterable[str]) -> bool:
        """Say whether one of ``nodes`` wants to be left alone."""
        return bool(self.refusals) and any(self.refusal(node) is not None for node in nodes)

    def lasts(self, node: str) -> bool:
        """Say whether a node has been refusing for longer than it tells others to wait."""
        held = self.refusals.get(node)
        return held is not None and self._clock() - held.since > min(held.error.retry_after, _LONGEST_SECONDS)

    def forget(self, nodes: Iterable[str]) -> None:
        """Know nothing of ``nodes``: other processes have taken their places."""
        for node in nodes:
            self.refusals.pop(node, None)

    def __repr__(self) -> str:
        return f"<Shedding {sorted(node for node in list(self.refusals) if self.refusal(node) is not None)}>"
