"""What a load test costs by itself: operations of one Locust worker, against users that do less.

Here lives that measurement. Never here: the users. ::

    nothing  a Locust user whose task is empty
    event    a Locust user that does nothing but tell Locust of a request
    bare     greenlets that call the Client in the same mix, and neither draw by Zipf, judge nor record
    user     a Locust user that does what ``bare`` does, one call in a task, and tells Locust nothing
    ours     ReadMostly

``nothing`` makes no call, so no user that calls a cache comes near it: a get through the Client takes ten times as long. What our
users cost is told by ``ours / user``: both are Locust users, and both make the same calls.

Each runs in a process of its own, one after the other, several rounds; what counts is the median of operations per second of the
process's own CPU time: on a machine with other work, wall time says little.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any, Final

from loadtests.local_cluster import ClusterOptions, LocalCluster

__all__ = ["main"]

CONTESTANTS: Final = ("nothing", "event", "bare", "user", "ours")
_KEYS: Final = 5000
_READS: Final = 0.95


def main(argv: list[str] | None = None) -> int:
    """Measure, and print a table."""
    commands = argparse.ArgumentParser(prog="python -m loadtests.own_cost", description=__doc__.partition("\n")[0])
    commands.add_argument("--rounds", type=int, default=3)
    commands.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    commands.add_argument("--users", type=int, default=50)
    commands.add_argument("--one", choices=CONTESTANTS, help=argparse.SUPPRESS)
    commands.add_argument("--seeds", default="", help=argparse.SUPPRESS)
    options = commands.parse_args(argv)
    if options.one:
        print(json.dumps(_measure(options.one, options.seeds, options.users, options.seconds)))
        return 0
    asyncio.run(_compare(options))
    return 0


async def _compare(options: argparse.Namespace) -> None:
    rates: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    async with LocalCluster(ClusterOptions(nodes=3, replicas=2)) as cluster:
        for _ in range(options.rounds):
            for name in CONTESTANTS:
                rates[name].append(await asyncio.to_thread(_in_a_process, name, cluster.seeds, options))
    middle = {name: median(told) for name, told in rates.items()}
    for name, rate in middle.items():
        print(f"{name:8} {rate:10,.0f} operations per second of CPU   {1e6 / rate:6.1f} us each")
    for other in CONTESTANTS[:-1]:
        print(f"ours / {other}: {middle['ours'] / middle[other]:.1%}")


def _in_a_process(name: str, seeds: str, options: argparse.Namespace) -> float:
    command = [sys.executable, "-m", "loadtests.own_cost", "--one", name, "--seeds", seeds]
    command += ["--users", str(options.users), "--seconds", str(options.seconds)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    told: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return told["operations"] / told["cpu_seconds"]


def _measure(name: str, seeds: str, users: int, seconds: float) -> dict[str, float]:
    import locust  # noqa: F401  # first: it has gevent patch what the others import

    begin: dict[str, Callable[[str, int], Callable[[], int]]] = {"bare": _bare, "user": _user, "ours": _ours}
    count = begin.get(name, _idle(name))(seeds, users)
    time.sleep(1.0)
    first, cpu = count(), time.process_time()
    time.sleep(seconds)
    return {"operations": count() - first, "cpu_seconds": time.process_time() - cpu}


def _idle(name: str) -> Callable[[str, int], Callable[[], int]]:
    from locust import User, task
    from locust.env import Environment

    done = [0]

    class Idle(User):
        """Counts how often it did nothing."""

        @task
        def nothing(self) -> None:
            """Do nothing."""
            done[0] += 1
            if name == "event":
                self.environment.events.request.fire(
                    request_type="get", name="x", response_time=1.0, response_length=1, exception=None, context={}
                )

    def begin(seeds: str, users: int) -> Callable[[], int]:
        runner = Environment(user_classes=[Idle]).create_local_runner()
        runner.start(users, spawn_rate=users)
        return lambda: done[0]

    return begin


def _calls(seeds: str) -> tuple[Callable[[], None], Callable[[], int]]:
    """Return what makes one bare call of the mix, and what says how many were made."""
    from kvcache_client import Client

    cache, done, value = Client(seeds, timeout=5.0), [0], b"x" * 100
    names = [f"bare:{number}" for number in range(_KEYS)]
    cache.set_many(dict.fromkeys(names, value))

    def call() -> None:
        key = names[random.randrange(_KEYS)]
        if random.random() < _READS:
            cache.get(key)
        else:
            cache.set(key, value)
        done[0] += 1

    return call, lambda: done[0]


def _bare(seeds: str, users: int) -> Callable[[], int]:
    import threading

    call, count = _calls(seeds)

    def work() -> None:
        while True:
            call()

    for _ in range(users):
        threading.Thread(target=work, daemon=True).start()  # greenlets, as Locust has patched threads
    return count


def _user(seeds: str, users: int) -> Callable[[], int]:
    from locust import User, task
    from locust.env import Environment

    call, count = _calls(seeds)

    class Plain(User):
        """Calls the cache."""

        @task
        def work(self) -> None:
            """Make one call."""
            call()

    Environment(user_classes=[Plain]).create_local_runner().start(users, spawn_rate=users)
    return count


def _ours(seeds: str, users: int) -> Callable[[], int]:
    from locust.argument_parser import get_parser
    from locust.env import Environment

    from loadtests.run.options import add_options
    from loadtests.run.worker import WorkerSide
    from loadtests.users.mixes import ReadMostly

    parser: Any = get_parser(default_config_files=[])
    add_options(parser)
    parsed = parser.parse_args(["--host", seeds, "--keys", str(_KEYS), "--cache-timeout", "5"])
    environment = Environment(user_classes=[ReadMostly], parsed_options=parsed, host=seeds)
    runner = environment.create_local_runner()
    workload = WorkerSide(environment).begin()
    runner.start(users, spawn_rate=users)
    return workload.recording.count


if __name__ == "__main__":
    sys.exit(main())
