"""A cache that stands still for a second, once: prints how many operations, closed and open, took longer than a third of that."""

from __future__ import annotations

import sys
import time

import locust  # noqa: F401  # first: it has gevent patch what the others import
from lying_cache import LyingCache
from runs import begin, wait_for

from loadtests.users.mixes import ReadMostly

STALL = 1.0
USERS = 5


class StallingCache(LyingCache):
    """Answers at once, except for one second."""

    still_until = 0.0

    def get(self, key: str) -> object:
        self._stand()
        return super().get(key)

    def set(self, key: str, value: bytes, ttl: float | None) -> None:
        self._stand()
        super().set(key, value, ttl)

    def _stand(self) -> None:
        time.sleep(max(self.still_until - time.monotonic(), 0.002))


def main(*words: str) -> None:
    cache = StallingCache("nothing")
    environment, workload = begin([ReadMostly], cache, "--keys", "1000", *words)
    environment.runner.start(USERS, spawn_rate=USERS)
    wait_for(lambda: workload.recording.count() > 50)
    cache.still_until = time.monotonic() + STALL
    before = workload.recording.count()
    wait_for(lambda: time.monotonic() > cache.still_until and workload.recording.count() > before + 250)
    workload.stopping = True
    histogram = workload.recording.latency()
    late = sum(histogram.percentile(rank / 10_000) > STALL / 3 for rank in range(1, 10_001)) * histogram.count / 10_000
    print(f"LATE {late:.1f}")
    environment.runner.quit()


if __name__ == "__main__":
    main(*sys.argv[1:])
