"""The load of a replay: concurrent callers that walk one trace, and the tally of what they saw.

Here lives who calls what and what counts as what. Never here: a command line, printing, or how a cluster is
reached.

Each caller takes the next request of the trace, so the order is kept to within ``concurrency`` requests: a
get, and on a miss a set with the traced size and the TTL, as an application would do. Every value begins with
its key, so a hit is checked to belong to its key; one that does not is ``wrong``. Latency is what a caller
waits, failed operations included. The load is closed (a slow answer delays the next request of its caller),
so percentiles say how the cluster serves this many callers, not how it would serve a fixed rate of arrivals;
``limit`` caps the rate.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from kvcache_client.protocol.errors import KvCacheError
from loadtests.histogram import LatencyHistogram
from loadtests.trace import key_of, value_of

__all__ = ["Cache", "ReplayOptions", "Tally", "VerbTally", "paced", "replay"]


class Cache(Protocol):
    """The part of ``AsyncClient`` that a replay uses."""

    async def get(self, key: bytes) -> Any:
        """Return the value or None."""

    async def set(self, key: bytes, value: bytes, ttl: float | None = None) -> Any:
        """Store the value for ``ttl`` seconds."""


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """How to replay: ``seconds`` ends it early, ``limit`` caps the requests per second, ``ttl`` in s."""

    concurrency: int = 50
    ttl: float | None = 3600.0
    limit: float | None = None
    seconds: float | None = None


@dataclass(slots=True)
class VerbTally:
    """One verb: the latency of every operation, and the failed ones by the class of their error."""

    latency: LatencyHistogram = field(default_factory=LatencyHistogram)
    failed: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Tally:
    """What happened: gets = hits + misses + wrong + failed gets; sets = misses."""

    get: VerbTally = field(default_factory=VerbTally)
    set: VerbTally = field(default_factory=VerbTally)
    hits: int = 0
    misses: int = 0
    wrong: int = 0
    elapsed: float = 0.0

    @property
    def hit_ratio(self) -> float:
        """Hits among the gets that were answered, 0 to 1."""
        answered = self.hits + self.misses + self.wrong
        return self.hits / answered if answered else 0.0

    def verbs(self) -> dict[str, VerbTally]:
        """Return the tallies by the name of their verb."""
        return {"get": self.get, "set": self.set}


async def replay(
    cache: Cache,
    requests: Iterator[tuple[int, int]],
    options: ReplayOptions,
    tally: Tally,
    clock: Callable[[], float] = time.perf_counter,
) -> None:
    """Send ``requests`` (key number, size in bytes) through ``cache`` and count what happens in ``tally``."""
    started = clock()
    shared = paced(requests, options, started, clock)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(options.concurrency):
            tasks.create_task(_caller(cache, shared, options.ttl, tally, clock))
    tally.elapsed = clock() - started


def paced(
    requests: Iterator[tuple[int, int]], options: ReplayOptions, started: float, clock: Callable[[], float]
) -> Iterator[tuple[float, int, int]]:
    """Yield each request with the seconds to wait before it; one iterator serves all tasks."""
    end = started + options.seconds if options.seconds is not None else float("inf")
    interval = 1 / options.limit if options.limit else 0.0
    for number, (key, size) in enumerate(requests):
        now = clock()
        if now >= end:
            return
        yield (started + number * interval - now if interval else 0.0), key, size


async def _caller(
    cache: Cache,
    requests: Iterator[tuple[float, int, int]],
    ttl: float | None,
    tally: Tally,
    clock: Callable[[], float],
) -> None:
    for delay, number, size in requests:
        if delay > 0:
            await asyncio.sleep(delay)
        key = key_of(number)
        begun = clock()
        try:
            value = await cache.get(key)
        except KvCacheError as error:
            tally.get.failed[type(error).__name__] += 1
            continue
        finally:
            tally.get.latency.record(clock() - begun)
        if value is not None:
            _judge(key, value, tally)
            continue
        tally.misses += 1
        begun = clock()
        try:
            await cache.set(key, value_of(key, size), ttl=ttl)
        except KvCacheError as error:
            tally.set.failed[type(error).__name__] += 1
        finally:
            tally.set.latency.record(clock() - begun)


def _judge(key: bytes, value: Any, tally: Tally) -> None:
    if isinstance(value, bytes) and value.startswith(key + b":"):
        tally.hits += 1
    else:
        tally.wrong += 1
