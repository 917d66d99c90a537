"""200 users of one process against a node that answers late: prints how many calls were under way at once, at most."""

from __future__ import annotations

import sys

import locust  # noqa: F401  # first: it has gevent patch what the others import
from runs import begin, wait_for

from loadtests.adapters import open_adapter
from loadtests.users.mixes import ReadMostly

USERS = 200


def main(address: str) -> None:
    environment, workload = begin([ReadMostly], open_adapter("kvcache", address, 30.0), "--keys", "5000")
    environment.runner.start(USERS, spawn_rate=USERS)
    try:
        wait_for(lambda: workload.running == USERS)
        print("at once", workload.running)
    finally:
        environment.runner.quit()


main(sys.argv[1])
