"""Two living processes under one id: the second is refused, or the first learns that it was replaced."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from polling import until

from kvcache.cluster.changes import registered
from kvcache.cluster.registry import Registry
from kvcache.node import Node
from kvcache_client import AsyncClient, InvalidOption
from kvcache_client.core.pulling import ask
from kvcache_client.protocol.verbs import Verb

_names = itertools.count()


@pytest.fixture
def name() -> str:
    return f"twins-{next(_names)}"


@pytest.fixture
def start(start_node: Callable[..., Any], coordinator: str, name: str) -> Callable[..., Any]:
    return lambda id, **options: start_node(id=id, cluster=name, coordinator=coordinator, **options)


async def test_a_second_process_under_a_living_id_is_refused_and_told_both_addresses(
    start: Callable[..., Any],
) -> None:
    first = await asyncio.to_thread(start, "a1")
    with pytest.raises(InvalidOption, match=f"a1 lives at {first.address} already; this process at 127.0.0.1:"):
        await asyncio.to_thread(start, "a1")
    async with AsyncClient(first.address, timeout=5.0) as cache:
        await cache.set("k", 1)
        assert await cache.get("k") == 1
    assert first.node.topology().member("a1").address == first.address


async def test_who_moved_to_another_address_is_not_taken_for_its_former_life_and_is_found_there(
    start: Callable[..., Any], loop_thread: Any
) -> None:
    first = await asyncio.to_thread(start, "a1")
    other = await asyncio.to_thread(start, "a2")
    address = first.address

    def ping() -> None:
        loop_thread.run(other.node.client.run(ask("a1", [0, Verb.PING])))

    await until(lambda: other.node.topology().epoch == first.node.topology().epoch)
    await asyncio.to_thread(ping)
    await asyncio.to_thread(first.stop)
    again = await asyncio.to_thread(start, "a1")
    assert again.address != address
    await until(lambda: other.node.topology().member("a1").address == again.address)
    await asyncio.to_thread(ping)


async def test_who_reads_that_another_living_process_has_its_place_ends(
    start: Callable[..., Any], start_node: Callable[..., Any], coordinator: str, name: str
) -> None:
    first = await asyncio.to_thread(start, "a1")
    await asyncio.to_thread(start, "a2")
    # The second life of a1 began while the first could not be asked, and does not know of it.
    twin = await asyncio.to_thread(start_node, id="a1", cluster=name)
    registry = Registry(coordinator, name)
    usurper = twin.options.member(incarnation=twin.node.incarnation)
    await registry.update(lambda topology: registered(topology, usurper))
    await until(lambda: first.node.place.reason)
    assert twin.address in first.node.place.reason
    assert first.address in first.node.place.reason
    await until(lambda: not any(first.node.service.readable))  # its loop has another thread, which may not be as far
    await registry.close()


async def test_who_reads_of_a_former_life_of_its_own_takes_its_place_again(
    start: Callable[..., Any], coordinator: str, name: str
) -> None:
    first = await asyncio.to_thread(start, "a1")
    await asyncio.to_thread(start, "a2")
    registry = Registry(coordinator, name)
    ghost = first.node.options.member(incarnation="former-life")
    haunted = await registry.update(lambda topology: registered(topology, ghost))
    await until(lambda: first.node.topology().epoch > haunted.epoch and _is_up(first.node, first.node.incarnation))
    assert not first.node.place.reason
    await registry.close()


def _is_up(node: Node, incarnation: str) -> bool:
    member = node.topology().member("a1")
    return member is not None and (member.incarnation, member.state) == (incarnation, "up") and node.ready()
