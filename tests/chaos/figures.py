"""Figures: what a fault cost, computed from a history and the marks of its scenario.

Here lives arithmetic over latencies. Never here: what is right or wrong (``checkers``); a test asserts what must hold on any
machine, and prints the rest.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from chaos.history import WRITES, History, Operation, Outcome, Verb

__all__ = ["MIN_RATE", "TOLERANCE", "WINDOW", "Figures", "RunIsVoid", "figures", "percentile", "seconds_to_recover"]

MIN_RATE: Final = 1000.0
"""Operations/s before the fault below which a run says nothing."""

TOLERANCE: Final = 1.5
"""How much above the p99 before a p99 counts as back."""

WINDOW: Final = 0.1
"""Seconds of one window in which a p99 is taken."""

_LAST_SECONDS: Final = 1.0
"""The end of the load, in seconds, that counts as "after" where nothing was healed before."""

_STEADY_WINDOWS: Final = 3
"""How many windows in a row must be within the tolerance."""


class RunIsVoid(Exception):
    """There was too little load for the run to prove anything."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What one run cost; times in seconds."""

    rate_before: float
    p99_before: float
    p99_during: float
    p99_after: float
    slowest: float
    recovered: float | None
    """From the fault until the p99 was back; None if it never was."""
    operations: int
    failed_reads: int
    failed_writes: int
    in_doubt: int
    misses: int

    @property
    def unharmed(self) -> bool:
        """Whether not one operation failed."""
        return self.failed_reads == self.failed_writes == self.in_doubt == 0

    def __str__(self) -> str:
        back = "never" if self.recovered is None else f"{self.recovered:.2f} s"
        ms = (self.p99_before, self.p99_during, self.p99_after, self.slowest)
        p99 = "p99 ms before/during/after {:.1f}/{:.1f}/{:.1f}, slowest {:.0f}".format(*(it * 1000 for it in ms))
        failed = f"failed reads {self.failed_reads}, writes {self.failed_writes}, in doubt {self.in_doubt}"
        return f"{self.operations} ops, {self.rate_before:.0f}/s before; {p99}; back in {back}; {failed}"


def percentile(values: Iterable[float], share: float) -> float:
    """Return the value that ``share`` of all values do not exceed (nearest rank); 0 of no values."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


def latency(operation: Operation) -> float:
    """Return seconds from the moment at which an operation was due."""
    return operation.returned - operation.due


def seconds_to_recover(operations: Sequence[Operation], fault: float, p99_before: float) -> float | None:
    """Return the seconds from ``fault`` until the p99 is back within the tolerance for some windows in a row.

    A window holds what was due in it, so an operation that waited out the fault counts in the window that it spoils.
    """
    windows: dict[int, list[float]] = {}
    for operation in operations:
        if operation.due >= fault:
            windows.setdefault(int((operation.due - fault) / WINDOW), []).append(latency(operation))
    good = 0
    for number in range(max(windows, default=-1) + 1):
        within = number in windows and percentile(windows[number], 0.99) <= TOLERANCE * p99_before
        good = good + 1 if within else 0
        if good == _STEADY_WINDOWS:
            return (number + 1 - _STEADY_WINDOWS) * WINDOW
    return None


def figures(history: History, *, begun: float, fault: float, healed: float, ended: float) -> Figures:
    """Return the figures of a run: load from ``begun``, broken at ``fault``, whole again at ``healed``.

    Raises ``RunIsVoid`` if there was too little load before the fault.
    """
    timed = [it for it in history if begun <= it.due < ended and it.outcome is not Outcome.PENDING]

    def p99(since: float, until: float) -> float:
        return percentile((latency(it) for it in timed if since <= it.due < until), 0.99)

    before = [it for it in timed if it.returned < fault]
    rate = len(before) / max(fault - begun, 1e-9)
    if rate < MIN_RATE:
        raise RunIsVoid(f"{rate:.0f} operations/s before the fault, of at least {MIN_RATE:.0f}")
    reads = [it for it in timed if it.verb is Verb.GET]
    writes = [it for it in timed if it.verb in WRITES]
    p99_before = p99(begun, fault)
    return Figures(
        rate_before=rate,
        p99_before=p99_before,
        p99_during=p99(fault, healed),
        p99_after=p99(max(fault, min(healed, ended - _LAST_SECONDS)), ended),
        slowest=max((latency(it) for it in timed if it.due >= fault), default=0.0),
        recovered=seconds_to_recover(timed, fault, p99_before),
        operations=len(timed),
        failed_reads=sum(it.outcome is Outcome.FAILED for it in reads),
        failed_writes=sum(it.outcome is Outcome.FAILED for it in writes),
        in_doubt=sum(it.outcome is Outcome.IN_DOUBT for it in writes),
        misses=sum(it.outcome is Outcome.MISS for it in reads),
    )
