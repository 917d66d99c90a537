"""The workers of a master: who is in the run, and whose last record is in.

Here lives that, and asking for those records. Never here: what is in them (``director``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from loadtests.run.messages import CONCLUDE

__all__ = ["Workers"]

_MISSING: Final = "missing"
"""Locust's word for the state of a worker of which it has heard nothing for some seconds."""


class Workers:
    """The workers of one run after the other. ``tell`` takes a line about one that comes or goes in the middle."""

    def __init__(self, runner: Any, tell: Callable[[str], None]) -> None:
        self._runner = runner
        self._tell = tell
        self._in_run: set[str] = set()
        self._gone: set[str] = set()
        """Those of whose end was told."""
        self._heard: set[str] = set()
        """Those whose last record is in."""
        self._asked = False

    def begin(self) -> None:
        """A run begins, with the workers that are here."""
        self._in_run = {worker for worker, client in self._clients.items() if client.state != _MISSING}
        self._gone, self._heard, self._asked = set(), set(), False

    def joined(self, worker: str) -> None:
        """A worker is here; perhaps it was before."""
        if worker not in self._in_run:
            self._in_run.add(worker)
            self._say(worker, "joined in the middle of the run")

    def concluded(self, worker: str) -> None:
        """Its last record is in: because all were asked, or because it was stopped by itself."""
        if not self._asked:
            self._gone.add(worker)
            self._say(worker, "was stopped in the middle of the run")
        self._heard.add(worker)

    def conclude(self, seconds: float) -> None:
        """Have all look for what they wrote, and wait for their last records, but not longer than this."""
        self._asked = True
        self._runner.send_message(CONCLUDE)
        end = time.monotonic() + seconds
        self.look()
        while self._awaited() and time.monotonic() < end:
            time.sleep(0.02)
            self.look()
        for worker in self._awaited():
            self._say(worker, "did not give its last record")

    def look(self) -> None:
        """Tell of those that went without a last record."""
        gone = self._in_run - self._heard - self._gone - self._awaited()
        self._gone |= gone
        for worker in gone:
            self._say(worker, "was lost in the middle of the run")

    @property
    def unheard(self) -> int:
        """How many never gave their last record: what they wrote was not looked for."""
        return len(self._in_run - self._heard)

    @property
    def _clients(self) -> Mapping[str, Any]:
        """Return Locust's record of its workers; a runner that is no master has none."""
        return getattr(self._runner, "clients", {})

    def _awaited(self) -> set[str]:
        here = {worker for worker, client in self._clients.items() if client.state != _MISSING}
        return (self._in_run - self._heard) & here

    def _say(self, worker: str, what: str) -> None:
        self._tell(f"worker {self._runner.get_worker_index(worker)} {what}")

    def __repr__(self) -> str:
        return f"<Workers {len(self._in_run)} in the run, {len(self._gone)} gone, {len(self._heard)} heard>"
