"""The recording: what happened, second by second, in a form that many processes' records add up in.

Here lives counting and adding. Never here: clocks, or what a figure means.

Each answer is one count in the cell of its second, verb, node and outcome, and one in a latency histogram of that cell: the
logarithmic buckets of ``histogram``, as a sparse mapping. Buckets are the same everywhere, so adding the records of workers is
exact: the sum is what one process would have recorded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import msgpack

from loadtests.histogram import LatencyHistogram, bucket_of

__all__ = ["BAD", "FAILED", "IN_DOUBT", "NOT_BEGUN", "Cell", "Place", "Recording"]

FAILED: Final = "failed"
"""An operation that was surely not done."""

IN_DOUBT: Final = "in doubt"
"""A write of which nobody knows whether it was applied."""

NOT_BEGUN: Final = "not begun"
"""An operation that was due when the run ended and that no user had come to: no answer, but a latency, its wait so far."""

BAD: Final = frozenset({FAILED, IN_DOUBT})


class Place(NamedTuple):
    """Where an answer is counted. ``second`` is the wall clock's, as many machines share no other."""

    second: int
    verb: str
    node: str
    outcome: str


class Cell:
    """How many answers, and how long they took: bucket -> count. ``name`` is what Locust's tables call such answers."""

    __slots__ = ("buckets", "count", "longest", "name", "total")

    def __init__(self, place: Place) -> None:
        self.name = f"{place.outcome} {place.node}"
        self.count = 0
        self.buckets: dict[int, int] = {}
        self.total = 0.0
        self.longest = 0.0

    def add(self, seconds: float, count: int) -> None:
        """Count ``count`` more that took as long."""
        self.count += count
        self.total += seconds * count
        bucket = bucket_of(seconds)
        self.buckets[bucket] = self.buckets.get(bucket, 0) + count
        self.longest = max(self.longest, seconds)


@dataclass
class Recording:
    """All that was recorded."""

    cells: dict[Place, Cell] = field(default_factory=dict)
    reasons: Counter[tuple[int, str]] = field(default_factory=Counter)
    """(second, why) -> misses."""
    facts: Counter[str] = field(default_factory=Counter)
    """Figures of the whole run: lost, old, wrong, loads, damaged lines, ..."""
    errors: Counter[str] = field(default_factory=Counter)
    """What failed operations said."""

    def note(self, second: int, verb: str, node: str, outcome: str, seconds: float) -> Cell:
        """Count one answer that took ``seconds``; returns where."""
        place = (second, verb, node, outcome)
        cell: Cell | None = self.cells.get(place)  # type: ignore[call-overload]  # a plain tuple equals a Place, and is quicker
        if cell is None:
            made = Place(*place)
            cell = self.cells[made] = Cell(made)
        cell.count += 1
        cell.total += seconds
        bucket = bucket_of(seconds)
        cell.buckets[bucket] = cell.buckets.get(bucket, 0) + 1
        if seconds > cell.longest:
            cell.longest = seconds
        return cell

    def cell(self, place: Place) -> Cell:
        """Return the cell of a place, an empty one where nothing was counted yet."""
        return self.cells.setdefault(place, Cell(place))

    def add(self, other: Recording) -> None:
        """Add what another process has recorded."""
        for place, theirs in other.cells.items():
            cell = self.cell(place)
            cell.count += theirs.count
            cell.total += theirs.total
            cell.longest = max(cell.longest, theirs.longest)
            for bucket, count in theirs.buckets.items():
                cell.buckets[bucket] = cell.buckets.get(bucket, 0) + count
        self.reasons.update(other.reasons)
        self.facts.update(other.facts)
        self.errors.update(other.errors)

    def take(self) -> Recording:
        """Return what was recorded so far, and begin anew: what a worker sends to its master."""
        taken = Recording(self.cells, self.reasons, self.facts, self.errors)
        self.cells, self.reasons, self.facts, self.errors = {}, Counter(), Counter(), Counter()
        return taken

    def select(self, verb: str | None = None) -> Iterator[tuple[Place, Cell]]:
        """Return the cells of a verb, or all."""
        return ((place, cell) for place, cell in self.cells.items() if verb in (None, place.verb))

    def verbs(self) -> list[str]:
        """Return the verbs that were recorded, the most frequent first."""
        return [verb for verb, _ in self._counted("verb").most_common()]

    def nodes(self) -> list[str]:
        """Return the nodes that answered."""
        return sorted(node for node in self._counted("node") if node)

    def count(self, *outcomes: str, verb: str | None = None) -> int:
        """Return how many answers had one of these outcomes, or any; what was not begun counts only where it is asked for."""
        wanted = (
            cell.count
            for place, cell in self.select(verb)
            if (place.outcome in outcomes if outcomes else place.outcome != NOT_BEGUN)
        )
        return sum(wanted)

    def latency(self, verb: str | None = None) -> LatencyHistogram:
        """Return the latency of all answers of a verb, or of all, and of what was due in vain."""
        return histogram_of(cell for _, cell in self.select(verb))

    def to_bytes(self) -> bytes:
        """Return it in a form for another process."""
        cells = [(*place, cell.count, cell.total, cell.longest, cell.buckets) for place, cell in self.cells.items()]
        reasons = [(*place, count) for place, count in self.reasons.items()]
        data: bytes = msgpack.packb([cells, reasons, self.facts, self.errors])
        return data

    @classmethod
    def from_bytes(cls, data: bytes) -> Recording:
        """Return what ``to_bytes`` gave."""
        cells, reasons, facts, errors = msgpack.unpackb(data, strict_map_key=False)
        recording = cls(facts=Counter(facts), errors=Counter(errors))
        for second, why, count in reasons:
            recording.reasons[second, why] = count
        for row in cells:
            place = Place(*row[:4])
            cell = recording.cells[place] = Cell(place)
            cell.count, cell.total, cell.longest, cell.buckets = row[4:]
        return recording

    def _counted(self, field: str) -> Counter[Any]:
        counts: Counter[Any] = Counter()
        for place, cell in self.cells.items():
            counts[getattr(place, field)] += cell.count
        return counts

    def __repr__(self) -> str:
        return f"<Recording of {self.count()} answers, {dict(self.facts)}>"


def histogram_of(cells: Iterable[Cell]) -> LatencyHistogram:
    """Return one histogram of all that the cells hold."""
    histogram = LatencyHistogram()
    for cell in cells:
        histogram.add_buckets(cell.buckets, cell.total, cell.longest)
    return histogram
