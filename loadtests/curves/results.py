"""Results: everything that was measured, as rows.

Here lives the rows, the JSON and the CSV. Never here: drawing (``report``).
"""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from loadtests.curves.axes import Point
from loadtests.curves.hit_ratio import HitPoint
from loadtests.curves.load import Measured

__all__ = ["FIGURE_TRACE", "LoadRow", "Results", "Verdict", "judge"]

FIGURE_TRACE: Final = "twitter-cluster52"
"""The trace that has figures to reach."""

_ABOVE_AT: Final = 3


@dataclass(frozen=True, slots=True)
class LoadRow:
    """One point of a throughput curve: latencies are milliseconds."""

    axis: str
    value: int
    per_second: float
    get_p50_ms: float
    get_p99_ms: float
    set_p50_ms: float
    set_p99_ms: float
    failed: int
    missed: int
    nodes: int
    replicas: int
    value_bytes: int
    tasks: int
    keys: int

    @classmethod
    def of(cls, axis: str, value: int, point: Point, measured: Measured) -> LoadRow:
        """Return the row of what a point gave."""
        return cls(
            axis,
            value,
            measured.per_second,
            get_p50_ms=1e3 * measured.get.percentile(0.5),
            get_p99_ms=1e3 * measured.get.percentile(0.99),
            set_p50_ms=1e3 * measured.set.percentile(0.5),
            set_p99_ms=1e3 * measured.set.percentile(0.99),
            failed=measured.failed,
            missed=measured.missed,
            **asdict(point),
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether kvcache's hit ratio is what it should be: at how many sizes it is below a peer, and above all peers."""

    sizes: int
    below: tuple[str, ...]
    above: int

    @property
    def reached(self) -> bool:
        """Not below any peer at any size, above all at three."""
        return not self.below and self.above >= min(_ABOVE_AT, self.sizes)


@dataclass(slots=True)
class Results:
    """One run. ``skipped`` and ``failed`` are lines that say what is missing and why."""

    loads: list[LoadRow] = field(default_factory=list)
    hits: list[HitPoint] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def by_trace(self) -> Mapping[str, Mapping[int, Mapping[str, HitPoint]]]:
        """Return the hit points as trace -> MiB -> system."""
        table: dict[str, dict[int, dict[str, HitPoint]]] = defaultdict(lambda: defaultdict(dict))
        for point in self.hits:
            table[point.trace][point.memory_mib][point.system] = point
        return table

    def write(self, folder: Path, machine: Mapping[str, Any]) -> None:
        """Write ``curves.json``, ``throughput.csv`` and ``hit-ratio.csv``."""
        hits = [{**asdict(point), "hit_ratio": round(point.hit_ratio, 6)} for point in self.hits]
        loads = [asdict(row) for row in self.loads]
        document = {**machine, "throughput": loads, "hit_ratio": hits, "skipped": self.skipped, "failed": self.failed}
        folder.joinpath("curves.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        _write_csv(folder / "throughput.csv", loads)
        _write_csv(folder / "hit-ratio.csv", hits)


def judge(sizes: Mapping[int, Mapping[str, HitPoint]]) -> Verdict | None:
    """Compare kvcache with its peers at each size; None where there is nothing to compare.

    Ratios are compared to a hundredth of a point: what is closer is a tie.
    """
    below, above, compared = [], 0, 0
    for memory_mib, points in sorted(sizes.items()):
        peers = {system: _rounded(point) for system, point in points.items() if system != "kvcache"}
        if "kvcache" not in points or not peers:
            continue
        compared += 1
        ours = _rounded(points["kvcache"])
        below += [
            f"{memory_mib} MiB: {ours:.2%} against {system} {theirs:.2%}"
            for system, theirs in peers.items()
            if ours < theirs
        ]
        above += ours > max(peers.values())
    return Verdict(compared, tuple(below), above) if compared else None


def _rounded(point: HitPoint) -> float:
    return round(point.hit_ratio, 4)


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        if rows:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
