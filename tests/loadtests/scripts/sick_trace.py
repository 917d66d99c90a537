"""TraceUser's reading of a damaged trace as two workers of a run do it: prints the facts of each, as JSON."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from typing import Any

import locust  # noqa: F401  # first: it has gevent patch what the others import

from loadtests.run.recording import Recording
from loadtests.users.trace_user import TraceUser


class Load:
    """As much of a workload as there must be to read a trace."""

    def __init__(self, trace: str, worker: int) -> None:
        self.options = SimpleNamespace(trace=trace)
        self.worker, self.workers = worker, 2
        self.recording = Recording()


def main(trace: str) -> None:
    loads: list[Any] = [Load(trace, worker) for worker in (0, 1)]
    for load in loads:
        TraceUser.prepare(load)
    print("FACTS " + json.dumps([dict(+load.recording.facts) for load in loads]))


main(sys.argv[1])
