"""The life of connections: made, shared, dropped, made again, and gone when the client is closed."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from polling import until, wait_until

from kvcache_client import AsyncClient, Client, ClientClosed, KvCacheError, Unavailable
from kvcache_client.core.routing import View
from kvcache_client.placement.topology import Member, Topology
from kvcache_client.protocol.verbs import Verb


async def test_what_is_asked_in_one_turn_of_the_loop_travels_together(scripted: Any) -> None:
    async with AsyncClient(scripted.address, timeout=5.0) as cache:
        await cache.set("k", 1)
        scripted.reads.clear()
        assert await asyncio.gather(*(cache.get("k") for _ in range(500))) == [1] * 500
        assert sum(scripted.reads) == 500
        assert len(scripted.reads) <= 500 / 8
    assert scripted.accepted == 2  # one to ask for the topology, one for everything else


async def test_a_blocking_batch_travels_together(scripted: Any) -> None:
    with Client(scripted.address, timeout=5.0) as cache:
        cache.set("k", 1)
        scripted.reads.clear()
        assert len(cache.set_many({f"{number}": number for number in range(500)})) == 500
        assert len(cache.get_many([f"{number}" for number in range(500)])) == 500
        assert sum(scripted.reads) == 2
    assert scripted.accepted == 2


async def test_requests_from_one_task_do_not_wait_for_company(scripted: Any) -> None:
    async with AsyncClient(scripted.address, timeout=5.0) as cache:
        for number in range(20):
            await cache.set("k", number)
            assert await cache.get("k") == number


async def test_a_connection_that_the_node_closed_is_made_anew(
    open_client: Callable[..., Any], loop_thread: Any, scripted: Any
) -> None:
    cache = open_client(scripted.address)
    for number in range(5):
        await cache.set("k", number)
        loop_thread.call(scripted.hang_up)
        await until(lambda: not scripted.connections or isinstance(cache.client, AsyncClient))
        assert await cache.get("k") == number


@pytest.mark.parametrize("verb", ["get", "set", "get_many", "set_many"])
async def test_a_node_that_restarted_on_its_port_is_used_by_the_next_call(
    open_client: Callable[..., Any], start_node: Callable[..., Any], verb: str
) -> None:
    node = start_node()
    cache = open_client(node.address)
    await cache.set("k", 1)
    node.stop()
    node.start()
    arguments = {"get": ("k",), "set": ("k", 2), "get_many": (["k"],), "set_many": ({"k": 2},)}[verb]
    result = await getattr(cache, verb)(*arguments)
    if verb in ("get_many", "set_many"):
        assert not result.failed
    await cache.set("k", 3)
    assert await cache.get("k") == 3


async def test_a_node_that_is_gone_fails_calls_quickly_and_is_found_when_it_is_back(
    open_client: Callable[..., Any], start_node: Callable[..., Any]
) -> None:
    node = start_node()
    cache = open_client(node.address)
    await cache.set("k", 1)
    node.stop()
    for _ in range(20):
        with pytest.raises(KvCacheError):
            await cache.get("k")
    assert set(cache.client.brain.down) == {node.id}
    node.start()
    deadline = asyncio.get_running_loop().time() + 20
    while True:
        with contextlib.suppress(KvCacheError):
            await cache.set("k", 2)
            break
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.01)
    assert await cache.get("k") == 2


async def test_closing_leaves_no_connection_and_no_task(
    open_client: Callable[..., Any], start_node: Callable[..., Any]
) -> None:
    node = start_node()
    cache = open_client(node.address)
    await cache.set_many({f"{number}": number for number in range(100)})
    await cache.close()
    await until(lambda: node.node.statistics()["stream"]["connections"] == 0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_calls_under_way_end_with_an_error_when_the_client_is_closed(scripted: Any) -> None:
    cache = AsyncClient(scripted.address, timeout=30.0)
    await cache.set("k", 1)
    scripted.answer = lambda node, message: None
    calls = [asyncio.ensure_future(cache.get("k")) for _ in range(20)]
    await asyncio.sleep(0)
    await cache.close()
    for outcome in await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 10):
        assert isinstance(outcome, KvCacheError)


async def test_the_first_call_is_told_when_the_client_is_closed_before_it_found_the_cluster(scripted: Any) -> None:
    """Nobody cancelled that task, so it must not see a cancellation."""
    scripted.answer = lambda node, message: None
    cache = AsyncClient(scripted.address, timeout=30.0, connect_timeout=30.0)
    call = asyncio.ensure_future(cache.get("k"))
    await until(lambda: scripted.accepted == 1)
    await cache.close()
    with pytest.raises(ClientClosed):
        await asyncio.wait_for(call, 10)


async def test_a_first_call_that_is_cancelled_does_not_disturb_the_others(scripted: Any) -> None:
    cache = AsyncClient(scripted.address, timeout=5.0)
    calls = [asyncio.ensure_future(cache.exists("k")) for _ in range(10)]
    await asyncio.sleep(0)
    calls[0].cancel()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(outcomes[0], asyncio.CancelledError)
    assert outcomes[1:] == [False] * 9
    await cache.close()
    assert scripted.accepted == 2


async def test_a_node_that_takes_connections_and_says_nothing_costs_a_call_no_more_than_its_timeout() -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        address = f"127.0.0.1:{deaf.getsockname()[1]}"
        founded = Topology.found("deaf", cluster_id="00c0ffee", seed=1, replication_factor=1)
        cache = AsyncClient(address, timeout=0.1, connect_timeout=600.0)
        cache.brain.adopt(View(founded.with_member(Member("deaf", address)).settled()))
        for verb, arguments in ((cache.get, ("k",)), (cache.set, ("k", 1)), (cache.incr, ("k",))):
            with pytest.raises(Unavailable, match="no connection in time"):
                await asyncio.wait_for(verb(*arguments), 60)
        assert set(cache.brain.down) == {"deaf"}
        await cache.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_many_first_calls_ask_for_the_topology_once(scripted: Any) -> None:
    asked: list[int] = []

    def count(node: Any, message: Any) -> bytes:
        asked.append(message[1])
        answer: bytes = node.honest(message)
        return answer

    scripted.answer = count
    async with AsyncClient(scripted.address, timeout=5.0) as cache:
        await asyncio.gather(*(cache.exists(f"{number}") for number in range(50)))
    assert asked.count(Verb.TOPOLOGY) == 1


def test_threads_share_a_blocking_client(three_nodes: Any) -> None:
    errors: list[BaseException] = []
    versions: list[int] = []
    with Client(three_nodes.seeds, timeout=10.0) as cache:

        def work(worker: int) -> None:
            try:
                for number in range(150):
                    key = f"thread-{worker}-{number}"
                    versions.append(cache.set(key, key))
                    assert cache.get(key) == key
                    assert cache.incr(f"thread-{worker}") == number + 1
                found = cache.get_many([f"thread-{worker}-{number}" for number in range(150)])
                assert all(key == value for key, value in found.items())
                assert len(found) == 150
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert errors == []
        assert len(versions) == len(set(versions)) == 8 * 150


def test_a_blocking_client_keeps_no_more_connections_than_calls_at_once(start_node: Callable[..., Any]) -> None:
    node = start_node()
    with Client(node.address, timeout=10.0) as cache:
        barrier = threading.Barrier(4)

        def work() -> None:
            for number in range(50):
                barrier.wait(10)
                cache.set("k", number)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert node.node.statistics()["stream"]["connections"] <= 4
    wait_until(lambda: node.node.statistics()["stream"]["connections"] == 0)


async def test_a_change_of_the_cluster_is_heard_without_asking(
    open_client: Callable[..., Any], start_node: Callable[..., Any], coordinator: str
) -> None:
    options = {"coordinator": coordinator, "replication_factor": 2}
    name = f"grows-{uuid.uuid4().hex}"  # one coordinator serves the whole run
    first = start_node(cluster=name, id="first", **options)
    cache = open_client(first.address)
    await cache.set("k", 1)
    assert set(cache.client.brain.view.addresses) == {"first"}
    start_node(cluster=name, id="second", **options)
    deadline = asyncio.get_running_loop().time() + 20
    while set(cache.client.brain.view.addresses) != {"first", "second"}:
        assert asyncio.get_running_loop().time() < deadline
        await cache.exists("k")
        await asyncio.sleep(0.005)
    await cache.set("k", 2)
    assert len([copy for copy in (await cache.explain("k")).copies if copy.version]) == 2
