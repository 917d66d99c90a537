"""The overdue: open arrivals that were due when the run ended, and that no user had come to.

Here lives recording them. Never here: when they were due (``arrivals``). Where the rate is too high, or the cache
stands still at the end, the longest waits of all are theirs: left out, the percentiles would be those of the lucky ones.
"""

from __future__ import annotations

import time

from loadtests.run.recording import NOT_BEGUN, Place
from loadtests.users.workload import Workload

__all__ = ["note_overdue"]

_BREATH = 1000
"""Moments that are recorded at a stretch."""


def note_overdue(workload: Workload, stopped: float) -> None:
    """Record each with the wait that it had had when the run ``stopped``, by the workload's clock; verbs as users draw them."""
    arrivals, mix = workload.arrivals, workload.mix
    if arrivals is None or not mix:
        return
    verbs, shares = list(mix), list(mix.values())
    second = int(time.time() + stopped - workload.now())
    for number, (due, count) in enumerate(arrivals.overdue(stopped), start=1):
        verb = workload.dice.choices(verbs, shares)[0]
        workload.recording.cell(Place(second, verb, "", NOT_BEGUN)).add(stopped - due, count)
        workload.recording.facts["not begun"] += count
        if number % _BREATH == 0:
            time.sleep(0)  # a worker also answers its master
