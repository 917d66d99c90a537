"""Rounds and races in asyncio: several requests, one future.

Here lives collecting outcomes. Never here: sending, or time limits.

A task that awaited one future for each request would be woken for each; this wakes it once, when the last outcome is there.
(Two requests are cheaper with two futures: ``aio_session``.)
"""

from __future__ import annotations

import asyncio
from typing import Any

from kvcache_client.bodies.aio_pace import GRACE_SECONDS
from kvcache_client.core.effects import Outcome, Round, Slow
from kvcache_client.core.hedging import is_over
from kvcache_client.core.link import Waiter
from kvcache_client.core.nodes import Nodes

__all__ = ["Direct", "RaceWaiter", "RoundWaiter", "WatchedWaiter"]


class RoundWaiter:
    """Waits for ``size`` outcomes. ``future`` gets the list of them; whoever gives up cancels it."""

    __slots__ = ("future", "left", "outcomes")

    def __init__(self, loop: asyncio.AbstractEventLoop, size: int) -> None:
        self.left = size
        """How many outcomes have not come."""
        self.outcomes: list[Any] = [None] * size
        self.future: asyncio.Future[list[Any]] = loop.create_future()

    def at(self, place: int) -> Waiter:
        """Return the waiter of the outcome at ``place``."""
        return _PlainPlace(self, place)

    def settle(self, place: int, outcome: Outcome) -> None:
        """Take one outcome."""
        self.outcomes[place] = outcome
        self.left -= 1
        if not self.left and not self.future.done():
            self.future.set_result(self.outcomes)

    def __repr__(self) -> str:
        return f"<RoundWaiter left={self.left}/{len(self.outcomes)}>"


class RaceWaiter(RoundWaiter):
    """Waits until the first ``slow`` of its outcomes are answers, or the others. ``future`` gets the list; None has not come."""

    __slots__ = ("_slow",)

    def __init__(self, loop: asyncio.AbstractEventLoop, size: int, slow: int) -> None:
        super().__init__(loop, size)
        self._slow = slow

    def at(self, place: int) -> Waiter:
        """Return the waiter of the outcome at ``place``."""
        return _Place(self, place)

    def is_done(self, place: int) -> bool:
        """Say whether nobody waits for the outcome at ``place`` any more."""
        return self.future.done()

    def settle(self, place: int, outcome: Outcome) -> None:
        """Take one outcome."""
        self.outcomes[place] = outcome
        self.left -= 1
        if not self.future.done() and is_over(self.outcomes[: self._slow], self.outcomes[self._slow :]):
            self.future.set_result(self.outcomes)


class WatchedWaiter(RoundWaiter):
    """Waits for all its outcomes, but no longer than the nodes that have not answered usually take. ``watch`` begins that."""

    __slots__ = ("_asks", "_began", "_due", "_loop", "_nodes", "_overdue", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, asks: Round, nodes: Nodes) -> None:
        super().__init__(loop, len(asks))
        self._asks = asks
        self._nodes = nodes
        self._loop = loop
        self._began = self._due = loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._overdue = False
        """Whether some are slow, and only those are waited for that have longer."""

    def watch(self) -> None:
        """Begin to look who is slow; to be called once all is sent."""
        if self.left:
            nodes = self._nodes
            self._come_again(self._began + min([nodes[node].hedge_after for node, _ in self._asks]))

    def at(self, place: int) -> Waiter:
        """Return the waiter of the outcome at ``place``."""
        return _Place(self, place)

    def is_done(self, place: int) -> bool:
        """Say whether nobody waits for the outcome at ``place`` any more; for one that is slow somebody may."""
        held = self.outcomes[place]
        return held.done() if held.__class__ is Slow else self.future.done()

    def settle(self, place: int, outcome: Outcome) -> None:
        """Take one outcome."""
        outcomes = self.outcomes
        if outcomes[place].__class__ is Slow:
            outcomes[place].set_result(outcome)
            return
        outcomes[place] = outcome
        self.left -= 1
        if not self.left and not self.future.done():
            self.future.set_result(outcomes)
            if self._timer is not None:
                self._timer.cancel()
        elif self._overdue:
            self._review(self._loop.time())

    def _come_again(self, due: float) -> None:
        self._due = due
        self._timer = self._loop.call_at(due, self._look)

    def _look(self) -> None:
        self._timer = None
        if self.future.done():  # whoever waited has gone
            return
        now = self._loop.time()
        if now - self._due > GRACE_SECONDS:
            self._come_again(now + GRACE_SECONDS)
        else:
            self._review(now)

    def _review(self, now: float) -> None:
        """Tell those that are slow if nobody else is waited for; come again when the next one would be slow."""
        if self.future.done():
            return
        waited = now - self._began
        asked = zip(self._asks, self.outcomes, strict=True)
        patience = [self._nodes[node].hedge_after for (node, _), outcome in asked if outcome is None]
        others = [seconds for seconds in patience if seconds > waited]
        if not others:
            self._tell(waited)
            return
        self._overdue = len(others) < len(patience)
        if self._timer is None:
            self._come_again(self._began + min(others))

    def _tell(self, waited: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for place, (node, _) in enumerate(self._asks):
            if self.outcomes[place] is None:
                self._nodes[node].still_waiting(waited)
                self.outcomes[place] = Slow(node, waited)
        self.future.set_result(self.outcomes)


class Direct:
    """Waits for one outcome, however long it takes: nobody tells it that a request is slow."""

    __slots__ = ("done", "future", "set_result")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.future: asyncio.Future[Outcome] = loop.create_future()
        self.done = self.future.done
        self.set_result = self.future.set_result


class _PlainPlace:
    """A place in a round that nobody watches: ``settle`` without the calls."""

    __slots__ = ("_place", "_round", "done")

    def __init__(self, round_: RoundWaiter, place: int) -> None:
        self._round = round_
        self._place = place
        self.done = round_.future.done

    def set_result(self, result: Any, /) -> None:
        """Take the outcome."""
        waiter = self._round
        waiter.outcomes[self._place] = result
        waiter.left = left = waiter.left - 1
        if not left and not waiter.future.done():
            waiter.future.set_result(waiter.outcomes)


class _Place:
    __slots__ = ("_place", "_round")

    def __init__(self, round_: RaceWaiter | WatchedWaiter, place: int) -> None:
        self._round = round_
        self._place = place

    def done(self) -> bool:
        return self._round.is_done(self._place)

    def set_result(self, result: Any, /) -> None:
        self._round.settle(self._place, result)
