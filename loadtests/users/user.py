"""One operation of a user: due, asked, judged, recorded.

Here lives each verb as users call it. Never here: how often (``mixes``), what a cache's client looks like (``adapters``). ::

    due -> the key's state before -> the call -> judged by that state -> recorded, and Locust's request event

A task is one operation, after which Locust lets the other users go on: so all of them judge what has arrived, then all of them
send, and the machine does one kind of thing at a time. Fifty operations in a row cost each of them a quarter more.
"""

from __future__ import annotations

import time
from bisect import bisect
from collections.abc import Callable, Mapping
from itertools import accumulate
from typing import Any, ClassVar, Final

from locust import User, task
from locust.exception import StopUser

from loadtests.adapters import CacheAdapter
from loadtests.run.recording import IN_DOUBT
from loadtests.users.ledger import Known, Verdict
from loadtests.users.workload import Workload, workload_of

__all__ = ["CacheUser"]

_clock: Final = time.perf_counter
OK: Final = "ok"
ABSENT: Final = "absent"


class CacheUser(User):
    """A user of a cache; ``mix`` says which of its verbs it calls how often."""

    abstract = True
    mix: ClassVar[Mapping[str, float]]
    also: ClassVar[frozenset[str]] = frozenset()
    """Verbs that those of ``mix`` call besides."""
    by: ClassVar[str] = ""
    """The adapter of this class; empty is that of the run (``--cache``)."""

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self.load: Workload = workload_of(environment)
        self.cache: CacheAdapter = self.load.other_cache(self.by) if self.by else self.load.cache
        self._verbs: list[Callable[[float], None]] = [getattr(self, verb) for verb in self.mix]
        self._bounds = list(accumulate(self.mix.values()))
        for verb, share in self.mix.items():
            self.load.mix[verb] += share / self._bounds[-1]

    @classmethod
    def prepare(cls, load: Workload) -> None:
        """Do what all users of this class need done before the first of them begins. Raises ``CannotRun``."""
        if "incr" in cls.mix:
            load.start_counters()

    @task
    def work(self) -> None:
        """Do one operation; Locust calls this again and again."""
        load, bounds = self.load, self._bounds
        if load.stopping:
            raise StopUser
        due = load.due()
        if load.stopping:
            raise StopUser
        load.running += 1
        try:
            self._verbs[bisect(bounds, load.dice.random() * bounds[-1], 0, len(bounds) - 1)](due)
        finally:
            load.running -= 1

    def get(self, due: float) -> None:
        """Read a key."""
        self.read(self.load.keys.draw(), due)

    def read(self, key: str, due: float) -> Verdict | None:
        """Read this key; returns what the answer was, None for none."""
        load = self.load
        known = load.ledger.known(key)
        before, asked = known.state, _clock()
        try:
            value = self.cache.get(key)
        except self.cache.errors as error:
            load.failed(self.cache, "get", due, error, write=False)
            return None
        verdict = load.ledger.judge(key, known, before, value, asked)
        if verdict is Verdict.MISS:
            load.missed(key, known, before)
        load.answered(self.cache, "get", due, verdict, len(value) if value else 0)
        return verdict

    def set(self, due: float) -> None:
        """Write a key."""
        self.write(*self.load.free.one(), due)

    def write(self, key: str, known: Known, due: float, size: int | None = None) -> None:
        """Write this key, which must not be busy."""
        load = self.load
        ttl, began = load.draw_ttl(), _clock()
        value = load.value(key, known.begin(began, ttl), size)
        with _Write(known):
            try:
                self.cache.set(key, value, ttl)
            except self.cache.errors as error:
                _settle(known, load.failed(self.cache, "set", due, error, write=True))
                return
            known.acknowledge(began, _clock(), ttl, value)
        load.answered(self.cache, "set", due, OK, len(value))

    def delete(self, due: float) -> None:
        """Delete a key."""
        load = self.load
        key, known = load.free.one()
        began = _clock()
        known.begin(began, None, delete=True)
        with _Write(known):
            try:
                self.cache.delete(key)
            except self.cache.errors as error:
                _settle(known, load.failed(self.cache, "delete", due, error, write=True))
                return
            known.acknowledge(began, _clock(), None, delete=True)
        load.answered(self.cache, "delete", due, OK)

    def touch(self, due: float) -> None:
        """Give a key another time to live."""
        load = self.load
        key, known = load.free.one()
        ttl, before, began = load.draw_ttl(), known.state, _clock()
        known.begin_touch(began, ttl)
        with _Write(known):
            try:
                there = self.cache.touch(key, ttl)
            except self.cache.errors as error:
                if load.failed(self.cache, "touch", due, error, write=True) == IN_DOUBT:
                    known.doubt_expiry()
                return
            if there:
                known.touched(began, _clock(), ttl)
        if not there:
            load.missed(key, known, before)
        load.answered(self.cache, "touch", due, Verdict.HIT if there else Verdict.MISS)

    def incr(self, due: float) -> None:
        """Add one to a counter."""
        load = self.load
        key = f"count:{load.worker}:{load.dice.randrange(load.options.hot_keys)}"
        tally = load.counters.tally(key)
        if tally is None:
            raise RuntimeError(f"{key} was not started before the users began")
        before = tally.acknowledged
        tally.sent += 1
        try:
            answer = self.cache.incr(key, 1)
        except self.cache.errors as error:
            if load.failed(self.cache, "incr", due, error, write=True) != IN_DOUBT:
                tally.sent -= 1
            return
        verdict = tally.judge(before, answer)
        tally.acknowledged += 1
        load.answered(self.cache, "incr", due, OK if verdict is Verdict.HIT else verdict)

    def get_many(self, due: float) -> None:
        """Read many keys at once."""
        load = self.load
        keys = {load.keys.draw() for _ in range(load.options.batch)}
        known = {key: load.ledger.known(key) for key in keys}
        before = {key: it.state for key, it in known.items()}
        asked = _clock()
        try:
            answer = self.cache.get_many(list(keys))
        except self.cache.errors as error:
            load.failed(self.cache, "get_many", due, error, write=False)
            return
        worst = Verdict.HIT
        for key, it in known.items():
            if key in answer.failed:
                continue
            verdict = load.ledger.judge(key, it, before[key], answer.found.get(key), asked)
            if verdict is Verdict.MISS:
                load.missed(key, it, before[key])
            worst = max(worst, verdict, key=_SEVERITY.index)
        self._batch_done("get_many", due, worst, answer.failed, write=False)

    def set_many(self, due: float) -> None:
        """Write many keys at once."""
        load = self.load
        ttl, began = load.draw_ttl(), _clock()
        known = load.free.several(load.options.batch)
        values = {key: load.value(key, it.begin(began, ttl)) for key, it in known.items()}
        try:
            answer = self.cache.set_many(values, ttl)
        except self.cache.errors as error:
            outcome = load.failed(self.cache, "set_many", due, error, write=True)
            for it in known.values():
                _settle(it, outcome)
            return
        finally:
            for it in known.values():
                it.busy = False
        for key, it in known.items():
            failure = answer.failed.get(key)
            if failure is None:
                it.acknowledge(began, _clock(), ttl, values[key])
            elif self.cache.in_doubt(failure):
                it.doubt()
            else:
                it.refuse()
        self._batch_done("set_many", due, OK, answer.failed, write=True)

    def _batch_done(self, verb: str, due: float, outcome: str, failed: Mapping[str, Exception], *, write: bool) -> None:
        """Record a batch once: by its worst key."""
        if failed:
            doubts = (error for error in failed.values() if self.cache.in_doubt(error))
            self.load.failed(self.cache, verb, due, next(doubts, next(iter(failed.values()))), write=write)
        else:
            self.load.answered(self.cache, verb, due, outcome)


_SEVERITY: Final = [Verdict.HIT, Verdict.STALE_HIT, Verdict.MISS, Verdict.OLD, Verdict.WRONG]


class _Write:
    """However a write ends, also when its user is killed in the middle: the key is free again."""

    __slots__ = ("_known",)

    def __init__(self, known: Known) -> None:
        self._known = known

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        self._known.busy = False


def _settle(known: Known, outcome: str) -> None:
    if outcome == IN_DOUBT:
        known.doubt()
    else:
        known.refuse()
