"""Arrivals: when the next operation is due.

Here lives the open schedule and the closed one. Never here: waiting, or how many users there are.

Closed: an operation is due when its user is free. A slow cache then gets fewer operations, and the waits that those would have
had are never measured (Gil Tene calls it coordinated omission). Open: operations are due at random moments (a Poisson process)
at a given rate, whatever became of those before; latency counts from there, so what waits for a free user has its wait counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from random import Random
from typing import Final

__all__ = ["OpenArrivals"]

_OVERDUE_DRAWS: Final = 20_000


class OpenArrivals:
    """``next()`` is when the next operation is due, in seconds of the clock by which ``start`` was given.

    ``rate(seconds since the start)`` is operations per second, 0 to ``peak``, and not 0 for ever. Moments are drawn at the peak,
    and one is kept with the probability rate / peak, so that the rate of each moment counts and not that of the one before.
    Source: Lewis, Shedler, "Simulation of nonhomogeneous Poisson processes by thinning" (Naval Research Logistics, 1979).
    """

    def __init__(self, rate: Callable[[float], float], peak: float, start: float, dice: Random) -> None:
        self._rate = rate
        self._peak = peak
        self._start = start
        self._dice = dice
        self._due = start

    def next(self) -> float:
        """Return when the next operation is due; it is in the past when all users were too busy for it."""
        return self._step(1)

    def overdue(self, until: float) -> Iterator[tuple[float, int]]:
        """Yield what was due by then and nobody has asked for: moments, and how many operations each stands for.

        That is one, unless there are so many that drawing each would take long: then moments are sums of many gaps.
        """
        together = math.ceil(max(until - self._due, 0.0) * self._peak / _OVERDUE_DRAWS) or 1
        while (due := self._step(together)) <= until:
            yield due, together

    def _step(self, together: int) -> float:
        dice, gap = self._dice, 1 / self._peak
        while True:
            self._due += dice.gammavariate(together, gap)  # of one: the exponential gap of a Poisson process
            if dice.random() * self._peak < self._rate(self._due - self._start):
                return self._due

    def __repr__(self) -> str:
        return f"<OpenArrivals due {self._due - self._start:.3f} s after the start>"
