"""Pace: how fast one asyncio connection is answered, and who waits too long.

Here lives measuring, at most one reading of the clock for each write and each read of the socket, and the one timer that
notices slow requests. Never here: what is done about them (``core.hedging``), or giving them up (``aio_connection``).
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from kvcache_client.core.brain import Brain
from kvcache_client.core.link import Link

__all__ = ["GRACE_SECONDS", "Pace"]

_WRITES_REMEMBERED: Final = 4096
_TOGETHER_SECONDS: Final = 0.0005
_COUNTED_TOGETHER: Final = 64
_SAMPLE_SECONDS: Final = 0.002
"""One answer in so many seconds is measured, and each that took longer than expected."""
GRACE_SECONDS: Final = 0.002
"""A timer that comes later than this tells of a busy event loop: the answers may lie in the socket already."""

_HALF: Final = 1 << 31


class Pace:
    """The stopwatch of one connection in use."""

    __slots__ = (
        *("_brain", "_clock", "_due", "_heard", "_hedging", "_kind", "_last", "_link", "_loop", "_node", "_sent"),
        *("_sample_at", "_timer", "_unchecked"),
    )

    def __init__(self, brain: Brain, link: Link, loop: asyncio.AbstractEventLoop) -> None:
        self._brain = brain
        self._clock = brain.clock
        self._hedging = brain.config.hedging
        self._link = link
        self._loop = loop
        self._node = brain.nodes[link.node]
        self._kind = type(loop.create_future())
        self._sent: deque[tuple[int, float]] = deque(maxlen=_WRITES_REMEMBERED)
        """(newest id, time) of the writes that are not answered yet; those close together count as the first of them."""
        self._unchecked: deque[tuple[int, float]] = deque(maxlen=_WRITES_REMEMBERED)
        """The same of those that were not looked at yet: an answer may be overtaken by later ones, and is late all the same."""
        self._last = link.newest
        self._heard = link.received
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._sample_at = 0.0

    def sent(self) -> None:
        """What was enqueued has just left."""
        newest = self._link.newest
        now = self._clock()
        sent = self._sent
        if sent and now - sent[-1][1] < _TOGETHER_SECONDS:
            sent[-1] = (newest, sent[-1][1])
        else:
            sent.append((newest, now))
        unchecked = self._unchecked
        if unchecked and now - unchecked[-1][1] < _TOGETHER_SECONDS:
            unchecked[-1] = (newest, unchecked[-1][1])
        else:
            unchecked.append((newest, now))
        if newest - self._last >= _COUNTED_TOGETHER or newest < self._last:
            self._brain.sent(max(newest - self._last, 0))
            self._last = newest
        if self._timer is None and self._hedging:
            self._wait_until(now, now + self._node.hedge_after)

    def received(self) -> None:
        """Replies have just been handed out."""
        link = self._link
        self._node.in_flight = link.waiting
        sent = self._sent
        answered = link.answered
        if not sent or answered < sent[0][0] <= answered + _HALF:  # ids wrap at 2^32
            return
        began = sent.popleft()[1]
        while sent and not answered < sent[0][0] <= answered + _HALF:
            began = sent.popleft()[1]
        now = self._clock()
        if now >= self._sample_at or now - began > self._node.ewma:
            self._sample_at = now + _SAMPLE_SECONDS
            self._brain.heard(self._node, now - began, now, link.received - self._heard)
            self._heard = link.received

    def _wait_until(self, now: float, due: float) -> None:
        self._due = due
        self._timer = self._loop.call_later(due - now, self._look)

    def _look(self) -> None:
        """Tell those that wait too long; come again when the next one would."""
        self._timer = None
        now = self._brain.clock()
        if now - self._due > GRACE_SECONDS:
            self._wait_until(now, now + GRACE_SECONDS)
            return
        patience = self._node.hedge_after
        unchecked = self._unchecked
        late = None
        while unchecked and now - unchecked[0][1] >= patience:
            late = unchecked.popleft()
        if late is not None and self._link.waiting:
            self._link.suspect(late[0], self._kind, now - late[1])
            if self._sent and self._sent[0][0] <= late[0]:
                self._node.still_waiting(now - self._sent[0][1])
        if unchecked:
            self._wait_until(now, max(unchecked[0][1] + patience, now + GRACE_SECONDS))

    def stop(self) -> None:
        """The connection has ended."""
        if self._timer is not None:
            self._timer.cancel()

    def __repr__(self) -> str:
        return f"<Pace of {self._node!r}, {len(self._sent)} writes not answered>"
