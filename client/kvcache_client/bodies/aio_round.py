"""Rounds and races in asyncio: several requests, one future.

Here lives collecting outcomes. Never here: sending, or time limits.

A task that awaited one future for each request would be woken for each; this wakes it once, when the last outcome is there.
"""

from __future__ import annotations

import asyncio
from typing import Any

from kvcache_client.core.effects import Outcome
from kvcache_client.core.hedging import is_answer

__all__ = ["Direct", "RaceWaiter", "RoundWaiter"]


class RoundWaiter:
    """Waits for ``size`` outcomes. ``future`` gets the list of them; whoever gives up cancels it."""

    __slots__ = ("_left", "future", "outcomes")

    def __init__(self, loop: asyncio.AbstractEventLoop, size: int) -> None:
        self._left = size
        self.outcomes: list[Outcome | None] = [None] * size
        self.future: asyncio.Future[list[Any]] = loop.create_future()

    def at(self, place: int) -> _Place:
        """Return the waiter of the outcome at ``place``."""
        return _Place(self, place)

    def settle(self, place: int, outcome: Outcome) -> None:
        """Take one outcome."""
        self.outcomes[place] = outcome
        self._left -= 1
        if not self._left and not self.future.done():
            self.future.set_result(self.outcomes)

    def __repr__(self) -> str:
        return f"<RoundWaiter left={self._left}/{len(self.outcomes)}>"


class RaceWaiter(RoundWaiter):
    """Waits for the first of its outcomes that is an answer, or for all. ``future`` gets the list; None has not come."""

    __slots__ = ()

    def settle(self, place: int, outcome: Outcome) -> None:
        """Take one outcome."""
        self.outcomes[place] = outcome
        self._left -= 1
        if (is_answer(outcome) or not self._left) and not self.future.done():
            self.future.set_result(self.outcomes)


class Direct:
    """Waits for one outcome, however long it takes: nobody tells it that a request is slow."""

    __slots__ = ("done", "future", "set_result")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.future: asyncio.Future[Outcome] = loop.create_future()
        self.done = self.future.done
        self.set_result = self.future.set_result


class _Place:
    __slots__ = ("_place", "_round")

    def __init__(self, round_: RoundWaiter, place: int) -> None:
        self._round = round_
        self._place = place

    def done(self) -> bool:
        return self._round.future.done()

    def set_result(self, result: Outcome, /) -> None:
        self._round.settle(self._place, result)
