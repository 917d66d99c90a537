"""The session: what Locust's events do to the workload of this process.

Here lives the order of a run: options checked, cache opened, keys written, users let loose, end judged. Never here: any of
those steps.
"""

from __future__ import annotations

import time
from typing import Any

from loadtests.adapters import open_adapter
from loadtests.run.options import LoadOptions, options_of
from loadtests.users.workload import Workload, workload_of

__all__ = ["begin"]


def begin(environment: Any, options: LoadOptions | None = None) -> Workload:
    """Make the workload of this process, its keys written if that was asked for. Raises ``CannotRun``."""
    options = options or options_of(environment.parsed_options)
    cache = open_adapter(options.cache, environment.host or options.host, options.timeout)
    worker = max(getattr(environment.runner, "worker_index", 0), 0)
    return workload_of(
        environment, lambda: Workload(options, cache, environment, worker=worker, run=f"{time.time_ns():x}")
    )
