"""TraceUser: replays a real cache trace, as an application would ask for it.

Here lives that user, and sharing a trace among the users of all processes. Never here: the form of a trace (``loadtests.trace``).

A request is a get, and on a miss a set with the traced size. Each process takes every n-th request, so that together they ask for
the whole trace once, in its order to within the number of users; a process that gets to its end begins again.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from itertools import islice
from typing import ClassVar, Final
from weakref import WeakKeyDictionary

from locust.exception import StopUser

from kvcache_client.protocol.limits import VALUE_BYTES_CAP
from loadtests import CannotRun
from loadtests.trace import Damage, Trace, find_trace, read_trace, trace_folder
from loadtests.users.ledger import Verdict
from loadtests.users.user import CacheUser
from loadtests.users.workload import Workload

__all__ = ["TraceUser"]

_BY_DEFAULT: Final = "twitter"

_log = logging.getLogger(__name__)
_requests: WeakKeyDictionary[Workload, Iterator[tuple[int, int]] | None] = WeakKeyDictionary()


class TraceUser(CacheUser):
    """Replays --trace. Where nobody named one and the usual one is not there, it says so in one line, and does nothing."""

    mix: ClassVar = {"get": 1.0}
    also: ClassVar = frozenset({"set"})

    @classmethod
    def prepare(cls, load: Workload) -> None:
        """Read the trace, once for all users of a process. Raises ``CannotRun`` where one was named that can't be read."""
        _requests[load] = _open(load)

    def get(self, due: float) -> None:
        """Ask for the next key of the trace; write it if it is not there."""
        requests = _requests.get(self.load)
        if requests is None:
            raise StopUser
        number, size = next(requests)
        key = f"trace:{self.load.worker}:{number}"
        if self.read(key, due) is Verdict.MISS:
            known = self.load.ledger.known(key)
            if not known.busy:
                self.write(key, known, self.load.now(), size)


def _open(load: Workload) -> Iterator[tuple[int, int]] | None:
    named, damage = load.options.trace, Damage(VALUE_BYTES_CAP)
    try:
        trace = read_trace(find_trace(named or _BY_DEFAULT, trace_folder(os.environ)), damage=damage)
    except CannotRun as error:
        if named:
            raise CannotRun(f"--trace: {error}") from error
        _log.warning("TraceUser is skipped: %s", error)
        return None
    for line in [*damage.told, *filter(None, [damage.cut])]:
        _log.warning("damaged, left out: %s", line)
    if load.worker == 0:  # all processes read the same file
        load.recording.facts["damaged lines"] += damage.lines
        load.recording.facts["cut traces"] += bool(damage.cut)
    return _share(trace, load.worker, load.workers)


def _share(trace: Trace, worker: int, workers: int) -> Iterator[tuple[int, int]]:
    while True:
        yield from islice(trace, worker % workers, None, workers)
