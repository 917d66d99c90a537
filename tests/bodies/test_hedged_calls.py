"""Calls that are hedged, cancelled and timed out at random: each gets its own answer or none, and nothing is left behind.

``KVCACHE_HEDGED_CALLS=100000`` makes it as long as the goal says.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import pytest
from client_faces import CLIENTS, Face
from polling import until

from kvcache.service.assembly import assemble
from kvcache.service.ownership import Ownership
from kvcache.service.service import Identity
from kvcache.store.config import StoreConfig
from kvcache.store.store import Store
from kvcache_client import AsyncClient, Client, ClientConfig, KvCacheError
from kvcache_client.core.routing import View
from kvcache_client.placement.topology import Member, Topology
from kvcache_client.protocol.framing import FrameReader, pack_message
from kvcache_client.protocol.verbs import Verb
from kvcache_client.protocol.version import HybridClock

CALLS = int(os.environ.get("KVCACHE_HEDGED_CALLS", "6000"))
BATCH = 200
KEYS = 500


def value_of(key: str) -> str:
    return f"the value of {key}"


def keys_from(key: str) -> list[str]:
    """Return a few keys for a batch."""
    return [f"{(int(key) + step) % KEYS}" for step in range(0, 120, 15)]


def hedge_without_limit(cache: AsyncClient | Client) -> None:
    """Let there be as many hedges as there are slow answers."""
    for bucket in (cache.brain.hedges, cache.brain.retries):
        bucket.burst = bucket.tokens = 1e9


class LateNode:
    """A node that answers each request by itself, some of them late: answers overtake each other."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.late = True
        self.keeping: set[Verb] = set()
        """Verbs whose answers are kept back until ``release``."""
        self.transports: set[asyncio.Transport] = set()
        self._kept: list[Callable[[], None]] = []

    async def listen(self) -> str:
        self.server = await asyncio.get_running_loop().create_server(lambda: _Conversation(self), "127.0.0.1", 0)
        return f"127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    def serve(self, id: str, topology: Topology) -> None:
        loop = asyncio.get_running_loop()
        wall = lambda: 1_790_000_000_000 + int(loop.time() * 1000)  # noqa: E731
        store = Store(StoreConfig(16 << 20), wall())
        self.service = assemble(Identity(id, topology.cluster, 1 << 20), store, HybridClock(wall, 1), dict)
        self.service.adopt(Ownership(id, topology, View(topology).routes))

    def answer(self, verb: Verb, answer: Callable[[], None]) -> None:
        if verb in self.keeping:
            self._kept.append(answer)
        else:
            asyncio.get_running_loop().call_later(self.delay(), answer)

    async def release(self) -> None:
        """Send what was kept back."""
        self.keeping.clear()
        kept, self._kept = self._kept, []
        for answer in kept:
            answer()

    def delay(self) -> float:
        return self.dice.choice([0.0] * 12 + [0.003, 0.01, 0.03, 0.08]) if self.late else 0.0


class _Conversation(asyncio.Protocol):
    def __init__(self, node: LateNode) -> None:
        self.node = node
        self.reader = FrameReader(2 << 20)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.node.transports.add(self.transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.node.transports.discard(self.transport)

    def data_received(self, data: bytes) -> None:
        service = self.node.service
        service.tick()
        for message in self.reader.feed(data):
            try:
                reply = pack_message(*service.handlers[message[1]](message))
            except KvCacheError as error:
                reply = pack_message(message[0], error.code, str(error), None)
            self.node.answer(Verb(message[1]), partial(self.answer, reply))

    def answer(self, reply: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(reply)


async def start_late_nodes(dice: random.Random) -> tuple[list[LateNode], list[str]]:
    topology = Topology.found("late", cluster_id="00c0ffee", seed=1, replication_factor=2)
    nodes = [LateNode(dice) for _ in range(3)]
    addresses = [await node.listen() for node in nodes]
    for number, address in enumerate(addresses, start=1):
        topology = topology.with_member(Member(f"n{number}", address))
    topology = topology.settled()
    for number, node in enumerate(nodes, start=1):
        node.serve(f"n{number}", topology)
    return nodes, addresses


async def stop_late_nodes(nodes: list[LateNode]) -> None:
    for node in nodes:
        node.server.close()
        for transport in list(node.transports):
            transport.abort()
        await node.server.wait_closed()


@pytest.fixture
async def late(dice: random.Random) -> AsyncIterator[tuple[list[LateNode], list[str]]]:
    nodes, addresses = await start_late_nodes(dice)
    yield nodes, addresses
    await stop_late_nodes(nodes)


async def test_hedged_calls_that_are_cancelled_or_time_out_leave_nothing_and_mix_up_nothing(
    late: tuple[list[LateNode], list[str]], dice: random.Random
) -> None:
    nodes, addresses = late
    loop = asyncio.get_running_loop()
    outcomes: Counter[str] = Counter()

    async def call(cache: AsyncClient, key: str) -> None:
        try:
            async with asyncio.timeout(dice.choice([0.004, 0.02, 1.0])):
                if dice.random() < 0.1:
                    batch = await cache.get_many(keys_from(key))
                    assert dict(batch) == {it: value_of(it) for it in keys_from(key) if it not in batch.failed}
                else:
                    assert await cache.get(key) == value_of(key), f"{key} got the answer of another call"
            outcomes["answered"] += 1
        except (KvCacheError, TimeoutError):
            outcomes["gave up"] += 1

    async with AsyncClient(addresses, timeout=0.5, connect_timeout=5.0) as cache:
        for node in nodes:
            node.late = False
        filled = await cache.set_many({f"{number}": value_of(f"{number}") for number in range(KEYS)})
        assert not filled.failed
        for node in nodes:
            node.late = True
        hedge_without_limit(cache)
        for start in range(0, CALLS, BATCH):
            tasks = [loop.create_task(call(cache, f"{(start + number) % KEYS}")) for number in range(BATCH)]
            for task in tasks:
                if dice.random() < 0.2:
                    loop.call_later(dice.random() * 0.03, task.cancel)
            for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                outcomes["cancelled"] += isinstance(outcome, asyncio.CancelledError)
                assert outcome is None or isinstance(outcome, asyncio.CancelledError), repr(outcome)
        assert sum(outcomes.values()) == -(-CALLS // BATCH) * BATCH
        assert min(outcomes.values()) > 0, outcomes
        assert cache.brain.counters.hedged_reads > 50
        assert cache.brain.counters.hedges_won > 0
        links = cache._session._links.values()
        await until(lambda: all(link.statistics()["waiting"] == 0 for link in links))
        assert len([transport for node in nodes for transport in node.transports]) == len(links) == 3
    assert asyncio.all_tasks() == {asyncio.current_task()}
    gc.collect()
    futures = [it for it in gc.get_objects() if isinstance(it, asyncio.Future) and it.get_loop() is loop]
    assert [it for it in futures if not it.done()] == [asyncio.current_task()]
    await until(lambda: not any(node.transports for node in nodes))


async def test_an_increment_that_is_slow_is_asked_once(late: tuple[list[LateNode], list[str]]) -> None:
    _, addresses = late
    async with AsyncClient(addresses, timeout=5.0, connect_timeout=5.0) as cache:
        for expected in range(1, 60):
            assert await cache.incr("counter") == expected


def test_blocking_calls_are_hedged_and_get_their_own_answers(loop_thread: Any, dice: random.Random) -> None:
    nodes, addresses = loop_thread.run(start_late_nodes(dice))
    wrong: list[str] = []
    config = ClientConfig(timeout=5.0, connect_timeout=5.0)
    try:
        with Client(addresses, config=config) as cache:
            assert not cache.set_many({f"{number}": value_of(f"{number}") for number in range(KEYS)}).failed
            hedge_without_limit(cache)

            def work(worker: int) -> None:
                for number in range(worker, 800, 4):
                    key = f"{number % KEYS}"
                    value = cache.get(key)
                    if value != value_of(key):
                        wrong.append(f"{key} got {value!r}")
                    if number % 8 < 4:
                        batch = cache.get_many(keys_from(key))
                        if dict(batch) != {it: value_of(it) for it in keys_from(key)}:
                            wrong.append(f"a batch got {batch!r}")

            threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(120)
            assert wrong == []
            assert cache.brain.counters.hedged_reads > 10
            assert cache.brain.counters.hedges_won > 0
            assert cache.incr("counter") == 1
    finally:
        loop_thread.run(stop_late_nodes(nodes))


@pytest.mark.parametrize("kind", list(CLIENTS))
async def test_the_part_of_a_batch_whose_owner_does_not_answer_is_answered_by_others(
    loop_thread: Any, dice: random.Random, kind: str
) -> None:
    """Of both clients: the one node never answers while the call lasts, so what comes back is the word of the others."""
    nodes, addresses = loop_thread.run(start_late_nodes(dice))
    for node in nodes:
        node.late = False
    config = ClientConfig(timeout=20.0, connect_timeout=5.0, balancing="primary")
    face = Face(CLIENTS[kind](addresses, config=config))
    values = {f"{number}": value_of(f"{number}") for number in range(100)}
    try:
        assert not (await face.set_many(values)).failed
        assert dict(await face.get_many(values)) == values
        hedge_without_limit(face.client)
        counters = face.client.brain.counters
        before = counters.hedged_reads
        nodes[0].keeping = {Verb.GET_MANY}
        found = await face.get_many(values)
        assert (dict(found), found.missing, found.failed) == (values, frozenset(), {})
        assert counters.hedged_reads - before >= 2  # the other owners of its keys are two nodes
        assert counters.hedges_won >= 2
        loop_thread.run(nodes[0].release())
        assert dict(await face.get_many(values)) == values
        assert [await face.get(key) for key in list(values)[:20]] == list(values.values())[:20]
    finally:
        await face.close()
        loop_thread.run(stop_late_nodes(nodes))
