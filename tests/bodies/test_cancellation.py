"""Calls that are cancelled or give up at any moment: no later call ever sees their answer, and nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
from typing import Any

import pytest
from polling import until

from kvcache_client import AsyncClient, Client, KvCacheError

CALLS = 20_000
BATCH = 500


def value_of(key: str) -> str:
    return f"the value of {key}"


@pytest.fixture
def filled(proxy: Any) -> Any:
    """A proxy before a node that holds a value for every key, and that is slow now and then."""
    dice = random.Random(1)
    with Client(proxy.address, timeout=30.0) as cache:
        for start in range(0, CALLS, 4000):
            keys = [f"{number}" for number in range(start, start + 4000)]
            assert not cache.set_many({key: value_of(key) for key in keys}).failed
    proxy.delay = lambda: dice.choice([0.0, 0.0, 0.001, 0.004, 0.03])
    return proxy


async def test_cancelled_calls_never_hand_their_answer_to_another(filled: Any, dice: random.Random) -> None:
    loop = asyncio.get_running_loop()
    outcomes = {"answered": 0, "cancelled": 0, "gave up": 0}

    async def call(cache: AsyncClient, key: str) -> None:
        try:
            assert await cache.get(key) == value_of(key), f"{key} got the answer of another call"
        except KvCacheError:
            outcomes["gave up"] += 1
        else:
            outcomes["answered"] += 1

    async with AsyncClient(filled.address, timeout=0.03, connect_timeout=5.0) as cache:
        for start in range(0, CALLS, BATCH):
            tasks = [loop.create_task(call(cache, f"{number}")) for number in range(start, start + BATCH)]
            for task in tasks:
                if dice.random() < 0.3:
                    loop.call_later(dice.random() * 0.02, task.cancel)
            for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                outcomes["cancelled"] += isinstance(outcome, asyncio.CancelledError)
                assert outcome is None or isinstance(outcome, asyncio.CancelledError), repr(outcome)
        filled.delay = lambda: 0.0
        assert sum(outcomes.values()) == CALLS
        assert min(outcomes.values()) > 0, outcomes
        links = cache._session._links.values()
        await until(lambda: all(link.statistics()["waiting"] == 0 for link in links))
    assert cache.brain.counters.late_replies > 0
    assert asyncio.all_tasks() == {asyncio.current_task()}
    gc.collect()
    futures = [it for it in gc.get_objects() if isinstance(it, asyncio.Future) and it.get_loop() is loop]
    assert [it for it in futures if not it.done()] == [asyncio.current_task()]


async def test_the_same_holds_when_the_connection_breaks_meanwhile(
    filled: Any, loop_thread: Any, dice: random.Random
) -> None:
    async def call(cache: AsyncClient, key: str) -> bool:
        try:
            async with asyncio.timeout(dice.random() * 0.3):
                assert await cache.get(key) == value_of(key)
        except (KvCacheError, TimeoutError):
            return False
        return True

    answered = lost = 0
    async with AsyncClient(filled.address, timeout=0.2, connect_timeout=5.0) as cache:
        for start in range(0, 5_000, BATCH):
            calls = [call(cache, f"{number}") for number in range(start, start + BATCH)]
            loop_thread.call(filled.cut)
            outcomes = await asyncio.gather(*calls)
            answered += sum(outcomes)
            lost += len(outcomes) - sum(outcomes)
        filled.delay = lambda: 0.0
        await until(lambda: not cache.brain.down)
        assert await cache.get("7") == value_of("7")
    assert lost > 0
    assert asyncio.all_tasks() == {asyncio.current_task()}


def test_blocking_calls_that_gave_up_never_hand_their_answer_to_another(filled: Any) -> None:
    wrong: list[str] = []
    outcomes = {"answered": 0, "gave up": 0}
    lock = threading.Lock()
    with Client(filled.address, timeout=0.02, connect_timeout=5.0) as cache:

        def work(worker: int) -> None:
            for number in range(worker, 1200, 8):
                key = f"{number}"
                try:
                    value = cache.get(key)
                except KvCacheError:
                    kind = "gave up"
                else:
                    kind = "answered"
                    if value != value_of(key):
                        wrong.append(f"{key} got {value!r}")
                with lock:
                    outcomes[kind] += 1

        threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
    assert wrong == []
    assert sum(outcomes.values()) == 1200
    assert outcomes["answered"] > 0
