"""Users of one process on a node: they work until they have done a number of operations, however they end."""

from __future__ import annotations

import sys

import locust  # noqa: F401  # first: it has gevent patch what the others import
from runs import begin, wait_for

from loadtests.adapters import open_adapter
from loadtests.users.mixes import ReadMostly


def main(address: str, users: str, operations: str) -> None:
    environment, workload = begin([ReadMostly], open_adapter("kvcache", address, 60.0), "--keys", "5000")
    environment.runner.start(int(users), spawn_rate=int(users))
    try:
        wait_for(lambda: workload.recording.count() > int(operations), 120.0)
    finally:
        environment.runner.quit()


main(*sys.argv[1:])
