"""Figures: medians of turns, ratios of medians, and whether they reach what is wanted.

Here lives arithmetic. Never here: measuring or showing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from loadtests.compare.systems import OURS
from loadtests.compare.users import Turn

__all__ = ["GOALS", "Comparison", "Goal", "Verdict", "judge"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One mix: the turns of each system, in the order of the rounds."""

    mix: str
    turns: Mapping[str, Sequence[Turn]]

    def median_of(self, system: str, figure: Callable[[Turn], float]) -> float | None:
        """Return the median of a figure over the turns of a system; None if it has none."""
        turns = self.turns.get(system)
        return median(map(figure, turns)) if turns else None

    def ratio(self, other: str, figure: Callable[[Turn], float]) -> float | None:
        """Return our median over another's."""
        mine, theirs = self.median_of(OURS, figure), self.median_of(other, figure)
        return mine / theirs if mine is not None and theirs else None

    def verbs(self) -> list[str]:
        """Return the verbs that were called, the most frequent first."""
        return next((turn.recording.verbs() for turns in self.turns.values() for turn in turns), [])

    def document(self) -> dict[str, Any]:
        """Return everything as JSON-able data."""
        return {
            "mix": self.mix,
            "systems": {
                name: {
                    "per_second": [turn.per_second for turn in turns],
                    "per_cpu_second": [turn.per_cpu_second for turn in turns],
                    "p50_ms": [turn.latency_ms(0.5) for turn in turns],
                    "p99_ms": [turn.latency_ms(0.99) for turn in turns],
                    "verbs": {verb: self._verb(turns, verb) for verb in self.verbs()},
                    "failed": sum(turn.failed for turn in turns),
                    "wrong": sum(turn.wrong for turn in turns),
                }
                for name, turns in self.turns.items()
            },
            "goals": [{"wanted": it.goal.text, "measured": it.measured, "reached": it.reached} for it in judge(self)],
        }

    @staticmethod
    def _verb(turns: Sequence[Turn], verb: str) -> dict[str, Any]:
        marks = {"p50_ms": 0.5, "p99_ms": 0.99}
        return {name: [turn.latency_ms(share, verb) for turn in turns] for name, share in marks.items()}


@dataclass(frozen=True, slots=True)
class Goal:
    """A ratio to one system that is wanted: at least, or at most for latencies."""

    text: str
    other: str
    figure: Callable[[Turn], float]
    bound: float
    at_most: bool = False


def _p99(turn: Turn) -> float:
    return turn.latency_ms(0.99)


def _rate(turn: Turn) -> float:
    return turn.per_second


GOALS: Final = (
    Goal("requests/s >= 1.5 x redis-py", "redis", _rate, 1.5),
    Goal("requests/s >= 1 x HashClient", "memcached", _rate, 1.0),
    Goal("p99 <= redis-py's", "redis", _p99, 1.0, at_most=True),
    Goal("p99 <= HashClient's", "memcached", _p99, 1.0, at_most=True),
)
"""What is wanted of each mix."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A goal and what was measured; ``reached`` is None where it could not be."""

    goal: Goal
    measured: float | None

    @property
    def reached(self) -> bool | None:
        """Whether the measured ratio is within the bound."""
        if self.measured is None:
            return None
        return self.measured <= self.goal.bound if self.goal.at_most else self.measured >= self.goal.bound


def judge(comparison: Comparison) -> list[Verdict]:
    """Return the goals with what was measured."""
    return [Verdict(goal, comparison.ratio(goal.other, goal.figure)) for goal in GOALS]
