"""The load of a replay and its tally, against a cache in memory."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from kvcache_client.protocol.errors import DeadlineExceeded, NoAnswer
from loadtests.callers import ReplayOptions, Tally, paced, replay


class MemoryCache:
    """A cache that remembers what it was asked; ``failures`` maps keys to what a get or set of them raises."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self.asked: list[bytes] = []
        self.ttls: set[float | None] = set()
        self.get_failures: dict[bytes, Exception] = {}
        self.set_failures: dict[bytes, Exception] = {}
        self.at_once = self.most_at_once = 0

    async def get(self, key: bytes) -> Any:
        self.asked.append(key)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        if key in self.get_failures:
            raise self.get_failures[key]
        return self.values.get(key)

    async def set(self, key: bytes, value: bytes, ttl: float | None = None) -> None:
        if key in self.set_failures:
            raise self.set_failures[key]
        self.ttls.add(ttl)
        self.values[key] = value


async def _replayed(cache: MemoryCache, requests: list[tuple[int, int]], **options: Any) -> Tally:
    tally = Tally()
    await replay(cache, iter(requests), ReplayOptions(**options), tally)
    return tally


async def test_a_miss_is_set_with_the_traced_size_and_ttl_and_hits_the_next_time() -> None:
    cache = MemoryCache()
    tally = await _replayed(cache, [(1, 300), (2, 50), (1, 300), (1, 300)], concurrency=1, ttl=60.0)
    assert (tally.hits, tally.misses, tally.wrong) == (2, 2, 0)
    assert tally.hit_ratio == 0.5
    assert {key: len(value) for key, value in cache.values.items()} == {b"1": 300, b"2": 50}
    assert cache.ttls == {60.0}
    assert (tally.get.latency.count, tally.set.latency.count) == (4, 2)


async def test_a_value_of_another_key_is_counted_as_wrong() -> None:
    cache = MemoryCache()
    cache.values = {b"1": b"12:....", b"2": b"2:......", b"3": b"text"}
    tally = await _replayed(cache, [(1, 8), (2, 8), (3, 8)])
    assert (tally.hits, tally.misses, tally.wrong) == (1, 0, 2)


async def test_failed_operations_are_counted_by_the_class_of_their_error() -> None:
    cache = MemoryCache()
    cache.get_failures = {b"1": DeadlineExceeded("late")}
    cache.set_failures = {b"2": NoAnswer("silent")}
    tally = await _replayed(cache, [(1, 8), (1, 8), (2, 8), (3, 8)])
    assert dict(tally.get.failed) == {"DeadlineExceeded": 2}
    assert dict(tally.set.failed) == {"NoAnswer": 1}
    gets = tally.hits + tally.misses + tally.wrong + tally.get.failed.total()
    assert gets == tally.get.latency.count == 4
    assert tally.set.latency.count == tally.misses == 2


async def test_an_error_that_is_not_the_caches_ends_the_replay() -> None:
    cache = MemoryCache()
    cache.get_failures = {b"1": RuntimeError("a bug")}
    with pytest.raises(ExceptionGroup, match="unhandled"):
        await _replayed(cache, [(1, 8)])


async def test_requests_are_sent_in_the_order_of_the_trace_by_as_many_callers_as_asked() -> None:
    cache = MemoryCache()
    await _replayed(cache, [(number, 8) for number in range(100)], concurrency=7)
    assert cache.asked == [b"%d" % number for number in range(100)]
    assert cache.most_at_once == 7


def _clock(step: float) -> Any:
    return itertools.count(0.0, step).__next__


def test_a_limit_spaces_the_requests_evenly_from_the_start() -> None:
    options = ReplayOptions(limit=10)
    waits = [wait for wait, _, _ in paced(iter([(1, 8)] * 4), options, 0.0, lambda: 0.0)]
    assert waits == pytest.approx([0.0, 0.1, 0.2, 0.3])


def test_a_late_request_is_not_made_to_wait() -> None:
    waits = [wait for wait, _, _ in paced(iter([(1, 8)] * 3), ReplayOptions(limit=10), 0.0, _clock(5.0))]
    assert all(wait <= 0 for wait in waits)


def test_a_replay_with_an_end_takes_no_request_after_it() -> None:
    taken = list(paced(itertools.repeat((1, 8)), ReplayOptions(seconds=2.5), 0.0, _clock(1.0)))
    assert taken == [(0.0, 1, 8)] * 3  # asked at 0, 1 and 2 s
