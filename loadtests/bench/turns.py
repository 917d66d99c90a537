"""Taking turns: who is measured when, and what remains of the samples.

Here lives the order of a measurement and its median. Never here: what is measured, a server, or a socket.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

__all__ = ["Contestant", "Outcome", "take_turns", "warm_up_seconds"]


@dataclass(frozen=True, slots=True)
class Contestant:
    """Someone to measure: ``run(seconds)`` works for about that long and returns its figure."""

    name: str
    run: Callable[[float], float]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one work measured: every sample, by contestant, in the order of the rounds."""

    work: str
    samples: Mapping[str, Sequence[float]]

    @property
    def medians(self) -> dict[str, float]:
        """The figure of each contestant."""
        return {name: median(samples) for name, samples in self.samples.items() if samples}

    def ratio(self, name: str, others: Sequence[str], *, lower_is_better: bool = False) -> float | None:
        """Return the figure of ``name`` over the best of ``others``; None where either was not measured."""
        best = self.best(others, lower_is_better=lower_is_better)
        mine = self.medians.get(name)
        return mine / self.medians[best] if mine is not None and best and self.medians[best] else None

    def best(self, names: Sequence[str], *, lower_is_better: bool = False) -> str | None:
        """Return which of ``names`` has the best figure."""
        measured = [name for name in names if name in self.medians]
        choose = min if lower_is_better else max
        return choose(measured, key=self.medians.__getitem__) if measured else None


def warm_up_seconds(seconds: float) -> float:
    """Return how long a contestant warms up before a turn of ``seconds``."""
    return max(0.1, seconds / 5)


def take_turns(
    contestants: Sequence[Contestant],
    rounds: int,
    seconds: float,
    finished: Callable[[str], None],
    *,
    warm_up: bool = True,
    broke: Callable[[str, Exception], None],
) -> dict[str, list[float]]:
    """Measure each contestant once a round, in an order that rotates by one; ``finished`` hears of each turn.

    One that raises is out, with all its samples; ``broke`` hears why, and the others go on.
    """
    samples: dict[str, list[float]] = {contestant.name: [] for contestant in contestants}
    for number in range(rounds):
        first = number % len(contestants)
        for contestant in (*contestants[first:], *contestants[:first]):
            if contestant.name in samples:
                try:
                    samples[contestant.name].append(_turn(contestant, seconds, warm_up))
                except Exception as error:
                    del samples[contestant.name]
                    broke(contestant.name, error)
            finished(contestant.name)
    return samples


def _turn(contestant: Contestant, seconds: float, warm_up: bool) -> float:
    if warm_up:
        contestant.run(warm_up_seconds(seconds))
    gc.collect()
    return contestant.run(seconds)
