"""A run on a cache that takes its time over the last reading: prints how long the run says it was, and when that began."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import locust  # noqa: F401  # first: it has gevent patch what the others import
from locust.argument_parser import get_parser
from locust.env import Environment
from lying_cache import LyingCache
from runs import wait_for

from loadtests.adapters import BatchAnswer
from loadtests.run import director, events, worker
from loadtests.run.options import add_options
from loadtests.users.mixes import ReadWrite


class SlowToConclude(LyingCache):
    """Users of the mix ask for one key at a time: only the last reading asks for many."""

    asked = 0.0

    def get_many(self, keys: Sequence[str]) -> BatchAnswer:
        self.asked = self.asked or time.time()
        time.sleep(1.0)
        return super().get_many(keys)


def main(report: str) -> None:
    cache = SlowToConclude("nothing")
    worker.open_adapter = director.open_adapter = lambda *_: cache
    parser = get_parser(default_config_files=[])
    add_options(parser)
    parsed = parser.parse_args(["--keys", "20", "--report", report])
    environment = Environment(user_classes=[ReadWrite], parsed_options=parsed)
    environment.create_local_runner()
    events.register(environment.events)
    environment.events.init.fire(environment=environment, runner=environment.runner, web_ui=None)
    began = time.time()
    environment.runner.start(2, spawn_rate=2)
    wait_for(lambda: environment.stats.total.num_requests > 500)
    environment.runner.quit()
    told = json.loads(Path(report).with_suffix(".json").read_text())
    print("ENDING " + json.dumps({"seconds": told["seconds"], "asked": cache.asked - began, "facts": told["facts"]}))


main(*sys.argv[1:])
