"""The locks of both clients, on three real nodes and a real coordinator."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from polling import wait_until

from kvcache.cluster.coordinator import Coordinator
from kvcache_client import AdminBusy, AsyncClient, Client, InvalidOption, LockLost, StaleFence, UsageError
from kvcache_client.core.locking import held_locks

TIMEOUT = 5.0


@pytest.fixture
async def cache(three_nodes: Any) -> Any:
    async with AsyncClient(three_nodes.seeds, timeout=TIMEOUT) as client:
        yield client


@pytest.fixture
def blocking(three_nodes: Any) -> Any:
    with Client(three_nodes.seeds, timeout=TIMEOUT) as client:
        yield client


async def forget(coordinator: str, name: str) -> None:
    """Take a lock away from whoever holds it."""
    server = Coordinator(coordinator)
    await server.ask("DEL", f"kvcache:trio:lock:user:{name}")
    await server.close()


async def test_one_at_a_time_with_rising_fences(cache: AsyncClient) -> None:
    inside, fences = 0, []

    async def work() -> None:
        nonlocal inside
        async with cache.lock("many", timeout=30) as lock:
            inside += 1
            assert inside == 1
            await asyncio.sleep(0)
            lock.ensure_held()
            fences.append(lock.fence)
            inside -= 1

    await asyncio.gather(*(work() for _ in range(8)))
    assert fences == sorted(set(fences))


async def test_who_has_to_wait_too_long_is_told_who_holds_it(cache: AsyncClient) -> None:
    async with cache.lock("taken") as lock:
        with pytest.raises(AdminBusy, match=r"'user:taken' is held by .*/\d+.* since "):
            await cache.lock("taken", timeout=0).acquire()
        held = await cache.run(held_locks(cache.brain))
        assert ("user:taken", lock.fence) in {(each["resource"], each["fence"]) for each in held}
    held = await cache.run(held_locks(cache.brain))
    assert "user:taken" not in {each["resource"] for each in held}


async def test_a_lock_that_is_taken_away_ends_the_work(cache: AsyncClient, coordinator: str) -> None:
    with pytest.raises(LockLost, match="gone when it was to be renewed"):
        async with cache.lock("lost", lease=0.3):
            await forget(coordinator, "lost")
            await asyncio.Event().wait()


async def test_the_write_of_a_holder_that_lost_its_lock_changes_nothing(cache: AsyncClient, coordinator: str) -> None:
    first = await cache.lock("paused").acquire()
    await forget(coordinator, "paused")
    async with cache.lock("paused") as second:
        await cache.set("under a lock", "second", fence=second.fence)
        with pytest.raises(StaleFence):
            await cache.set("under a lock", "first", fence=first.fence)
    with pytest.raises(LockLost):
        await first.release()
    assert await cache.get("under a lock") == "second"


async def test_a_namespace_has_locks_of_its_own(cache: AsyncClient) -> None:
    async with cache.lock("same"), cache.namespace("shop:").lock("same", timeout=0) as inner:
        assert inner.resource == "user:shop:same"


@pytest.mark.parametrize("name", ["", "x" * 181, "line\n", 5, None])
async def test_a_bad_name_is_refused(cache: AsyncClient, blocking: Client, name: Any) -> None:
    for client in (cache, blocking):
        with pytest.raises((InvalidOption, TypeError)):
            client.lock(name)


@pytest.mark.parametrize("option", ["lease", "timeout"])
@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), "5", 4000])
async def test_bad_seconds_are_refused(cache: AsyncClient, blocking: Client, option: str, seconds: Any) -> None:
    for client in (cache, blocking):
        with pytest.raises(InvalidOption, match=option):
            client.lock("x", **{option: seconds})


def test_the_blocking_lock_is_held_renewed_and_given_back(blocking: Client) -> None:
    lock = blocking.lock("threads", lease=0.3)
    with lock:
        began = lock._expires
        wait_until(lambda: lock._expires > began + 0.3)  # renewed more than a lease later
        lock.ensure_held()
        with pytest.raises(UsageError):
            lock.acquire()
        with pytest.raises(AdminBusy):
            blocking.lock("threads", timeout=0).acquire()
    assert lock.token == ""
    with lock:  # it can be used again
        assert lock.fence > 0
    assert not [thread for thread in threading.enumerate() if "threads" in thread.name]


def test_the_blocking_lock_notices_that_it_is_lost(blocking: Client, loop_thread: Any, coordinator: str) -> None:
    lock = blocking.lock("lost by a thread", lease=0.3).acquire()
    loop_thread.run(forget(coordinator, "lost by a thread"))
    wait_until(lambda: not lock.lease_left)
    with pytest.raises(LockLost):
        lock.ensure_held()
    with pytest.raises(LockLost):
        lock.release()


def test_an_error_inside_is_not_hidden_by_the_loss(blocking: Client, loop_thread: Any, coordinator: str) -> None:
    with pytest.raises(ZeroDivisionError), blocking.lock("both"):
        loop_thread.run(forget(coordinator, "both"))
        raise ZeroDivisionError


def test_threads_take_turns(blocking: Client) -> None:
    turns: list[tuple[int, int]] = []

    def work(number: int) -> None:
        with blocking.lock("turns", timeout=30) as lock:
            turns.append((number, lock.fence))
            time.sleep(0)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(turns) == 5
    assert [fence for _, fence in turns] == sorted({fence for _, fence in turns})
