"""Timelines: a recording as series over the seconds of its run.

Here lives turning cells into points. Never here: drawing, or what is shown. The first and the last second of a run are not whole,
and are left out.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from loadtests.run.recording import BAD, NOT_BEGUN, Cell, Place, Recording, histogram_of
from loadtests.users.ledger import Verdict

__all__ = ["Point", "Timelines"]

Point = tuple[float, float]
_HITS = (Verdict.HIT, Verdict.STALE_HIT)


class Timelines:
    """Series of one recording; x is seconds since ``began``, a moment of the wall clock."""

    def __init__(self, recording: Recording, began: float) -> None:
        self._recording = recording
        self._began = began
        seconds = [place.second for place in recording.cells]
        first, last = (min(seconds), max(seconds)) if seconds else (0, -1)
        self.seconds: Sequence[int] = range(first + 1, last) if last - first >= 3 else range(first, last + 1)
        """The whole seconds of the wall clock that were recorded."""

    def x(self, second: float) -> float:
        """Return where a moment of the wall clock stands."""
        return second - self._began

    def rates(self, of: Callable[[Place], str | None]) -> dict[str, list[Point]]:
        """Return operations per second of each group that ``of`` names; None is left out."""
        counts: defaultdict[str, Counter[int]] = defaultdict(Counter)
        for place, cell in self._recording.cells.items():
            group = of(place)
            if group is not None and place.outcome != NOT_BEGUN:
                counts[group][place.second] += cell.count
        return {group: self._points(counted) for group, counted in sorted(counts.items())}

    def latencies(self, verb: str, fractions: Mapping[str, float]) -> dict[str, list[Point]]:
        """Return percentiles of a verb in milliseconds, by name; a second without answers is a gap."""
        cells: defaultdict[int, list[Cell]] = defaultdict(list)
        for place, cell in self._recording.select(verb):
            cells[place.second].append(cell)
        series: dict[str, list[Point]] = {name: [] for name in fractions}
        for second in self.seconds:
            histogram = histogram_of(cells[second])
            for name, fraction in fractions.items():
                y = histogram.percentile(fraction) * 1e3 if histogram.count else math.nan
                series[name].append((self.x(second), y))
        return series

    def hit_ratio(self, verbs: Iterable[str]) -> list[Point]:
        """Return hits among what was read and answered, 0 to 1."""
        hits, all_of_it, wanted = Counter[int](), Counter[int](), set(verbs)
        for place, cell in self._recording.cells.items():
            if place.verb in wanted and place.outcome not in BAD | {NOT_BEGUN}:
                all_of_it[place.second] += cell.count
                hits[place.second] += cell.count if place.outcome in _HITS else 0
        return [
            (self.x(second), hits[second] / all_of_it[second] if all_of_it[second] else math.nan)
            for second in self.seconds
        ]

    def misses(self) -> dict[str, list[Point]]:
        """Return misses per second by their reason."""
        counts: defaultdict[str, Counter[int]] = defaultdict(Counter)
        for (second, reason), count in self._recording.reasons.items():
            counts[reason][second] += count
        return {reason: self._points(counted) for reason, counted in sorted(counts.items())}

    def level(self, y: float) -> list[Point]:
        """Return a level line."""
        return [(self.x(second), y) for second in self.seconds]

    def _points(self, counted: Mapping[int, int]) -> list[Point]:
        return [(self.x(second), float(counted.get(second, 0))) for second in self.seconds]

    def __repr__(self) -> str:
        return f"<Timelines of {len(self.seconds)} s>"
