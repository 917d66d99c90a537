"""Recovery: what a fault cost, read off the seconds around it.

Here lives that reading. Never here: drawing.

What was usual is the median of the seconds before the fault (five at most). The load has recovered at the first second from which
on, for three seconds, nothing fails and the rate is at least 80 % of usual.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from loadtests.faults.plays import Happening
from loadtests.run.recording import BAD, Recording, histogram_of

__all__ = ["Cost", "cost_of"]

_BEFORE = 5
_CALM = 3
_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class Cost:
    """What a fault cost until the load had recovered. ``recovered`` is seconds after it, None if it did not."""

    failed_reads: int
    failed_writes: int
    lowest_rate: float
    """As a share of the usual rate."""
    worst_ms: float
    """The longest that any answer took, in milliseconds."""
    recovered: float | None


def cost_of(fault: Happening, recording: Recording, seconds: Sequence[int]) -> Cost | None:
    """Return what it cost, None where there is too little around it to say. ``seconds`` are the whole ones of the run."""
    rates, bad = Counter[int](), Counter[int]()
    for place, cell in recording.cells.items():
        rates[place.second] += cell.count
        bad[place.second] += cell.count if place.outcome in BAD else 0
    before = [rates[second] for second in seconds if second < int(fault.at)][-_BEFORE:]
    after = [second for second in seconds if second >= int(fault.at)]
    if not before or not after:
        return None
    usual = median(before)
    calm = [bad[second] == 0 and rates[second] >= _SHARE * usual for second in after]
    recovered = next((at for at in range(len(after) - _CALM + 1) if all(calm[at : at + _CALM])), None)
    until = after[recovered] if recovered is not None else after[-1]
    hurt = [(place, cell) for place, cell in recording.cells.items() if int(fault.at) <= place.second <= until]
    failed = Counter(
        place.verb.startswith("get") for place, cell in hurt if place.outcome in BAD for _ in range(cell.count)
    )
    lowest = min(rates[second] for second in after if second <= until)
    worst = histogram_of(cell for _, cell in hurt).maximum
    return Cost(
        failed_reads=failed[True],
        failed_writes=failed[False],
        lowest_rate=lowest / usual if usual else 0.0,
        worst_ms=worst * 1e3,
        recovered=None if recovered is None else max(until - fault.at, 0.0),
    )
