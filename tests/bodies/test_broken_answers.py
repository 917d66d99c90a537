"""Nodes that answer too late, nonsense, or not at all: a typed error in time, and the next call is right."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from polling import PATIENCE

from kvcache_client import AsyncClient, Client, ClientConfig, KvCacheError
from kvcache_client.core.effects import Within
from kvcache_client.core.retry import Backoff
from kvcache_client.protocol.errors import DeadlineExceeded, InDoubt, NoAnswer
from kvcache_client.protocol.framing import pack_message
from kvcache_client.protocol.verbs import Message, Verb


def only_to(key: bytes, answer: Callable[[Message], bytes | None]) -> Callable[[Any, Message], bytes | None]:
    """Answer requests for ``key`` in a special way, all others honestly."""

    def decide(node: Any, message: Message) -> bytes | None:
        return answer(message) if key in message[2:] else node.honest(message)

    return decide


async def well_again(cache: Any, key: str = "good", value: Any = 1) -> None:
    """Wait until the client avoids nobody any more; what it reads meanwhile is right or an error."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            assert await cache.get(key) == value
        except KvCacheError:
            assert time.monotonic() < deadline
        if not cache.client.brain.down:
            break
        await asyncio.sleep(0.005)
    assert await cache.get(key) == value


GARBAGE: dict[str, Callable[[Message], bytes | None]] = {
    "no msgpack": lambda message: b"\xc1\xc1\xc1",
    "a web page": lambda message: b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "a number": lambda message: b"\x07",
    "an empty array": lambda message: b"\x90",
    "a map": lambda message: b"\x80",
    "an array that claims 2^32-1 elements": lambda message: b"\xdd\xff\xff\xff\xff",
    "a frame that claims 4 GiB": lambda message: b"\x93\x01\x00\xc6\xff\xff\xff\xff",
    "an id and no status": lambda message: pack_message(message[0]),
    "a status that is no number": lambda message: pack_message(message[0], "OK", b""),
    "a hit without a record": lambda message: pack_message(message[0], 0),
    "a hit with a number for a record": lambda message: pack_message(message[0], 0, 4711),
    "a hit with half a record": lambda message: pack_message(message[0], 0, b"short"),
    "an unknown error": lambda message: pack_message(message[0], 999, "from the future", None),
    "an error without words": lambda message: pack_message(message[0], 80),
}


@pytest.mark.parametrize("kind", GARBAGE)
async def test_nonsense_is_a_typed_error_and_the_next_call_is_right(
    open_client: Callable[..., Any], scripted: Any, kind: str
) -> None:
    cache = open_client(scripted.address, timeout=0.3)
    await cache.set("good", 1)
    scripted.answer = only_to(b"bad", GARBAGE[kind])
    began = time.monotonic()
    with pytest.raises(KvCacheError):
        await cache.get("bad")
    assert time.monotonic() - began < 5
    await well_again(cache)
    assert set((await cache.get_many(["bad"])).failed) == {"bad"}
    await well_again(cache)


@pytest.mark.parametrize("kind", [kind for kind in GARBAGE if "hit" not in kind])
async def test_nonsense_in_answer_to_a_write_is_a_typed_error(
    open_client: Callable[..., Any], scripted: Any, kind: str
) -> None:
    cache = open_client(scripted.address, timeout=0.3)
    await cache.set("good", 1)
    scripted.answer = only_to(b"bad", GARBAGE[kind])
    for verb, arguments in (("set", ("bad", 1)), ("add", ("bad", 1)), ("incr", ("bad",)), ("touch", ("bad",))):
        with pytest.raises(KvCacheError):
            await getattr(cache, verb)(*arguments)
    await well_again(cache)


async def test_an_unknown_id_is_dropped_and_the_right_answer_still_comes(
    open_client: Callable[..., Any], scripted: Any
) -> None:
    cache = open_client(scripted.address, timeout=2.0)
    await cache.set("k", "mine")
    scripted.answer = lambda node, message: (
        pack_message(4_000_000_000, 0, b"whose?") + pack_message(0, 77, "?") + node.honest(message)
    )
    for _ in range(5):
        assert await cache.get("k") == "mine"


async def test_a_late_answer_reaches_nobody_and_is_counted(
    open_client: Callable[..., Any], loop_thread: Any, scripted: Any
) -> None:
    patient = ClientConfig(timeout=0.15, backoff=Backoff(60.0, 60.0))  # no new connection by itself
    cache = open_client(scripted.address, config=patient)
    await cache.set("slow", "slow value")
    await cache.set("quick", "quick value")
    kept: list[bytes] = []
    scripted.answer = only_to(b"slow", lambda message: kept.append(scripted.honest(message)))
    with pytest.raises(TimeoutError) as caught:
        await cache.get("slow")
    assert isinstance(caught.value, KvCacheError)
    for connection in list(scripted.connections):
        loop_thread.call(lambda connection=connection: connection.write(kept[0]))
    for _ in range(5):
        assert await cache.get("quick") == "quick value"
    await cache.close()
    if isinstance(cache.client, AsyncClient):  # a blocking one gives up the connection, so nothing comes late
        assert cache.client.brain.counters.late_replies == 1


async def test_a_silent_node_is_avoided_and_used_again_once_it_speaks(
    open_client: Callable[..., Any], proxy: Any
) -> None:
    cache = open_client(proxy.address, timeout=0.1, connect_timeout=0.2)
    await cache.set("k", 1)
    proxy.deaf = True
    began = time.monotonic()
    with pytest.raises(KvCacheError):
        await cache.get("k")
    assert time.monotonic() - began < 3
    assert set(cache.client.brain.down) == {"behind"}
    proxy.deaf = False
    await well_again(cache, "k")
    assert not cache.client.brain.down


async def test_an_error_that_closes_the_connection_costs_one_call(
    open_client: Callable[..., Any], scripted: Any
) -> None:
    cache = open_client(scripted.address, timeout=1.0)
    await cache.set("good", 1)
    scripted.answer = only_to(b"bad", lambda message: scripted.hang_up())
    with pytest.raises(KvCacheError):
        await cache.get("bad")
    assert await cache.get("good") == 1


async def test_a_count_is_asked_again_after_a_lost_connection_and_always_as_the_same(
    open_client: Callable[..., Any], scripted: Any
) -> None:
    cache = open_client(scripted.address, timeout=1.0)
    await cache.set("n", 1)
    asked: list[tuple[int, int]] = []

    def hang_up(message: Message) -> None:
        asked.append((message[1], message[-1]))
        scripted.hang_up()

    scripted.answer = only_to(b"n", hang_up)
    with pytest.raises(InDoubt, match="connection") as caught:
        await cache.incr("n")
    assert len(asked) > 1
    assert set(asked) == {(Verb.INCR, caught.value.operation)}


async def test_who_had_hardly_time_for_an_answer_is_not_taken_for_silent(
    open_client: Callable[..., Any], scripted: Any
) -> None:
    cache = open_client(scripted.address)
    await cache.set("good", 1)

    def hasty() -> Any:
        return (yield Within([("scripted", [0, Verb.GET, b"held"])], 0.001))

    scripted.answer = only_to(b"held", lambda message: None)
    outcomes = cache.client._session.run(hasty())
    (outcome,) = await outcomes if isinstance(cache.client, AsyncClient) else outcomes
    assert isinstance(outcome, NoAnswer)
    assert not cache.client.brain.down
    assert await cache.get("good") == 1


def test_who_is_in_the_middle_of_an_answer_is_not_taken_for_silent(scripted: Any) -> None:
    """The blocking client sees no more of a node than one round; the other one goes by when it was heard last."""
    with Client(scripted.address, timeout=0.5) as cache:
        cache.set_many({"good": 1, "large": "x" * 1000})
        scripted.answer = only_to(b"large", lambda message: scripted.honest(message)[:500])
        result = cache.get_many(["good", "large"])
        assert set(result.failed) == {"good", "large"}
        assert all(isinstance(error, DeadlineExceeded) for error in result.failed.values())
        assert not cache.brain.down
        assert cache.get("good") == 1
