"""Stampede: everybody wants the same few values, which expire all the time and are dear to compute.

Here lives that user. Never here: other verbs (``user``). Its values are stamped with the moment at which they were computed, so
everyone can tell how old a value is, whoever computed it: one within its time to live is a hit, one within ``--stale`` after it a
stale hit, one older than that is what no cache may answer. Whoever had to compute has missed, however young its value is.
"""

from __future__ import annotations

import time
from typing import ClassVar, Final

from loadtests.users.ledger import CLOCK_GRACE, Verdict
from loadtests.users.user import CacheUser
from loadtests.users.values import make_value, read_value

__all__ = ["TTL", "Stampede", "judge"]

TTL: Final = 1.0
"""Seconds that a computed value lives."""

_COMPUTING_SECONDS: Final = 0.05
_SIZE: Final = 200


class Stampede(CacheUser):
    """get_or_compute on --hot-keys keys that live for a second and take 50 ms to compute."""

    mix: ClassVar = {"get_or_compute": 1.0}

    def get_or_compute(self, due: float) -> None:
        """Ask for one of the few keys; compute it if this caller is told to."""
        load = self.load
        key = f"hot:{load.dice.randrange(load.options.hot_keys)}"

        computed = False

        def compute() -> bytes:
            nonlocal computed
            computed = True
            load.recording.facts["computed"] += 1
            time.sleep(_COMPUTING_SECONDS)
            return make_value(key, load.ledger.run, time.time_ns() // 1_000_000, _SIZE)

        try:
            value = self.cache.get_or_compute(key, compute, TTL, load.options.stale)
        except self.cache.errors as error:
            load.failed(self.cache, "get_or_compute", due, error, write=False)
            return
        verdict = judge(key, value, time.time(), load.options.stale, computed=computed)
        load.answered(self.cache, "get_or_compute", due, verdict, len(value) if value else 0)


def judge(key: str, value: object, now: float, stale: float, *, computed: bool = False) -> Verdict:
    """Judge a value by its age; ``now`` is seconds of the wall clock by which values are stamped.

    ``computed`` says that this caller made a value itself: it missed, whosever value it was given in the end.
    """
    stamp = read_value(value)
    if stamp is None or stamp.key != key.encode():
        return Verdict.WRONG
    age = now - stamp.sequence / 1000
    if age > TTL + stale + CLOCK_GRACE:
        return Verdict.OLD
    if computed:
        return Verdict.MISS
    return Verdict.HIT if age <= TTL + CLOCK_GRACE / 10 else Verdict.STALE_HIT
