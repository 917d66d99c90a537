"""Users on a cache that lies in known ways: prints what they found and how often it lied, as JSON."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import locust  # noqa: F401  # first: it has gevent patch what the others import
from runs import begin, wait_for

from loadtests.adapters import BatchAnswer, NodeFigures
from loadtests.run.conclude import conclude
from loadtests.users import mixes
from loadtests.users.stampede import Stampede

OPERATIONS = 6000
USERS = {**vars(mixes), "Stampede": Stampede}


class Refused(Exception):
    """Surely not applied."""


class Unheard(Exception):
    """Applied or not, nobody knows."""


class LyingCache:
    """A dict that tells the truth unless ``lie`` says otherwise, and counts its lies."""

    errors = (Refused, Unheard)

    def __init__(self, lie: str) -> None:
        self.lie = lie
        self.lies: Counter[str] = Counter()
        self._held: dict[str, Any] = {}
        self._before: dict[str, bytes] = {}
        self._fresh_until: dict[str, float] = {}
        self._chances = 0

    def _lies(self, kind: str, possible: bool = True) -> bool:
        if self.lie != kind or not possible:
            return False
        self._chances += 1
        if self._chances % 20:
            return False
        self.lies[kind] += 1
        return True

    def in_doubt(self, error: Exception) -> bool:
        return isinstance(error, Unheard)

    def answered_by(self) -> str:
        return "n1"

    def get(self, key: str) -> Any:
        answer = self._answer(key)
        time.sleep(0)
        return answer

    def _answer(self, key: str) -> Any:
        value = self._held.get(key)
        if self._lies("old", key in self._before):
            return self._before[key]
        if self._lies("wrong", value is not None and len(self._held) > 1):
            return next(held for other, held in self._held.items() if other != key)
        if self._lies("damaged", isinstance(value, bytes)):
            return value[:-1] + b"?"
        if self._lies("forgets", value is not None):
            return None
        if self._lies("evicts", value is not None):
            del self._held[key]
            return None
        if self._lies("fails"):
            raise Refused("not now")
        return value

    def set(self, key: str, value: bytes, ttl: float | None) -> None:
        time.sleep(0)  # as a real one does: others go on while a write is under way
        if self._lies("drops"):
            self._held.pop(key, None)  # acknowledged, and nothing is there
            return
        if self._lies("silent"):
            raise Unheard("no answer")
        if isinstance(self._held.get(key), bytes):
            self._before[key] = self._held[key]
        self._held[key] = value

    def delete(self, key: str) -> None:
        time.sleep(0)
        self._held.pop(key, None)
        self._before.pop(key, None)

    def touch(self, key: str, ttl: float | None) -> bool:
        return key in self._held

    def incr(self, key: str, by: int) -> int:
        time.sleep(0)
        if not self._lies("miscounts"):
            self._held[key] = self._held.get(key, 0) + by
        return int(self._held.get(key, 0))

    def get_many(self, keys: Sequence[str]) -> BatchAnswer:
        return BatchAnswer({key: self._held[key] for key in keys if key in self._held})

    def set_many(self, values: Mapping[str, bytes], ttl: float | None) -> BatchAnswer:
        self._held.update(values)
        return BatchAnswer(dict(values))

    def get_or_compute(self, key: str, load: Callable[[], bytes], ttl: float, stale: float) -> Any:
        time.sleep(0)
        if self._fresh_until.get(key, 0.0) < time.monotonic():
            self._held[key], self._fresh_until[key] = load(), time.monotonic() + ttl
        return self._held[key]

    def node_figures(self) -> Mapping[str, NodeFigures]:
        return {"n1": NodeFigures(1, 2, len(self._held), self.lies["evicts"])}

    def close(self) -> None:
        return None


def main(lie: str, users: str, *words: str) -> None:
    cache = LyingCache(lie)
    environment, workload = begin([USERS[users]], cache, "--keys", "50", "--hot-keys", "3", *words)
    environment.runner.start(5, spawn_rate=5)
    wait_for(lambda: workload.recording.count() > OPERATIONS)
    conclude(workload)
    environment.runner.quit()
    found = {
        "lies": cache.lies.total(),
        "facts": dict(workload.recording.facts),
        "reasons": sum(workload.recording.reasons.values()),
        "misses": workload.recording.count("miss"),
        "failed": workload.recording.count("failed"),
        "in doubt": workload.recording.count("in doubt"),
        "locust failures": environment.stats.total.num_failures,
        "locust rows": sorted(f"{method} {name}" for name, method in environment.stats.entries),
    }
    print("FOUND " + json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
