"""The figures that we want to reach, as a table, and whether a measurement reaches them.

Here lives the only copy of these numbers. Never here: measuring or printing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from loadtests.bench.turns import Outcome

__all__ = ["GOALS", "OURS", "AtLeast", "AtMost", "Verdict", "judge"]

OURS: Final = "kvcache"
"""The contestant that the goals speak of."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One goal, what was measured, and whether it is reached; None if nothing could be measured."""

    wanted: str
    measured: float | None
    reached: bool | None


@dataclass(frozen=True, slots=True)
class AtLeast:
    """Our figure is at least ``factor`` times the best of ``peers``."""

    factor: float
    peers: tuple[str, ...]

    def judge(self, outcome: Outcome) -> Verdict:
        """Return the verdict on ``outcome``."""
        ratio = outcome.ratio(OURS, self.peers)
        reached = None if ratio is None else ratio >= self.factor
        return Verdict(f"{self.factor:g}x {'/'.join(self.peers)}", ratio, reached)


@dataclass(frozen=True, slots=True)
class AtMost:
    """Our figure is at most ``limit``."""

    limit: float
    unit: str

    def judge(self, outcome: Outcome) -> Verdict:
        """Return the verdict on ``outcome``."""
        figure = outcome.medians.get(OURS)
        reached = None if figure is None else figure <= self.limit
        return Verdict(f"<= {self.limit:g} {self.unit}", figure, reached)


_ASYNC_50: Final = (AtLeast(7, ("redis-py",)), AtLeast(2, ("aiomcache", "emcache")))

GOALS: Final[Mapping[str, tuple[AtLeast | AtMost, ...]]] = {
    "async-get-1": (AtLeast(1.5, ("redis-py",)),),
    "async-set-1": (AtLeast(1.5, ("redis-py",)),),
    "async-get-50": _ASYNC_50,
    "async-set-50": _ASYNC_50,
    "cluster-get-50": (AtLeast(7, ("redis-py",)),),
    "cluster-set-50": (AtLeast(4, ("redis-py",)),),
    "blocking-get": (AtLeast(2.2, ("redis-py",)), AtLeast(0.9, ("pymemcache",))),
    "blocking-get-many": (AtLeast(1.5, ("pymemcache",)), AtLeast(0.5, ("redis-py",))),
    "capacity-get-16": (AtLeast(0.4, ("redis-server",)),),
    "capacity-get-1": (AtLeast(0.35, ("redis-server",)),),
    "memory-record": (AtMost(200, "B"),),
    "memory-budget": (AtMost(1.1, "x budget"),),
}
"""Work -> its goals. A work without a row is measured for its own sake."""


def judge(outcome: Outcome) -> list[Verdict]:
    """Return the verdict on every goal of this work."""
    return [goal.judge(outcome) for goal in GOALS.get(outcome.work, ())]
