"""Load: one point of a throughput curve.

Here lives the tasks and their clock. Never here: which points there are (``axes``), or starting a cluster.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final

from kvcache_client import AsyncClient
from kvcache_client.protocol.errors import KvCacheError
from loadtests import CannotRun
from loadtests.curves.axes import Point
from loadtests.histogram import LatencyHistogram

__all__ = ["Measured", "measure_point"]

READS: Final = 0.95
_TIMEOUT: Final = 5.0
_BATCH_BYTES: Final = 1 << 20
_DRAWN: Final = 256  # keys that a task goes through, again and again
_WARM_UP: Final = 0.25  # of the seconds of a measurement


@dataclass(frozen=True, slots=True)
class Measured:
    """What a point gave: calls per second, the latency of gets and sets in seconds, and how many calls failed or missed."""

    per_second: float
    get: LatencyHistogram
    set: LatencyHistogram
    failed: int
    missed: int


@dataclass(slots=True)
class _Turn:
    """What the tasks of one measurement share."""

    keys: list[bytes]
    value: bytes
    end: float
    get: LatencyHistogram
    set: LatencyHistogram
    failed: int = 0
    missed: int = 0


async def measure_point(
    seeds: str, point: Point, seconds: float, clock: Callable[[], float] = time.perf_counter
) -> Measured:
    """Write all keys of the point, warm up and measure. Raises ``CannotRun`` when the keys can't be written."""
    keys = [b"curve:%d:%d" % (point.value_bytes, number) for number in range(point.keys)]
    value = b"." * point.value_bytes
    async with AsyncClient(seeds, timeout=_TIMEOUT) as client:
        await _preload(client, keys, value)
        await _turn(client, point, keys, value, seconds * _WARM_UP, clock)
        gc.collect()
        started = clock()
        turn = await _turn(client, point, keys, value, seconds, clock)
        elapsed = clock() - started
    calls = turn.get.count + turn.set.count
    return Measured(calls / elapsed, turn.get, turn.set, turn.failed, turn.missed)


async def _preload(client: AsyncClient, keys: list[bytes], value: bytes) -> None:
    batch = max(1, min(500, _BATCH_BYTES // (len(value) + 1)))
    for start in range(0, len(keys), batch):
        result = await client.set_many(dict.fromkeys(keys[start : start + batch], value))
        for key, error in result.failed.items():
            raise CannotRun(f"the key {key!r} of a curve could not be written: {error}")


async def _turn(
    client: AsyncClient, point: Point, keys: list[bytes], value: bytes, seconds: float, clock: Callable[[], float]
) -> _Turn:
    turn = _Turn(keys, value, clock() + seconds, LatencyHistogram(), LatencyHistogram())
    await asyncio.gather(*(_task(client, turn, Random(number), clock) for number in range(point.tasks)))
    return turn


async def _task(client: AsyncClient, turn: _Turn, dice: Random, clock: Callable[[], float]) -> None:
    # Drawn in advance: drawing costs as much as a tenth of a call.
    drawn = [(key, dice.random() < READS) for key in dice.choices(turn.keys, k=_DRAWN)]
    get, put, value = client.get, client.set, turn.value
    began = clock()
    while began < turn.end:
        for key, read in drawn:
            began = clock()
            if began >= turn.end:
                break
            try:
                if read:
                    turn.missed += await get(key) is None
                else:
                    await put(key, value)
            except KvCacheError:
                turn.failed += 1
            (turn.get if read else turn.set).record(clock() - began)
