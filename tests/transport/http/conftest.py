"""A node without a cluster behind it: the real plans against records in a dict, a real socket in front."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvloop

from kvcache.transport.guard import Guard, Guesses
from kvcache.transport.http import HttpFrontDoor, HttpLimits
from kvcache_client.core.brain import Brain, Surroundings
from kvcache_client.core.config import ClientConfig
from kvcache_client.core.effects import Pause, Refresh, Within
from kvcache_client.core.routing import View
from kvcache_client.placement.topology import Member, Topology
from kvcache_client.protocol.auth import NO_SECRETS, Secrets
from kvcache_client.protocol.errors import InvalidOption
from kvcache_client.protocol.record import expiry_of, is_tombstone, restamp, version_of
from kvcache_client.protocol.verbs import ABSENT, PRESENT, Status, Verb
from kvcache_client.protocol.version import HybridClock

NOW_MS = 1_790_000_000_000
PATIENCE = 10.0
"""Seconds after which a test that waits for something gives up."""


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run each test here on both loops: sockets are handed from one protocol to another, which each does its own way."""
    return {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}


class DictClient:
    """The embedded client: drives plans against one node that is a dict."""

    def __init__(self, view: View) -> None:
        self.now_ms = NOW_MS
        self.records: dict[bytes, bytes] = {}
        self.stamps = HybridClock(lambda: self.now_ms, writer=7)
        self.brain = Brain(ClientConfig(), Surroundings(lambda: 0.0, lambda: self.now_ms, lambda: 0.5))
        self.brain.adopt(view)
        self.failure: BaseException | None = None
        self.broken_keys: set[bytes] = set()
        self.rounds: list[int] = []
        self.told = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.waiting = 0

    async def run(self, plan: Any) -> Any:
        self.waiting += 1
        await self.gate.wait()
        self.waiting -= 1
        if self.failure is not None:
            plan.close()
            raise self.failure
        try:
            effect = next(plan)
            while True:
                effect = plan.send(self._outcome(effect))
        except StopIteration as done:
            return done.value

    def _outcome(self, effect: Any) -> Any:
        if isinstance(effect, Pause | Refresh):
            return None
        if isinstance(effect, Within):
            return self._outcome(effect.round)
        if isinstance(effect, list):
            return [self._answer(request) for _, request in effect]
        return self._answer(effect[1])

    def live(self, key: bytes) -> bytes | None:
        record = self.records.get(key)
        if record is None or is_tombstone(record) or expiry_of(record) <= self.now_ms:
            return None
        return record

    def _answer(self, request: list[Any]) -> Any:
        verb, fields = request[1], request[2:]
        if verb == Verb.STATS:
            self.told += 1
            return (1, int(Status.OK), b"{}")
        if verb == Verb.GET:
            record = self.live(fields[0])
            return (1, int(Status.MISS)) if record is None else (1, int(Status.OK), record)
        if verb == Verb.GET_MANY:
            self.rounds.append(len(fields))
            return (1, int(Status.OK), *(48 if key in self.broken_keys else self.live(key) for key in fields))
        if verb in (Verb.PUT, Verb.COPY):
            return (1, self._put(fields[1], fields[2]))
        if verb == Verb.PUT_MANY:
            pairs = zip(fields[1::2], fields[2::2], strict=True)
            return (1, int(Status.OK), *(self._put(key, record) for key, record in pairs))
        if verb == Verb.SWAP:
            return self._swap(*fields[1:4])
        raise AssertionError(f"unexpected verb {verb}")

    def _put(self, key: bytes, record: bytes) -> int:
        there = self.live(key)
        self.records[key] = record
        self.brain.hlc.observe(version_of(record))
        return int(Status.MISS if is_tombstone(record) and there is None else Status.OK)

    def _swap(self, key: bytes, condition: int, record: bytes) -> tuple[Any, ...]:
        there = self.live(key)
        version = version_of(there) if there else 0
        holds = version == 0 if condition == ABSENT else version != 0 if condition == PRESENT else version == condition
        if not holds:
            return (1, int(Status.MISMATCH), version)
        self.stamps.observe(version)
        stamped = restamp(record, self.stamps.stamp())
        self.records[key] = stamped
        return (1, int(Status.OK), version_of(stamped))


class FakeOperator:
    """Remembers what it was asked to do."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.reading = {"status": self._status}
        self.changing = {"purge": self._purge}

    async def _status(self) -> dict[str, Any]:
        return {"healthy": True}

    async def _purge(self, arguments: Any) -> list[str]:
        self.asked.append(("purge", dict(arguments)))
        if "prefix" not in arguments:
            raise InvalidOption("prefix must be given")
        return ["done"]


@dataclass
class FakeNode:
    """What the front door sees of a node."""

    client: DictClient
    document: Topology
    is_ready: bool = True
    counters: dict[str, Any] = field(default_factory=dict)
    operations: FakeOperator = field(default_factory=lambda: FakeOperator())

    def ready(self) -> bool:
        return self.is_ready

    def topology(self) -> Topology:
        return self.document

    def statistics(self) -> dict[str, Any]:
        return self.counters

    @property
    def operator(self) -> FakeOperator:
        return self.operations


@dataclass
class Answer:
    """One response as it came off the wire."""

    status: int
    headers: dict[str, str]
    body: bytes
    version: str


class Wire:
    """A raw connection to the front door."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def ask(self, method: str, target: str, body: bytes | None = None, **headers: str) -> None:
        """Send one request; header names are written with _ for -."""
        lines = [f"{method} {target} HTTP/1.1", "Host: test"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        if body is not None and "Transfer_Encoding" not in headers:
            lines.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join([*lines, "", ""]).encode() + (body or b""))

    async def answer(self, *, head_only: bool = False) -> Answer:
        async with asyncio.timeout(PATIENCE):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
            lines = head.rstrip("\r\n").split("\r\n")
            version, status = lines[0].split(" ")[:2]
            headers = dict(line.split(": ", 1) for line in lines[1:])
            bodiless = head_only or int(status) in (100, 204, 304)
            size = 0 if bodiless else int(headers["Content-Length"])
            return Answer(int(status), headers, await self.reader.readexactly(size), version)

    async def closed(self) -> bytes:
        """Return what comes until the other end closes."""
        async with asyncio.timeout(PATIENCE):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b""

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except OSError:
            return


class Sniffer(asyncio.Protocol):
    """Hands a connection over with its first bytes, as the listener does."""

    def __init__(self, door: HttpFrontDoor) -> None:
        self.door = door

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        http = self.door.connection()
        self.transport.set_protocol(http)
        http.connection_made(self.transport)
        http.data_received(data)


class World:
    """A front door on a port of its own, its node, and the connections of a test."""

    def __init__(self, node: FakeNode, limits: HttpLimits, secrets: Secrets) -> None:
        self.node = node
        self.guard = Guard(secrets, Guesses(lambda: 0.0, 1.0, 1000.0), lambda: 0.0)
        self.door = HttpFrontDoor(node, limits, self.guard)
        self.wires: list[Wire] = []

    async def open(self) -> None:
        await self.door.start()
        loop = asyncio.get_running_loop()
        self.server = await loop.create_server(lambda: Sniffer(self.door), "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]

    async def connect(self) -> Wire:
        wire = Wire(*await asyncio.open_connection("127.0.0.1", self.port))
        self.wires.append(wire)
        return wire

    async def ask(self, method: str, target: str, body: bytes | None = None, **headers: str) -> Answer:
        """Ask on a connection of its own."""
        wire = await self.connect()
        wire.ask(method, target, body, **headers)
        answer = await wire.answer(head_only=method == "HEAD")
        await wire.close()
        return answer

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await asyncio.sleep(0.001)

    async def close(self) -> None:
        self.server.close()
        for wire in self.wires:
            await wire.close()
        self.node.client.gate.set()
        await self.door.stop(grace=PATIENCE)
        await self.until(lambda: self.door.counters.connections == 0)


@pytest.fixture(scope="session")
def view() -> View:
    topology = Topology.found("test", cluster_id="00c0ffee", seed=1, replication_factor=1)
    return View(topology.with_member(Member("n1", "127.0.0.1:7700")).settled())


@pytest.fixture
async def make_world(view: View) -> AsyncIterator[Callable[..., Any]]:
    """Make worlds with limits of the test's own; they are closed, and have counted right, at its end."""
    worlds: list[World] = []

    async def make(secrets: Secrets = NO_SECRETS, **limits: Any) -> World:
        world = World(FakeNode(DictClient(view), view.topology), HttpLimits(**limits), secrets)
        await world.open()
        worlds.append(world)
        return world

    yield make
    for world in worlds:
        await world.close()
        counted = world.door.counters
        answered = counted.requests - counted.cut_off + counted.malformed + counted.late_heads
        assert sum(counted.responses.values()) == answered
        assert (counted.in_flight, counted.buffered_bytes) == (0, 0)


@pytest.fixture
async def world(make_world: Callable[..., Any]) -> World:
    made: World = await make_world()
    return made
