"""Arrivals: when the next operation is due.

Here lives the open schedule and the closed one. Never here: waiting, or how many users there are.

Closed: an operation is due when its user is free. A slow cache then gets fewer operations, and the waits that those would have
had are never measured (Gil Tene calls it coordinated omission). Open: operations are due at random moments (a Poisson process)
at a given rate, whatever became of those before; latency counts from there, so what waits for a free user has its wait counted.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

__all__ = ["OpenArrivals"]


class OpenArrivals:
    """``next()`` is when the next operation is due, in seconds of the clock by which ``start`` was given.

    ``rate(seconds since the start)`` is operations per second; where it is 0 nothing is due until it rises.
    """

    def __init__(self, rate: Callable[[float], float], start: float, dice: Random) -> None:
        self._rate = rate
        self._start = start
        self._dice = dice
        self._due = start

    def next(self) -> float:
        """Return when the next operation is due; it is in the past when all users were too busy for it."""
        rate = self._rate(self._due - self._start)
        while rate <= 0:
            self._due += 0.1
            rate = self._rate(self._due - self._start)
        self._due += self._dice.expovariate(rate)
        return self._due

    def __repr__(self) -> str:
        return f"<OpenArrivals due {self._due - self._start:.3f} s after the start>"
