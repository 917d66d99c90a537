"""Works of the clients: calls of one verb, by asyncio tasks or by one blocking caller.

Here lives the measured loops. Never here: how a client is opened (``loadtests.peers``) or who takes which
turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Iterator
from functools import partial
from typing import Final

from loadtests.bench.arena import KEYS, VALUES, Arena
from loadtests.bench.goals import OURS
from loadtests.bench.turns import Contestant
from loadtests.peers import ASYNC_CLIENTS, BLOCKING_CLIENTS, AsyncCache, BlockingCache

__all__ = ["BATCH", "Missed", "async_contestant", "async_rate", "blocking_contestant", "blocking_rate"]

BATCH: Final = 100
"""Keys in one call of ``get_many`` and ``set_many``."""

_BATCHES: Final = [list(KEYS[start : start + BATCH]) for start in range(0, len(KEYS), BATCH)]
_MAPPINGS: Final = [{key: VALUES[key] for key in batch} for batch in _BATCHES]


class Missed(Exception):
    """A contestant returned nothing, or something else than was stored."""


class _Whistle:
    """Ends a turn for all tasks at once; looking at it is one attribute."""

    __slots__ = ("blown",)

    def __init__(self) -> None:
        self.blown = False

    def blow(self) -> None:
        self.blown = True


async def async_rate(cache: AsyncCache, verb: str, tasks: int, seconds: float) -> float:
    """Return calls per second of ``tasks`` tasks that each await one call after another."""
    whistle = _Whistle()
    task = {"get": _getter, "set": _setter}[verb]
    keys = itertools.cycle(KEYS)
    asyncio.get_running_loop().call_later(seconds, whistle.blow)
    started = time.perf_counter()
    calls = await asyncio.gather(*(task(cache, keys, whistle) for _ in range(tasks)))
    return sum(calls) / (time.perf_counter() - started)


async def _getter(cache: AsyncCache, keys: Iterator[bytes], whistle: _Whistle) -> int:
    get = cache.get
    calls = 0
    for key in keys:
        if await get(key) is None:
            raise Missed(f"a get of {key!r} missed")
        calls += 1
        if whistle.blown:
            break
    return calls


async def _setter(cache: AsyncCache, keys: Iterator[bytes], whistle: _Whistle) -> int:
    put, values = cache.set, VALUES
    calls = 0
    for key in keys:
        await put(key, values[key])
        calls += 1
        if whistle.blown:
            break
    return calls


def async_contestant(
    arena: Arena, stack: contextlib.ExitStack, name: str, verb: str, tasks: int, ours: str = OURS
) -> Contestant:
    """Open the asyncio client ``name``; ``ours`` is the server that kvcache runs on."""
    spec = ASYNC_CLIENTS[name]
    address = arena.address(ours if name == OURS else spec.server)
    cache: AsyncCache = arena.run(spec.open(address, tasks))
    stack.callback(lambda: arena.run(_closed(cache)))
    arena.run(_check(cache))
    return Contestant(name, lambda seconds: arena.run(async_rate(cache, verb, tasks, seconds)))


async def _check(cache: AsyncCache) -> None:
    key = KEYS[0]
    value = cache.value_of(await cache.get(key))
    if value != VALUES[key]:
        raise Missed(f"a get of {key!r} returned {value!r:.60}")


async def _closed(cache: AsyncCache) -> None:
    await cache.close()


def blocking_contestant(arena: Arena, stack: contextlib.ExitStack, name: str, verb: str) -> Contestant:
    """Open the blocking client ``name``."""
    spec = BLOCKING_CLIENTS[name]
    cache: BlockingCache = spec.open(arena.address(spec.server))
    stack.callback(cache.close)
    return Contestant(name, partial(blocking_rate, cache, verb))


def blocking_rate(cache: BlockingCache, verb: str, seconds: float) -> float:
    """Return keys per second of one caller; the batched verbs take ``BATCH`` keys a call."""
    turn = {"get": _get_until, "get_many": _get_many_until, "set_many": _set_many_until}[verb]
    started = time.perf_counter()
    keys = turn(cache, started + seconds)
    return keys / (time.perf_counter() - started)


def _get_until(cache: BlockingCache, end: float) -> int:
    get, clock = cache.get, time.perf_counter
    calls = 0
    for key in itertools.cycle(KEYS):
        if get(key) is None:
            raise Missed(f"a get of {key!r} missed")
        calls += 1
        if clock() >= end:
            break
    return calls


def _get_many_until(cache: BlockingCache, end: float) -> int:
    calls = 0
    for batch in itertools.cycle(_BATCHES):
        hits = cache.hits_of(cache.get_many(batch))
        if hits != BATCH:
            raise Missed(f"a get_many of {BATCH} keys hit {hits}")
        calls += 1
        if time.perf_counter() >= end:
            break
    return calls * BATCH


def _set_many_until(cache: BlockingCache, end: float) -> int:
    calls = 0
    for batch in itertools.cycle(_MAPPINGS):
        if failures := cache.failures_of(cache.set_many(batch)):
            raise Missed(f"a set_many of {BATCH} keys failed for {failures}")
        calls += 1
        if time.perf_counter() >= end:
            break
    return calls * BATCH
