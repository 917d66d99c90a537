"""Counting while the node that counts is killed: no increment is lost, and none is done twice.

Here lives the command and its account: acknowledged <= value <= acknowledged + in doubt. Never here: starting processes
(``crews``) or nodes (``faults.cluster``).

    python -m loadtests.counting                    10^6 incr from 8 clients
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from kvcache_client import AsyncClient, InDoubt, KvCacheError
from kvcache_client.core.routing import View
from loadtests import CannotRun
from loadtests.crews import WORKER, Crew, work
from loadtests.faults.cluster import BreakableCluster, ClusterShape, eventually

__all__ = ["Account", "CountingOptions", "main", "run"]

_KEY = "counted"


@dataclass(frozen=True, slots=True)
class CountingOptions:
    """``increments`` in all, from ``clients`` with ``tasks`` each, in ``processes``. The primary dies after a share of them."""

    increments: int = 1_000_000
    clients: int = 8
    processes: int = 2
    tasks: int = 16
    kill_after: float = 0.5
    timeout: float = 1.0


@dataclass(frozen=True, slots=True)
class Account:
    """What the clients were told, and what the counter says in the end."""

    acknowledged: int
    in_doubt: int
    refused: int
    """For certain not applied."""
    value: int
    asked_again: int
    twice: int
    """Numbers that were given to two callers."""

    @property
    def balanced(self) -> bool:
        """Whether nothing was lost and nothing done twice."""
        return self.acknowledged <= self.value <= self.acknowledged + self.in_doubt and not self.twice


async def run(options: CountingOptions) -> Account:
    """Start a cluster and workers, kill the primary on the way, and return the account."""
    async with BreakableCluster(ClusterShape()) as cluster:
        seeds = ",".join(cluster.seeds)
        share = options.increments // options.clients // options.tasks
        clients = [options.clients // options.processes] * options.processes
        tasks = [
            {"seeds": seeds, "clients": n, "tasks": options.tasks, "each": share, "timeout": options.timeout}
            for n in clients
        ]
        async with AsyncClient(seeds, timeout=5.0) as cache, Crew("loadtests.counting", tasks) as crew:
            crew.go()
            expected = share * options.tasks * sum(clients)
            await eventually(lambda: _reached(cache, expected * options.kill_after), "the counter moves on", 300.0)
            await cluster.kill(View(await cache.topology()).owners_of(_KEY.encode())[0])
            reports = await crew.reports()
            value = await cache.get(_KEY)
    total: Counter[str] = Counter()
    for report in reports:
        total.update({name: count for name, count in report.items() if isinstance(count, int)})
    seen = Counter(number for report in reports for number in report["seen"])
    twice = sum(1 for count in seen.values() if count > 1)
    return Account(total["acknowledged"], total["in_doubt"], total["refused"], value, total["asked_again"], twice)


async def _reached(cache: AsyncClient, number: float) -> bool:
    return bool((await cache.get(_KEY, 0)) >= number)


async def _count(task: Mapping[str, Any], go: Callable[[], Awaitable[None]]) -> Mapping[str, Any]:
    """Be one process: its clients count up, one call after the other in each of their tasks."""
    told: Counter[str] = Counter()
    seen: list[int] = []

    async def count(cache: AsyncClient) -> None:
        for _ in range(task["each"]):
            try:
                seen.append(await cache.incr(_KEY))
                told["acknowledged"] += 1
            except InDoubt:
                told["in_doubt"] += 1
            except KvCacheError:
                told["refused"] += 1

    caches = [AsyncClient(task["seeds"].split(","), timeout=task["timeout"]) for _ in range(task["clients"])]
    try:
        for cache in caches:
            await cache.get("warm")
        await go()
        await asyncio.gather(*(count(cache) for cache in caches for _ in range(task["tasks"])))
    finally:
        for cache in caches:
            await cache.close()
    again = sum(cache.brain.counters.asked_again for cache in caches)
    return {"acknowledged": 0, "in_doubt": 0, "refused": 0, **told, "asked_again": again, "seen": seen}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 if the account is balanced."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.counting", description=__doc__.splitlines()[0])
    for option, value in asdict(CountingOptions()).items():
        parser.add_argument(f"--{option.replace('_', '-')}", type=type(value), default=value)
    given = parser.parse_args(arguments)
    try:
        account = asyncio.run(run(CountingOptions(**vars(given))))
    except CannotRun as reason:
        print(reason, file=sys.stderr)
        return 2
    print(json.dumps({**asdict(account), "balanced": account.balanced}))
    return 0 if account.balanced else 1


if __name__ == "__main__":
    if sys.argv[1:2] == [WORKER]:
        work(sys.argv[2], _count)
    else:
        sys.exit(main())
