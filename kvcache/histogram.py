"""Histogram: how many values lay between which bounds.

Here lives the counting and its plain form, which STATS carries and Prometheus reads. Never here: what is measured, or a clock.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Any, Final

__all__ = ["LAG_SECONDS", "SERVICE_SECONDS", "Histogram"]

SERVICE_SECONDS: Final = (*(step * 10.0**power for power in range(-6, 0) for step in (1, 2.5, 5)), 1.0, 10.0)
"""Bounds for what a node does itself: a microsecond for a get, and for a repair whatever it takes."""

LAG_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Bounds for how late an event loop is."""


class Histogram:
    """Counts of values up to each of ``bounds``, which rise, and of those above; a value at a bound is below it."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float, times: int = 1) -> None:
        """Count a value, perhaps several times."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.sum += value * times

    @property
    def count(self) -> int:
        """How many values were counted."""
        return sum(self.counts)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data: ``buckets`` maps each bound to the number of values up to it, the last being +Inf."""
        buckets, up_to = {}, 0
        for bound, count in zip((*map(_text, self.bounds), "+Inf"), self.counts, strict=True):
            up_to += count
            buckets[bound] = up_to
        return {"count": up_to, "sum": self.sum, "buckets": buckets}

    def __repr__(self) -> str:
        return f"<Histogram count={self.count} sum={self.sum:g}>"


def _text(bound: float) -> str:
    return f"{bound:.6g}"
