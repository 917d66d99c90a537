"""Overload: what is refused so that the rest is answered in time.

Here lives the decision, by the age of requests. Never here: refusing (``stream``, ``http``).

Requests wait where nobody counts them: in the sockets, while the event loop is busy with others. How late a timer fires is how
long they wait, whatever keeps the loop busy. A burst passes; a queue that stays only grows older, until its requests are
answered after their callers have gone (Nichols and Jacobson, "Controlling Queue Delay", 2012: it is the lowest delay of an
interval that tells). So when every look of ``shed_after_seconds`` has found the loop over ``queue_seconds`` late, requests of
clients that have waited longer than that in this turn of the loop are answered ``Overloaded`` instead of carried out, which
costs a fraction, until a look finds the loop in time. In good times all this costs one comparison for all that one read brings.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from kvcache.events import journal
from kvcache.transport.limits import StreamLimits
from kvcache_client.protocol.errors import Overloaded

__all__ = ["Overload"]

_LOOK_SECONDS: Final = 0.02


class Overload:
    """Whether this node sheds load at the moment. ``loop`` is the one that serves, ``now`` a monotonic clock in seconds."""

    def __init__(
        self, limits: StreamLimits, loop: asyncio.AbstractEventLoop, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.active = False
        self.shed = 0
        """Requests refused for the age of what waits."""
        self._limits = limits
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._late_since = 0.0
        self._turn_began = 0.0
        self._now = now

    def start(self) -> None:
        """Begin to look."""
        self._due = self._now() + _LOOK_SECONDS
        self._timer = self._loop.call_later(_LOOK_SECONDS, self._look)

    def stop(self) -> None:
        """End. Safe to call again."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        now = self._now()
        self.judge(now - self._due, now)
        self.start()

    def judge(self, late: float, now: float) -> None:
        """Take one look: the loop is ``late`` seconds behind at ``now``."""
        if late <= self._limits.queue_seconds:
            self._late_since, self.active = 0.0, False
        elif not self._late_since:
            self._late_since = now
        elif not self.active and now - self._late_since >= self._limits.shed_after_seconds:
            self.active = True
            journal.say("overloaded", late_ms=round(late * 1000), at=now)

    def refuses(self, requests: int) -> Overloaded | None:
        """Return the answer to requests that have waited too long in this turn of the loop; None if they have not.

        To be asked only while ``active``: the first who asks begins the turn, and what is called soon ends it.
        """
        now = self._now()
        if not self._turn_began:
            self._turn_began = now
            self._loop.call_soon(self._end_turn)
        if now - self._turn_began <= self._limits.queue_seconds:
            return None
        self.shed += requests
        milliseconds = round(self._limits.retry_after_seconds * 1000)
        return Overloaded(f"requests wait longer than they may; ask again in {milliseconds} ms", detail=milliseconds)

    def _end_turn(self) -> None:
        self._turn_began = 0.0

    def __repr__(self) -> str:
        return f"<Overload {'shedding' if self.active else 'none'} shed={self.shed}>"
