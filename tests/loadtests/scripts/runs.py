"""One run of some users without Locust's command line, for scripts that look inside."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from locust.argument_parser import get_parser
from locust.env import Environment

from loadtests.adapters import CacheAdapter
from loadtests.run.options import add_options, options_of
from loadtests.users.workload import Workload, workload_of

__all__ = ["begin"]


def begin(users: list[Any], cache: CacheAdapter, *words: str) -> tuple[Environment, Workload]:
    """Return an environment with a runner, and the workload of its users on ``cache``: all is prepared, nobody has begun."""
    parser = get_parser(default_config_files=[])
    add_options(parser)
    parsed = parser.parse_args(list(words))
    environment = Environment(user_classes=users, parsed_options=parsed)
    environment.create_local_runner()
    workload = workload_of(environment, lambda: Workload(options_of(parsed), cache, environment))
    workload.look_at_nodes()
    for each in users:
        each.prepare(workload)
    workload.start()
    return environment, workload


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Return when ``condition`` holds. Raises ``TimeoutError``."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("this did not come true")
        time.sleep(0.005)
