"""The workload: what all users of one Locust process share.

Here lives making it from the options, and the notes on each answer. Never here: which verb is next (``mixes``), or how an
answer is judged (``ledger``). Locust has patched ``time.sleep``: it lets other users go on.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from loadtests import CannotRun
from loadtests.adapters import CacheAdapter, open_adapter
from loadtests.run.arrivals import OpenArrivals
from loadtests.run.options import LoadOptions
from loadtests.run.recording import FAILED, IN_DOUBT, Recording
from loadtests.run.shapes import SHAPES
from loadtests.users.counters import Counters
from loadtests.users.evictions import Evictions
from loadtests.users.free_keys import FreeKeys
from loadtests.users.keys import ZipfKeys
from loadtests.users.ledger import Known, Ledger, Reason, State, Verdict
from loadtests.users.values import make_value

if TYPE_CHECKING:
    from locust.env import Environment

__all__ = ["OperationFailed", "OperationInDoubt", "Workload", "WrongAnswer", "workload_of"]

_clock: Final = time.perf_counter
_PATIENCE: Final = 20.0


class OperationFailed(Exception):
    """What Locust's table of failures shows for an operation that was surely not done."""


class OperationInDoubt(Exception):
    """What it shows for a write of which nobody knows whether it was applied."""


class WrongAnswer(Exception):
    """What it shows for an answer that no cache may give."""


_BROKEN: Final = frozenset({Verdict.OLD, Verdict.WRONG})
_TROUBLE: Final = {FAILED: OperationFailed, IN_DOUBT: OperationInDoubt}
_FACTS: Final = {Reason.LOST: "lost", Reason.UNEXPLAINED: "unexplained"}


class _Suspect(NamedTuple):
    """A miss that only the nodes' counters can explain: when, and of which write of a key, which began when."""

    second: int
    key: str
    sequence: int
    began: float


class Workload:
    """Keys, values, arrivals, ledger and recording of one process. ``worker`` numbers the processes of a run from 0."""

    def __init__(
        self,
        options: LoadOptions,
        cache: CacheAdapter,
        environment: Environment,
        *,
        worker: int = 0,
        workers: int = 1,
        run: str = "run",
    ) -> None:
        self.options = options
        self.cache = cache
        self._others: dict[str, CacheAdapter] = {}
        self.worker = worker
        self.workers = workers
        self.dice = Random(f"{options.seed}/{worker}")
        self.keys = ZipfKeys(f"load:{worker}:", options.keys, options.zipf, self.dice)
        self.ledger = Ledger(run)
        self.free = FreeKeys(self.keys, self.ledger, self.dice)
        self.counters = Counters()
        self.recording = Recording()
        self.evictions = Evictions()
        self._suspects: list[_Suspect] = []
        self._looking = threading.Lock()
        self.stopping = False
        self.running = 0
        """Operations that are under way."""
        self._draw_size = options.value_sizes.sampler(self.dice)
        self._draw_ttl = options.ttls.sampler(self.dice)
        self._host = environment.host or options.host
        self._fire: Callable[..., None] = environment.events.request.fire
        self._second = time.time() - _clock()
        self._rate = options.rate / workers
        self.arrivals: OpenArrivals | None = None
        self.mix: defaultdict[str, float] = defaultdict(float)
        """Verb -> how many users' worth of it there is, of which arrivals that no user came to have their verbs."""

    def start(self) -> None:
        """Let arrivals begin now."""
        rate, length, share = self._rate, self.options.run_time or 1.0, SHAPES[self.options.shape]
        if rate:
            self.arrivals = OpenArrivals(lambda gone: rate * share(min(gone / length, 1.0)), rate, _clock(), self.dice)

    def other_cache(self, name: str) -> CacheAdapter:
        """Return another way to the same cluster, the same for all who ask; opened once. Raises ``CannotRun``."""
        if name not in self._others:
            self._others[name] = open_adapter(name, self._host, self.options.timeout)
        return self._others[name]

    def close(self) -> None:
        """Close the cache."""
        for cache in (self.cache, *self._others.values()):
            cache.close()

    def now(self) -> float:
        """Return the moment, by the clock of ``due``."""
        return _clock()

    def due(self) -> float:
        """Wait until the next operation is due and return when that was: with open arrivals perhaps long ago."""
        if self.arrivals is None:
            if self.options.think:
                time.sleep(self.dice.expovariate(1 / self.options.think))
            return _clock()
        due = self.arrivals.next()
        early = due - _clock()
        if early > 0:
            time.sleep(early)
        return due

    def draw_ttl(self) -> float | None:
        """Return the seconds that the next value lives."""
        return self._draw_ttl()

    def value(self, key: str, sequence: int, size: int | None = None) -> bytes:
        """Return a new value of ``size`` bytes, or of one that is drawn."""
        return make_value(key, self.ledger.run, sequence, int(self._draw_size() or 0) if size is None else size)

    def start_counters(self) -> None:
        """Delete the counters before anybody adds to one, so that what they hold is told from here on.

        Raises ``CannotRun`` when one can't be deleted for long.
        """
        deadline = _clock() + _PATIENCE
        for number in range(self.options.hot_keys):
            key = f"count:{self.worker}:{number}"
            while self.counters.tally(key) is None:
                try:
                    self.cache.delete(key)
                except self.cache.errors as error:
                    if _clock() > deadline:
                        raise CannotRun(f"the counter {key} could not be deleted within {_PATIENCE:g} s") from error
                    time.sleep(0.05)
                else:
                    self.counters.start(key)

    def answered(self, cache: CacheAdapter, verb: str, due: float, outcome: str, size: int = 0) -> None:
        """Record an answer, and tell Locust."""
        now = _clock()
        took = now - due
        cell = self.recording.note(int(now + self._second), verb, cache.answered_by(), outcome, took)
        exception = None
        if outcome in _BROKEN:
            exception = WrongAnswer(outcome)
            self.recording.facts[str(outcome)] += 1
        self._fire(
            request_type=verb,
            name=cell.name,
            response_time=took * 1e3,
            response_length=size,
            exception=exception,
            context={},
        )

    def failed(self, cache: CacheAdapter, verb: str, due: float, error: Exception, *, write: bool) -> str:
        """Record an operation that ended with an error, and tell Locust; returns its outcome."""
        now = _clock()
        outcome = IN_DOUBT if write and cache.in_doubt(error) else FAILED
        node = getattr(error, "node", None) or cache.answered_by()
        cell = self.recording.note(int(now + self._second), verb, node, outcome, now - due)
        self.recording.errors[f"{verb} {outcome}: {type(error).__name__}: {error}"[:200]] += 1
        self._fire(
            request_type=verb,
            name=cell.name,
            response_time=(now - due) * 1e3,
            response_length=0,
            exception=_TROUBLE[outcome](type(error).__name__),
            context={},
        )
        return outcome

    def missed(self, key: str, known: Known, before: State) -> None:
        """Note why a read missed, or that it is to be found out."""
        now = _clock()
        reason = known.reason(before, now)
        second = int(now + self._second)
        if reason is Reason.UNEXPLAINED:
            self._suspects.append(_Suspect(second, key, before.sequence, before.began))
        else:
            self.recording.reasons[second, str(reason)] += 1

    def look_at_nodes(self) -> None:
        """Look at the nodes' counters, and tell by them which of the misses so far were evictions, and which losses."""
        with self._looking:
            # Those that come while the nodes are asked must wait: a counter may have been read before their eviction.
            suspects = self._suspects[:]
            try:
                figures = self.cache.node_figures()
            except self.cache.errors:
                figures = {}
            if figures is not None:
                self.evictions.look(_clock(), {node: it.evictions for node, it in figures.items()})
            del self._suspects[: len(suspects)]
        for it in suspects:
            known = figures is not None
            reason = self.evictions.reason(it.key, it.sequence, it.began) if known else Reason.UNEXPLAINED
            self.recording.reasons[it.second, str(reason)] += 1
            if reason in _FACTS:
                self.recording.facts[_FACTS[reason]] += 1

    def __repr__(self) -> str:
        return f"<Workload {self.worker} {self.cache!r} {self.ledger!r}>"


_workloads: WeakKeyDictionary[Any, Workload] = WeakKeyDictionary()


def workload_of(environment: Any, make: Callable[[], Workload] | None = None) -> Workload:
    """Return what the users of this Locust environment share; ``make`` replaces it. Raises ``RuntimeError`` before that."""
    if make is not None:
        _workloads[environment] = make()
    found = _workloads.get(environment)
    if found is None:
        raise RuntimeError("there is no workload yet: the run has not begun")
    return found
