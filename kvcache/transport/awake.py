"""Staying awake: a node looks for the next request for a moment before it sleeps.

Here lives how it is done, and when others are in need of the core. Never here: whether it pays (``core.busy_polling``), or how a
client does the same (``kvcache_client.bodies.awake``).

There is one for all connections of a node. Every turn gives way to whoever waits for this core, and if somebody did, staying
awake was a loss even if a request came: where there are more nodes and clients than cores it would cost them more than it brings
here. The moment is twice that of a client: it should outlast a client that sleeps (up to 60 us until it is woken) and then works
(20 to 40 us). With half of it each waits too short a time for the other, and neither learns that it pays.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import Final

from kvcache.transport.counters import StreamCounters
from kvcache_client.bodies.awake import cores
from kvcache_client.core.busy_polling import BusyPolling

__all__ = ["AwakeNode"]

_OTHERS_RAN: Final = 15e-6
"""Seconds without the core from which on somebody else has worked on it; an interrupt takes less."""


class AwakeNode:
    """Keeps the event loop of a node turning after its replies. All clocks are in seconds."""

    __slots__ = (
        "_answered", "_began", "_counters", "_give_way", "_loop", "_now", "_polling", "_worked", "_worked_then", "turning",
        "turns",
    )  # fmt: skip

    def __init__(
        self,
        counters: StreamCounters,
        loop: asyncio.AbstractEventLoop,
        seconds: float,
        now: Callable[[], float] = time.perf_counter,
        worked: Callable[[], float] = time.thread_time,
        give_way: Callable[[], object] = os.sched_yield,
    ) -> None:
        self.turning = not seconds or cores() < 2
        """Whether it keeps the loop turning already, or never does: then it need not be told of replies."""
        self.turns = 0
        """Looks for a request so far."""
        self._polling = BusyPolling(seconds)
        self._counters = counters
        self._loop = loop
        self._now = now
        self._worked = worked
        self._give_way = give_way
        self._answered = 0
        self._began = self._worked_then = 0.0

    def replied(self) -> None:
        """What one read brought is answered. To be called only while not ``turning``."""
        if self._polling.begins():
            self.turning = True
            self._loop.call_soon(self._begin)  # once everything is answered that came with it

    def _begin(self) -> None:
        self._answered = self._counters.requests
        self._began = self._now()
        self._worked_then = self._worked()
        self._again()

    def _again(self) -> None:
        self.turns += 1
        self._give_way()
        self._loop.call_soon(self._look)

    def _look(self) -> None:
        came = self._counters.requests != self._answered
        if not came and self._now() - self._began < self._polling.seconds:
            self._again()
            return
        lost = (self._now() - self._began) - (self._worked() - self._worked_then)
        # What the first look finds pays too, though a sleep would not have begun: of four callers the others are soon to follow.
        paid = came and lost < _OTHERS_RAN
        self._polling.ended(paid)
        if paid:  # and what came is answered: the next wait
            self._begin()
        else:
            self.turning = False

    def __repr__(self) -> str:
        return f"<AwakeNode {'turning' if self.turning else 'resting'} turns={self.turns} {self._polling!r}>"
