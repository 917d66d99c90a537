"""Holding a lock: one at a time, never for ever, and never without noticing that it is gone."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from contextlib import asynccontextmanager

import pytest
from polling import until

from kvcache.cluster import lock as lock_module
from kvcache.cluster.embedded import EmbeddedValkey
from kvcache.cluster.lock import Lock, LockSurroundings
from kvcache.cluster.lock_store import LockStore
from kvcache_client.bodies import aio_lock
from kvcache_client.protocol.errors import AdminBusy, ControlPlaneUnavailable, InvalidOption, LockLost, UsageError

KEY = "kvcache:test:lock:job"


class Clock:
    """A clock that a test can push ahead, as a pause of the process does."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


def job(store, name="one", **options) -> Lock:
    return Lock(store, "job", **({"owner": name, "doing": f"work of {name}"} | options))


async def forever():
    await asyncio.Event().wait()


@asynccontextmanager
async def stopped(valkey):
    os.kill(valkey.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(valkey.pid, signal.SIGCONT)


async def test_many_tasks_hold_it_one_after_the_other_with_rising_fences(store):
    inside, fences = [], []

    async def work(number):
        async with job(store, f"n{number}", timeout=30) as lock:
            inside.append(number)
            assert inside == [number]
            await asyncio.sleep(0)
            lock.ensure_held()
            fences.append(lock.fence)
            inside.remove(number)

    await asyncio.gather(*(work(number) for number in range(12)))
    assert fences == list(range(1, 13))
    assert await store.locks() == []


async def test_a_lock_that_stays_taken_names_its_holder_when_the_time_is_over(store):
    async with job(store, "node-1", doing="repair of all"):
        with pytest.raises(AdminBusy, match=r"node-1.*since .*: repair of all") as caught:
            async with job(store, "node-2", timeout=0.05):
                pytest.fail("two holders")
        assert 0 < caught.value.detail <= 10_000
        assert [held.owner for held in await store.locks()] == ["node-1"]


async def test_a_dead_holders_lease_is_waited_for(store):
    await store.acquire("job", "of a dead process", 150, "dead", "")
    async with job(store) as lock:
        assert lock.fence == 2


async def test_the_floor_is_asked_before_each_attempt(store, server):
    floors = iter([5, 100, 100, 100, 100, 100, 100, 100])

    async def floor():
        if (highest := next(floors)) == 100:
            await store.release("job", "other")
        return highest

    await store.acquire("job", "other", 60_000, "other", "")
    async with job(store, floor=floor) as lock:
        assert lock.fence == 101
    await server("FLUSHALL")
    async with job(store, floor=floor) as lock:
        assert lock.fence == 101


async def test_nodes_that_never_report_their_fences_hold_nobody_up(store, monkeypatch):
    monkeypatch.setattr(lock_module, "FLOOR_SECONDS", 0.05)
    with pytest.raises(ControlPlaneUnavailable, match="did not report"):
        await job(store, floor=forever).__aenter__()
    await until(lambda: not aio_lock._releases)


async def test_renewal_keeps_the_lock_beyond_its_lease(store):
    renewals = []
    renew = store.renew

    async def counted(*args):
        renewals.append(await renew(*args))
        return renewals[-1]

    store.renew = counted
    async with job(store, lease=0.3) as lock:
        await until(lambda: len(renewals) >= 6)
        lock.ensure_held()
        assert (await store.locks())[0].fence == lock.fence
    assert all(renewals)


async def test_a_lock_that_is_taken_away_cancels_the_work(store, server):
    with pytest.raises(LockLost, match="gone when it was to be renewed"):
        async with job(store, lease=0.3) as lock:
            await server("DEL", KEY)
            await forever()
    assert asyncio.current_task().cancelling() == 0
    with pytest.raises(LockLost):
        lock.ensure_held()


async def test_a_server_that_falls_silent_cancels_the_work_when_the_lease_is_over(valkey, store):
    with pytest.raises(LockLost, match="ran out"):
        async with job(store, lease=0.4), stopped(valkey):
            await forever()
    await until_free(store)


async def until_free(store):
    async with asyncio.timeout(10):
        while await store.locks():
            await asyncio.sleep(0.005)


async def test_a_paused_holder_knows_at_once_and_a_second_one_has_a_higher_fence(store, server):
    clock = Clock()
    with pytest.raises(LockLost):
        async with job(store, surroundings=LockSurroundings(clock=clock)) as first:
            first.ensure_held()
            await server("DEL", KEY)
            clock.ahead = 11.0
            first.ensure_held()
    async with job(store, "two") as second:
        assert second.fence > first.fence
    assert await store.locks() == []


async def test_work_that_ends_after_its_lease_without_having_looked_ends_with_the_error(store):
    clock = Clock()
    with pytest.raises(LockLost):
        async with job(store, surroundings=LockSurroundings(clock=clock)):
            clock.ahead = 11.0


async def test_a_grant_that_comes_after_its_own_lease_is_none(store):
    clock, acquire = Clock(), store.acquire

    async def slow(*args):
        outcome = await acquire(*args)
        clock.ahead += 11.0
        return outcome

    store.acquire = slow
    with pytest.raises(LockLost, match="before its grant came"):
        await job(store, surroundings=LockSurroundings(clock=clock)).__aenter__()
    await until_free(store)


async def test_a_lock_that_was_gone_at_the_end_is_reported(store, server):
    with pytest.raises(LockLost):
        async with job(store):
            await server("FLUSHALL")


async def test_the_works_own_error_comes_out_and_the_lock_is_free(store, server):
    with pytest.raises(ZeroDivisionError):
        async with job(store):
            raise ZeroDivisionError
    assert await store.locks() == []
    with pytest.raises(ZeroDivisionError):
        async with job(store):
            await server("FLUSHALL")
            raise ZeroDivisionError


async def test_a_cancellation_from_outside_stays_one(store):
    entered = asyncio.Event()

    async def work():
        async with job(store):
            entered.set()
            await forever()

    task = asyncio.ensure_future(work())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until_free(store)


async def test_a_cancellation_from_outside_wins_over_the_loss_of_the_lock(store, server):
    async def work():
        async with job(store, lease=0.2):
            await server("DEL", KEY)
            try:
                await forever()
            finally:
                task.cancel()
                await asyncio.sleep(0)

    task = asyncio.ensure_future(work())
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_timeout_around_the_work_stays_a_timeout(store):
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1), job(store):
            await forever()
    await until_free(store)


async def test_a_cancellation_at_any_moment_leaves_no_lock_behind(store):
    dice = random.Random(4711)
    for _ in range(60):

        async def work():
            async with job(store):
                await asyncio.sleep(0)

        task = asyncio.ensure_future(work())
        if dice.random() < 0.5:
            for _ in range(dice.randrange(30)):
                await asyncio.sleep(0)
        else:
            await asyncio.sleep(dice.random() * 0.004)
        task.cancel()
        (outcome,) = await asyncio.gather(task, return_exceptions=True)
        assert outcome is None or isinstance(outcome, asyncio.CancelledError)
        await until(lambda: not aio_lock._releases)
        assert await store.locks() == []


async def test_without_a_server_taking_a_lock_fails_within_its_bound(valkey, coordinators):
    store = LockStore(coordinators(valkey.url, timeout=0.2), "test")
    await store.locks()
    async with stopped(valkey), asyncio.timeout(5):  # far below the timeout of the lock
        with pytest.raises(ControlPlaneUnavailable):
            await job(store, timeout=60).__aenter__()
    async with EmbeddedValkey() as gone:
        url = gone.url
    with pytest.raises(ControlPlaneUnavailable):
        await job(LockStore(coordinators(url), "test"), timeout=60).__aenter__()
    await until(lambda: not aio_lock._releases)
    await until_free(store)  # also of a request that the stopped server found when it went on


async def test_work_that_is_done_is_done_though_the_server_is_away_for_the_release(valkey, store, caplog):
    async with job(store):
        await valkey.stop()
    assert "ends with its lease" in caplog.text


async def test_a_lock_can_be_used_again_but_not_twice_at_once(store):
    lock = job(store)
    assert "free" in repr(lock)
    for fence in (1, 2):
        async with lock:
            assert lock.fence == fence
            assert "held" in repr(lock)
            assert lock.token not in repr(lock)
            with pytest.raises(UsageError, match="in use"):
                await lock.__aenter__()
    with pytest.raises(LockLost):
        lock.ensure_held()


@pytest.mark.parametrize("option", ["lease", "timeout"])
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), "5", None, True, 1e9])
async def test_a_bad_number_of_seconds_is_refused(coordinators, option, value):
    with pytest.raises(InvalidOption, match=option):
        job(LockStore(coordinators("redis://127.0.0.1:1"), "test"), **{option: value})
