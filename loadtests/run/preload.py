"""The preload: every key is written once before the users begin.

Here lives that. Never here: the users' own writes. What is written is in the ledger, so from the first read on a miss is one that
must have a reason.
"""

from __future__ import annotations

import time
from itertools import islice

from loadtests import CannotRun
from loadtests.users.workload import Workload

__all__ = ["preload"]

_BATCH = 250
_PATIENCE = 20.0


def preload(workload: Workload) -> None:
    """Write every key. Raises ``CannotRun`` when writes go on failing."""
    names = (workload.keys.name(number) for number in range(workload.keys.count))
    while batch := list(islice(names, _BATCH)):
        deadline = time.perf_counter() + _PATIENCE
        while batch := _write(workload, batch):
            if time.perf_counter() > deadline:
                raise CannotRun(f"{len(batch)} of the first keys could not be written within {_PATIENCE:g} s")
            time.sleep(0.05)


def _write(workload: Workload, names: list[str]) -> list[str]:
    """Write these keys with a time to live that is drawn for all of them; returns those that could not be written."""
    ttl, began = workload.draw_ttl(), time.perf_counter()
    known = {name: workload.ledger.known(name) for name in names}
    values = {name: workload.value(name, it.begin(began, ttl)) for name, it in known.items()}
    try:
        failed = set(workload.cache.set_many(values, ttl).failed)
    except workload.cache.errors:
        failed = set(names)
    for name, it in known.items():
        if name in failed:
            it.doubt()
        else:
            it.acknowledge(began, time.perf_counter(), ttl, values[name])
    return sorted(failed)
