"""The side of a run that has users: one process alone, or each worker of a master.

Here lives the workload's life: made, loaded, reported, concluded. Never here: what is made of the records (``director``). ::

    test_start: options checked, cache opened, keys written -> users -> conclude: users held, writes looked for
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from loadtests import CannotRun
from loadtests.adapters import open_adapter
from loadtests.run.claim import Claim
from loadtests.run.conclude import conclude
from loadtests.run.messages import BEGUN, CONCLUDED, REPORT_KEY
from loadtests.run.options import options_of
from loadtests.run.preload import preload
from loadtests.run.recording import Recording
from loadtests.run.watch import every
from loadtests.users.user import CacheUser
from loadtests.users.workload import Workload, workload_of

__all__ = ["WorkerSide"]

_EXPLAIN_SECONDS: Final = 1.0
_log = logging.getLogger(__name__)


class WorkerSide:
    """The users' side of one Locust process."""

    def __init__(self, environment: Any) -> None:
        self._environment = environment
        self.workload: Workload | None = None
        self._stop_explaining: Callable[[], None] = lambda: None
        self._claim: Claim | None = None
        self._loaded = False
        self._concluding = threading.Lock()

    def begin(self) -> Workload:
        """Make the workload and write its keys. Raises ``CannotRun``."""
        environment, runner = self._environment, self._environment.runner
        options = options_of(environment.parsed_options)
        self.release()
        cache = open_adapter(options.cache, environment.host or options.host, options.timeout)
        worker = max(getattr(runner, "worker_index", 0), 0)
        workers = max(int(getattr(environment.parsed_options, "expect_workers", 1) or 1), 1)
        run = f"{time.time_ns():x}"
        workload = workload_of(
            environment, lambda: Workload(options, cache, environment, worker=worker, workers=workers, run=run)
        )
        self.workload = workload
        self._claim = Claim(cache, worker, run, lambda: workload.recording.facts.update(foreign=1))
        self._claim.take()
        workload.look_at_nodes()  # before anything is written: what the nodes have evicted until now explains no miss
        if options.preload:
            preload(workload)
        for users in environment.user_classes:
            if issubclass(users, CacheUser):
                users.prepare(workload)
        workload.start()
        self._loaded = True
        self._stop_explaining = every(_EXPLAIN_SECONDS, workload.look_at_nodes)
        return workload

    def take(self) -> Recording:
        """Return what was recorded since the last time."""
        return self.workload.recording.take() if self.workload else Recording()

    def conclude(self) -> Recording:
        """End the load and return the last part of the record.

        Two may call it at once, as when Ctrl-C meets the end of the run: the second waits, and gets what is left.
        """
        with self._concluding:
            if self.workload is not None and self._loaded and not self.workload.stopping:
                self._stop_explaining()
                conclude(self.workload)
                self._give_back()
            return self.take()

    def release(self) -> None:
        """Close the cache of the run before."""
        self._stop_explaining()
        self._give_back()
        workload, self.workload, self._loaded = self.workload, None, False
        if workload is not None:
            workload.close()

    def _give_back(self) -> None:
        if self._claim is not None:
            self._claim.give_back()

    # As a worker of a master

    def on_report(self, client_id: str, data: dict[str, Any]) -> None:
        """Put the record into the report that Locust sends to the master every three seconds."""
        data[REPORT_KEY] = self.take().to_bytes()

    def start(self) -> None:
        """Begin; a worker that can't says so and leaves."""
        environment = self._environment
        try:
            self.begin()
        except CannotRun as error:
            _log.error("%s", error)  # one line says it; a traceback would hide it
            environment.process_exit_code = 2
            environment.runner.quit()
        else:
            environment.runner.send_message(BEGUN, {})

    def on_conclude(self, environment: Any, msg: Any, **_: Any) -> None:
        """The master asks for the end."""
        environment.runner.send_message(CONCLUDED, {"record": self.conclude().to_bytes()})

    def quit(self) -> None:
        """This process ends, perhaps in the middle of a run: its record is not to end with it."""
        if self._loaded:
            self._environment.runner.send_message(CONCLUDED, {"record": self.conclude().to_bytes()})
        self.release()

    def __repr__(self) -> str:
        return f"<WorkerSide {self.workload!r}>"
