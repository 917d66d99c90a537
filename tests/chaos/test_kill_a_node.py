"""``kill -9`` of one node out of three, under load: nothing acknowledged is lost, and reads go on."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from kvcache_client import AsyncClient, InDoubt, KvCacheError

WRITERS = 8
READERS = 8
OPERATIONS_BEFORE = 4_000
OPERATIONS_AFTER = 12_000


@pytest.fixture
async def cluster() -> AsyncIterator[dict[str, Any]]:
    """``kvcache up`` as a user starts it, and no process of it left behind."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "kvcache", "up", "--port", "0", "--memory", "64MiB", "--json"), stdout=PIPE
    )
    assert process.stdout is not None
    try:
        line = await asyncio.wait_for(process.stdout.readline(), 60)
        told = json.loads(line)
        yield told
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        code = await asyncio.wait_for(process.wait(), 30)
    assert code == 0
    assert not [pid for pid in (node["pid"] for node in told["nodes"]) if _alive(pid)]
    assert not _alive(told["coordinator"]["pid"])


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@dataclass
class History:
    """What was acknowledged and what was seen. Every value is unique and says which key it belongs to."""

    acknowledged: dict[str, int] = field(default_factory=dict)
    attempted: dict[str, int] = field(default_factory=dict)
    operations: int = 0
    in_doubt: int = 0
    not_applied: int = 0
    failed_reads: list[KvCacheError] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def judge(self, key: str, value: Any, floor: int) -> None:
        """A read must show the last acknowledged write of its key, or one that was attempted after it."""
        if not isinstance(value, str) or not value.startswith(key + "|"):
            self.wrong.append(f"{key}: {value!r} after {floor} was acknowledged")
        elif not floor <= int(value.partition("|")[2]) <= self.attempted[key]:
            self.wrong.append(f"{key}: {value!r}, acknowledged {floor}, attempted {self.attempted[key]}")


async def _write(cache: AsyncClient, history: History, writer: int, until: int) -> None:
    sequence = 0
    while history.operations < until:
        sequence += 1
        key = f"key-{writer}-{sequence % 200}"
        history.attempted[key] = sequence
        history.operations += 1
        try:
            await cache.set(key, f"{key}|{sequence}")
        except InDoubt:
            history.in_doubt += 1
        except KvCacheError:
            history.not_applied += 1
        else:
            history.acknowledged[key] = sequence


async def _read(cache: AsyncClient, history: History, reader: int, until: int) -> None:
    turn = reader
    while history.operations < until:
        keys = list(history.acknowledged)
        if not keys:
            await asyncio.sleep(0)
            continue
        turn += 7
        key = keys[turn % len(keys)]
        floor = history.acknowledged[key]
        history.operations += 1
        try:
            history.judge(key, await cache.get(key), floor)
        except KvCacheError as error:
            history.failed_reads.append(error)


async def _run_until(cache: AsyncClient, history: History, until: int) -> None:
    # Each run has writers of its own names, so a key has one writer at a time and its sequence only grows.
    writers = [_write(cache, history, until + number, until) for number in range(WRITERS)]
    readers = [_read(cache, history, number, until) for number in range(READERS)]
    await asyncio.gather(*writers, *readers)


async def test_nothing_acknowledged_is_lost_and_no_read_fails(cluster: dict[str, Any]) -> None:
    history = History()
    seeds = [node["address"] for node in cluster["nodes"]]
    async with AsyncClient(seeds, timeout=2.0) as cache:
        await _run_until(cache, history, OPERATIONS_BEFORE)
        assert history.not_applied == history.in_doubt == 0
        running = asyncio.create_task(_run_until(cache, history, OPERATIONS_BEFORE + OPERATIONS_AFTER))
        while history.operations < OPERATIONS_BEFORE + OPERATIONS_AFTER // 4:
            await asyncio.sleep(0)
        os.kill(cluster["nodes"][1]["pid"], signal.SIGKILL)
        await running

        assert not history.failed_reads
        assert not history.wrong
        for key, floor in history.acknowledged.items():
            history.judge(key, await cache.get(key), floor)
        assert not history.wrong

    async with AsyncClient(seeds, timeout=2.0) as newcomer:  # one that has never known the dead node
        for key, floor in history.acknowledged.items():
            history.judge(key, await newcomer.get(key), floor)
    assert not history.wrong
    assert history.operations >= OPERATIONS_BEFORE + OPERATIONS_AFTER


async def test_the_checker_notices_a_planted_loss() -> None:
    history = History(acknowledged={"a": 2}, attempted={"a": 3})
    history.judge("a", "a|2", 2)
    history.judge("a", "a|3", 2)
    assert not history.wrong
    history.judge("a", None, 2)
    history.judge("a", "a|1", 2)
    history.judge("a", "b|2", 2)
    history.judge("a", "a|4", 2)
    assert len(history.wrong) == 4
