"""A stampede: many callers in several processes want one key that is missing, and its value takes a while to compute.

Here lives the command and its figures: how often the value was computed, and how long after that the last caller had it.
Never here: starting processes (``crews``) or nodes (``local_cluster``).

    python -m loadtests.stampede                    200 callers in 4 processes, 200 ms
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kvcache_client import AsyncClient
from loadtests import CannotRun
from loadtests.crews import WORKER, Crew, work
from loadtests.local_cluster import ClusterOptions, LocalCluster

__all__ = ["Figures", "StampedeOptions", "main", "run"]


@dataclass(frozen=True, slots=True)
class StampedeOptions:
    """``callers`` are tasks, spread over ``processes``; ``load_seconds`` is what the value takes to compute."""

    callers: int = 200
    processes: int = 4
    load_seconds: float = 0.2
    rounds: int = 1
    nodes: int = 3


@dataclass(frozen=True, slots=True)
class Figures:
    """What came of one round. ``last_answer_seconds`` counts from the end of the (last) computation."""

    computations: int
    answered: int
    last_answer_seconds: float


async def run(options: StampedeOptions) -> list[Figures]:
    """Start a cluster and workers, and return the figures of each round."""
    shape = ClusterOptions(nodes=options.nodes, replicas=min(2, options.nodes), memory="64MiB")
    async with LocalCluster(shape) as cluster:
        return [await _round(cluster.seeds, f"stampede:{number}", options) for number in range(options.rounds)]


async def _round(seeds: str, key: str, options: StampedeOptions) -> Figures:
    share, rest = divmod(options.callers, options.processes)
    tasks = [
        {"seeds": seeds, "key": key, "callers": share + (number < rest), "load_seconds": options.load_seconds}
        for number in range(options.processes)
    ]
    async with Crew("loadtests.stampede", tasks) as crew:
        crew.go()
        reports = await crew.reports()
    computed = [end for report in reports for end in report["computed"]]
    return Figures(
        len(computed),
        sum(report["answered"] for report in reports),
        max(report["last"] for report in reports) - max(computed, default=float("inf")),
    )


async def _call(task: Mapping[str, Any], go: Callable[[], Awaitable[None]]) -> Mapping[str, Any]:
    """Be one process: all its callers ask at once. Times are of the clock that all processes of a machine share."""
    computed: list[float] = []
    answered: list[float] = []

    async def load() -> str:
        await asyncio.sleep(task["load_seconds"])
        computed.append(time.monotonic())
        return f"{task['key']} computed"

    async with AsyncClient(task["seeds"], timeout=5.0) as cache:
        await cache.get("warm")

        async def call() -> None:
            if await cache.get_or_compute(task["key"], load, ttl=60) == task["key"] + " computed":
                answered.append(time.monotonic())

        await go()
        await asyncio.gather(*(call() for _ in range(task["callers"])))
    return {"computed": computed, "answered": len(answered), "last": max(answered)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 if each value was computed once and everyone got it."""
    defaults = StampedeOptions()
    parser = argparse.ArgumentParser(prog="python -m loadtests.stampede", description=__doc__.splitlines()[0])
    for option, value in (("callers", 200), ("processes", 4), ("rounds", 1), ("nodes", 3)):
        parser.add_argument(f"--{option}", type=int, default=value)
    parser.add_argument("--load-seconds", type=float, default=defaults.load_seconds)
    given = parser.parse_args(arguments)
    try:
        figures = asyncio.run(run(StampedeOptions(**vars(given))))
    except CannotRun as reason:
        print(reason, file=sys.stderr)
        return 2
    for each in figures:
        milliseconds = round(each.last_answer_seconds * 1000, 1)
        print(json.dumps({"computations": each.computations, "answered": each.answered, "last_ms": milliseconds}))
    well = all(each.computations == 1 and each.answered == given.callers for each in figures)
    return 0 if well else 1


if __name__ == "__main__":
    if sys.argv[1:2] == [WORKER]:
        work(sys.argv[2], _call)
    else:
        sys.exit(main())
