"""A process of Locust users: one cache, one mix, a turn whenever a line comes in.

Here lives that process. Never here: who takes which turn, or what follows from it (``users`` is the other side).

Started as ``python -m loadtests.compare.user_process CACHE HOST MIX USERS [option of the locustfile ...]``. It writes all keys
and prints a line; then, for each line ``SECONDS``, it lets the users loose and prints a turn as one line of JSON.
"""

from __future__ import annotations

# First of all: Locust patches sockets, and whoever imported them before would not be patched.
import locust  # isort: skip

import argparse
import base64
import contextlib
import gc
import json
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

from loadtests import CannotRun
from loadtests.run.options import add_options
from loadtests.run.worker import WorkerSide
from loadtests.users import mixes

__all__ = ["WARM_UP", "main"]

EXIT_CANNOT_RUN: Final = 2
WARM_UP: Final = 0.2
"""Of the seconds of a turn: not counted, before it."""

_STOP_SECONDS: Final = 5.0


def _environment(arguments: Sequence[str]) -> Any:
    cache, host, mix, *further = arguments
    parser = argparse.ArgumentParser()
    parser.add_argument("--host")
    parser.add_argument("--run-time", type=float)
    add_options(parser)
    parsed = parser.parse_args(["--cache", cache, "--host", host, *further])
    users = getattr(mixes, mix)
    environment = locust.env.Environment(user_classes=[users], host=host, parsed_options=parsed)
    environment.stop_timeout = _STOP_SECONDS
    environment.create_local_runner()
    return environment


def _turn(environment: Any, side: WorkerSide, users: int, seconds: float) -> dict[str, Any]:
    runner = environment.runner
    gc.collect()
    runner.start(users, spawn_rate=users)
    try:
        time.sleep(seconds * WARM_UP)
        side.take()
        began, cpu = time.perf_counter(), time.process_time()
        time.sleep(seconds)
        record, elapsed, spent = side.take(), time.perf_counter() - began, time.process_time() - cpu
    finally:
        runner.stop()
    side.take()
    return {"seconds": elapsed, "cpu_seconds": spent, "record": base64.b85encode(record.to_bytes()).decode()}


@contextlib.contextmanager
def _prepared(environment: Any) -> Iterator[WorkerSide]:
    side = WorkerSide(environment)
    try:
        side.begin()
        yield side
    finally:
        side.release()
        environment.runner.quit()


def main(argv: Sequence[str]) -> int:
    """Serve turns until the input ends; returns 0, or 2 when there is no cache."""
    cache, host, mix, users, *further = argv
    environment = _environment([cache, host, mix, *further])
    try:
        with _prepared(environment) as side:
            print("ready", flush=True)
            for line in sys.stdin:
                print(json.dumps(_turn(environment, side, int(users), float(line))), flush=True)
    except CannotRun as reason:
        print(reason, file=sys.stderr)
        return EXIT_CANNOT_RUN
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
