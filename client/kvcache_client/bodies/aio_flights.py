"""Flights in asyncio: one computation of a value for all tasks that want it at once.

Here lives running the caller's function and sharing what comes of it. Never here: when a value is computed (``core.computing``).

A flight is a task of its own, so a caller that is cancelled leaves it to the others. With the last of them it is cancelled too.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from typing import Any

from kvcache_client.core.brain import Brain
from kvcache_client.core.effects import Ask, Load, Loaded, Parting, Plan, Share, Shared

__all__ = ["AsyncFlights", "load"]


async def load(effect: Load) -> Loaded:
    """Call the function; what it returns may be awaitable."""
    try:
        value = effect.function()
        return Loaded(await value if inspect.isawaitable(value) else value)
    except Exception as error:  # noqa: BLE001  # the caller's own code: whatever it raises is the outcome
        return Loaded(error=error)


class _Flight:
    __slots__ = ("passengers", "task", "until")

    def __init__(self, task: asyncio.Task[Shared], until: float) -> None:
        self.task = task
        self.until = until
        self.passengers = 0


class AsyncFlights:
    """The computations under way in one session. ``post`` sends a request whose answer nobody waits for."""

    def __init__(
        self, brain: Brain, run: Callable[[Plan[Any]], Coroutine[Any, Any, Any]], post: Callable[[Ask], None]
    ) -> None:
        self._brain = brain
        self._run = run
        self._post = post

    async def share(self, share: Share) -> Shared | None:
        """Drive the plan, or wait for the call that does."""
        now = self._brain.clock()
        under_way: _Flight | None = self._brain.flights.get(share.name)
        mine = under_way is None or under_way.task.done() or now >= under_way.until
        if not mine and not share.wait:
            return None
        flight = self._begin(share, now) if mine or under_way is None else under_way
        flight.passengers += 1
        try:
            await asyncio.wait((flight.task,), timeout=None if mine else flight.until - now)
        finally:
            flight.passengers -= 1
            if not flight.passengers and not flight.task.done():
                flight.task.cancel()
        if not flight.task.done() or flight.task.cancelled():
            return None
        shared: Shared = flight.task.result()
        return shared._replace(mine=mine)

    def _begin(self, share: Share, now: float) -> _Flight:
        task = asyncio.get_running_loop().create_task(self._fly(share), name="kvcache computation")
        flight = self._brain.flights[share.name] = _Flight(task, now + share.seconds)
        task.add_done_callback(lambda _: self._landed(share.name, flight))
        return flight

    async def _fly(self, share: Share) -> Shared:
        parting = Parting()
        try:
            return Shared(await self._run(share.plan(parting)))
        except Exception as error:  # noqa: BLE001  # it goes to every caller
            return Shared(error=error)
        except BaseException:
            for node in parting.nodes:
                self._post((node, parting.ask))
            raise

    def _landed(self, name: bytes, flight: _Flight) -> None:
        if self._brain.flights.get(name) is flight:
            del self._brain.flights[name]

    async def close(self) -> None:
        """Break off what is under way."""
        tasks = [flight.task for flight in self._brain.flights.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def __repr__(self) -> str:
        return f"<AsyncFlights {len(self._brain.flights)}>"
