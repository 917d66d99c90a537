"""Load: many clients at a fixed rate, in a process of their own, which keeps the history of all that they did.

Here lives what clients do and how it is noted. Never here: what breaks meanwhile (``scenarios``), or a judgement.

The load is open: each operation begins when it is due, whatever became of those before. So an outage shows as late operations
and not as few. It runs apart from the process that breaks the cluster,
so that the one does not disturb the clock of the other.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import tempfile
import time
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, Final, Self

import uvloop

from chaos.history import History, Operation, Outcome, Verb, unique_value
from kvcache.cluster.child import start_child, stop_child
from kvcache_client import AsyncClient, KvCacheError
from kvcache_client.core.brain import Brain
from kvcache_client.core.effects import Plan
from kvcache_client.core.writing import write
from kvcache_client.protocol.codec import encode_key
from kvcache_client.protocol.errors import NotApplied, UsageError
from kvcache_client.protocol.record import TOMBSTONE_MS, tombstone

__all__ = ["PARENT_IDS", "Load", "LoadProcess", "Recorder", "delete_versioned"]

PARENT_IDS: Final = 1 << 32
"""Ids of operations from here on belong to the process that watches a load process."""

_START_SECONDS: Final = 30.0
_STOP_SECONDS: Final = 15.0


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked for. ``clients`` share nothing with each other; ``rate`` is operations/s of all of them together."""

    seeds: tuple[str, ...] = ()
    seed: int = 1
    clients: int = 4
    rate: float = 1500.0
    keys: int = 2000
    counters: int = 20
    reads: float = 0.7
    deletes: float = 0.1
    """Share of the writes."""
    increments: float = 0.1
    """Share of the writes."""
    value_bytes: int = 100
    timeout: float = 1.0
    """Seconds that one call may take."""


def delete_versioned(brain: Brain, key: str) -> Plan[int]:
    """Delete a key as ``AsyncClient.delete`` does, and return the version of the tombstone, which judges need."""
    grave = tombstone(brain.hlc.stamp(), brain.hlc.now_ms() + TOMBSTONE_MS)
    written = yield from write(brain, encode_key(key), grave)
    return written.version


class Recorder:
    """One client whose every call goes into a history."""

    def __init__(self, name: str, cache: AsyncClient, history: History, ids: count[int]) -> None:
        self.name = name
        self._cache = cache
        self._history = history
        self._ids = ids

    async def get(self, key: str, due: float = 0.0) -> None:
        """Read a key and note what was seen."""

        async def ask() -> dict[str, Any]:
            entry = await self._cache.get_entry(key)
            if entry is None:
                return {"outcome": Outcome.MISS}
            return {"outcome": Outcome.HIT, "value": entry.value, "version": entry.version}

        await self._note(Verb.GET, key, None, due, ask)

    async def set(self, key: str, due: float = 0.0, *, ttl: float | None = None, padding: int = 0) -> None:
        """Write a value that nobody else writes."""
        id = next(self._ids)
        value = unique_value(key, self.name, id, padding)

        async def ask() -> dict[str, Any]:
            return {"version": await self._cache.set(key, value, ttl)}

        await self._note(Verb.SET, key, value, due, ask, id=id, ttl=ttl)

    async def delete(self, key: str, due: float = 0.0) -> None:
        """Delete a key."""

        async def ask() -> dict[str, Any]:
            return {"version": await self._cache.run(delete_versioned(self._cache.brain, key))}

        await self._note(Verb.DELETE, key, None, due, ask)

    async def incr(self, key: str, due: float = 0.0) -> None:
        """Add one to a counter."""

        async def ask() -> dict[str, Any]:
            await self._cache.incr(key)
            return {}

        await self._note(Verb.INCR, key, 1, due, ask)

    async def erase(self, prefix: str, operation: Callable[[], Awaitable[object]]) -> None:
        """Note a flush or purge, an ``operation`` of somebody else."""

        async def ask() -> dict[str, Any]:
            await operation()
            return {}

        await self._note(Verb.FLUSH, prefix, None, 0.0, ask)

    async def _note(
        self,
        verb: Verb,
        key: str,
        value: Any,
        due: float,
        ask: Callable[[], Awaitable[dict[str, Any]]],
        *,
        id: int | None = None,
        ttl: float | None = None,
    ) -> None:
        id = next(self._ids) if id is None else id
        now = time.monotonic()
        self._history.invoke(Operation(id, self.name, verb, key, value, due or now, now, ttl=ttl))
        try:
            seen = await ask()
        except KvCacheError as error:
            known = verb is Verb.GET or isinstance(error, NotApplied | UsageError)
            seen = {
                "outcome": Outcome.FAILED if known else Outcome.IN_DOUBT,
                "error": f"{type(error).__name__}: {error}",
            }
        self._history.settle(id, time.monotonic(), **({"outcome": Outcome.OK} | seen))


class _Client:
    """Begins one random thing after the other, each when it is due, whether or not those before have ended."""

    def __init__(self, load: Load, recorder: Recorder, number: int) -> None:
        self._load = load
        self._recorder = recorder
        self._dice = random.Random(f"{load.seed}/{number}")
        self._interval = load.clients / load.rate
        self._first = number / load.rate

    async def run(self, start: float, stopping: asyncio.Event) -> None:
        """Work until told to stop; returns when all that was begun has ended."""
        due = start + self._first
        async with asyncio.TaskGroup() as group:
            while not stopping.is_set():
                now = time.monotonic()
                while due <= now:
                    group.create_task(self._one(due))
                    due += self._interval
                await asyncio.sleep(due - now)

    async def _one(self, due: float) -> None:
        load, dice, recorder = self._load, self._dice, self._recorder
        key = key_name(dice.randrange(load.keys))
        if dice.random() < load.reads:
            return await recorder.get(key, due)
        share = dice.random()
        if share < load.deletes:
            return await recorder.delete(key, due)
        if share < load.deletes + load.increments:
            return await recorder.incr(f"counter-{dice.randrange(load.counters)}", due)
        return await recorder.set(key, due, padding=load.value_bytes)


def key_name(number: int) -> str:
    """Return a key of the load; a tenth of them begins with ``old:``, for purges."""
    return f"old:{number}" if number % 10 == 0 else f"key:{number}"


async def _run(load: Load, folder: Path) -> None:
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    history, ids = History(), count()
    caches = [AsyncClient(load.seeds, timeout=load.timeout) for _ in range(load.clients)]
    try:
        recorders = [Recorder(f"c{number}", cache, history, ids) for number, cache in enumerate(caches)]
        await asyncio.gather(*(recorders[0].set(key_name(it), padding=load.value_bytes) for it in range(load.keys)))
        clients = [_Client(load, recorder, number) for number, recorder in enumerate(recorders)]
        start = time.monotonic()
        (folder / "begun").write_text(repr(start))
        await asyncio.gather(*(client.run(start, stopping) for client in clients))
    finally:
        (folder / "history").write_bytes(history.to_bytes())
        for cache in caches:
            await cache.close()


class LoadProcess:
    """A load that runs in a child process. ``begun`` is when it did, its first values written; ``stop`` returns its history."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.begun = 0.0
        self._process: Process | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="kvcache-chaos-")

    async def __aenter__(self) -> Self:
        path = os.pathsep.join(filter(None, sys.path))
        command = [sys.executable, "-m", "chaos.load", json.dumps(asdict(self.load)), self._folder.name]
        try:
            self._process = await start_child(command, environment={**os.environ, "PYTHONPATH": path})
            await self._wait_for_begin(self._process)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process is not None and self._process.returncode is None:
            await stop_child(self._process)
        self._folder.cleanup()

    async def _wait_for_begin(self, process: Process) -> None:
        mark = Path(self._folder.name, "begun")
        async with asyncio.timeout(_START_SECONDS):
            while process.returncode is None and not mark.exists():
                await asyncio.sleep(0.01)
        if process.returncode is not None:
            raise RuntimeError(f"the load ended at its start with code {process.returncode}")
        self.begun = time.monotonic()

    @property
    def pid(self) -> int:
        """The id of its process. Raises ``RuntimeError`` when there is none."""
        if self._process is None:
            raise RuntimeError("the load was not started")
        return self._process.pid

    async def stop(self) -> History:
        """End the load, what is under way included, and return what was done."""
        if self._process is None:
            raise RuntimeError("the load was not started")
        code = await stop_child(self._process, _STOP_SECONDS)
        if code:
            raise RuntimeError(f"the load ended with code {code}")
        return History.from_bytes(Path(self._folder.name, "history").read_bytes())

    def __repr__(self) -> str:
        return f"<LoadProcess {self.load} begun={self.begun:.3f}>"


def _main(arguments: list[str]) -> None:
    load = Load(**json.loads(arguments[0]))
    uvloop.run(_run(replace(load, seeds=tuple(load.seeds)), Path(arguments[1])))


if __name__ == "__main__":
    _main(sys.argv[1:])
