"""The stream protocol against a transport that is a list, and a listener on real sockets of the loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

import msgpack
import pytest
import uvloop
from scripted_control import ScriptedControl

from kvcache.service.assembly import assemble
from kvcache.service.ownership import Ownership
from kvcache.service.peers import PeerVerbs
from kvcache.service.service import Identity, Service
from kvcache.store.config import StoreConfig
from kvcache.store.store import Store
from kvcache.transport.awake import AwakeNode
from kvcache.transport.counters import StreamCounters
from kvcache.transport.guard import Guard, Guesses
from kvcache.transport.limits import StreamLimits
from kvcache.transport.listener import Listener
from kvcache.transport.overload import Overload
from kvcache.transport.stream import StreamConnection
from kvcache.transport.stream_port import Holding, StreamPort
from kvcache.transport.watch import RequestWatch
from kvcache_client.core.routing import View
from kvcache_client.placement.topology import Member, Topology
from kvcache_client.protocol.auth import NO_SECRETS, Secrets
from kvcache_client.protocol.framing import CLIENT_FRAME_LIMIT, FrameReader, pack_message
from kvcache_client.protocol.record import NEVER, PayloadType, make_record
from kvcache_client.protocol.verbs import Message, Verb
from kvcache_client.protocol.version import HybridClock, version_at

STREAM_START_MS = 1_790_000_000_000
STREAM_PATIENCE = 10.0
"""Seconds after which a test that waits for something gives up."""

HELLO_MESSAGE = pack_message(1, int(Verb.HELLO), 1, "test", 0, b"", "a test")


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run each test here on both loops: sockets are handed from one protocol to another, which each does its own way."""
    return {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}


class ListTransport:
    """What a loop would give to a protocol: takes ``high`` bytes before it pauses the protocol, until a test drains it."""

    def __init__(self) -> None:
        self.protocol: StreamConnection | None = None
        self.high = 1 << 62
        self.writes: list[bytes] = []
        self.buffered = 0
        self.peak = 0
        self.endless = True
        self.paused = False
        self.reading = True
        self.ended: str | None = None
        self.half_closed = False

    def set_write_buffer_limits(self, high: int) -> None:
        self.limit = high

    def stall(self) -> None:
        """From now on the peer reads nothing."""
        self.endless = False
        self.high = self.limit

    def write(self, data: bytes) -> None:
        assert not self.ended
        assert not self.half_closed
        self.writes.append(data)
        if self.endless:
            return
        self.buffered += len(data)
        self.peak = max(self.peak, self.buffered)
        if self.buffered > self.high and not self.paused:
            self.paused = True
            self.protocol.pause_writing()

    def drain(self, size: int | None = None) -> None:
        """Let the peer read ``size`` bytes, by default all there is."""
        self.buffered -= self.buffered if size is None else min(size, self.buffered)
        if self.paused and self.buffered <= self.high // 4:
            self.paused = False
            self.protocol.resume_writing()

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.half_closed = True

    def close(self) -> None:
        assert not self.ended
        self.ended = "closed"

    def abort(self) -> None:
        self.ended = "aborted"

    def get_extra_info(self, name: str) -> Any:
        return ("10.0.0.1", 5)


class EndlessTurn:
    """A loop whose turn does not end."""

    def call_soon(self, work: Callable[[], None]) -> None:
        """Do it never."""


class Stream:
    """One connection without a socket."""

    def __init__(self, service: Service, limits: StreamLimits, secrets: Secrets = NO_SECRETS) -> None:
        self.service = service
        self.limits = limits
        self.counters = StreamCounters()
        self.now = 1000.0
        self.guard = Guard(secrets, Guesses(lambda: self.now, 1.0, 3.0), lambda: self.now)
        self.gone: list[StreamConnection] = []
        self.transport = ListTransport()
        self.overload = Overload(limits, EndlessTurn(), lambda: self.now)  # type: ignore[arg-type]
        self.holding = Holding()
        self.port = StreamPort(
            service,
            limits,
            self.counters,
            lambda: self.now,
            self.guard,
            RequestWatch(),
            self.overload,
            self.holding,
            AwakeNode(self.counters, EndlessTurn(), 0.0),  # type: ignore[arg-type]
        )
        self.connection = StreamConnection(self.port, self.gone.append, "10.0.0.1")
        self.transport.protocol = self.connection
        self.connection.connection_made(self.transport)  # type: ignore[arg-type]

    def another(self, *, introduced: bool = True) -> Stream:
        """Return another connection to the same node."""
        other = Stream(self.service, self.limits)
        if introduced:
            other.introduce()
        return other

    def introduce(self, role: int = 0) -> None:
        """Say HELLO and forget the reply."""
        self.feed(pack_message(1, int(Verb.HELLO), 1, "test", role, b"", "tests") if role else HELLO_MESSAGE)
        assert self.replies()[0][1] == 0
        self.counters.requests = 0

    def feed(self, *data: bytes) -> None:
        """Deliver what one read brings; the loop delivers nothing while reading is paused, nor after a close."""
        assert self.transport.reading
        assert not self.transport.ended
        self.connection.data_received(b"".join(data))

    def replies(self) -> list[Message]:
        """Return what was written since the last time, as messages."""
        reader = FrameReader(CLIENT_FRAME_LIMIT)
        messages = [message for data in self.transport.writes for message in reader.feed(data)]
        assert reader.broken is None
        self.transport.writes.clear()
        return messages

    def ask(self, *fields: Any) -> Message:
        """Send one message of id 7 and return its reply without the id."""
        self.feed(pack_message(7, *fields))
        (reply,) = self.replies()
        assert reply[0] == 7
        return reply[1:]

    def refused(self, error: type, *, number: int = 0) -> str:
        """The last reply must be ``error`` for that id, and the connection closed. Returns what it says."""
        *_, reply = self.replies()
        assert (reply[0], reply[1]) == (number, error.code)
        assert self.transport.ended == "closed"
        return reply[2]

    def put(self, key: bytes, payload: bytes) -> bytes:
        """Keep a value behind the back of the protocol; returns its record."""
        record = make_record(version_at(STREAM_START_MS), NEVER, PayloadType.BYTES, payload)
        self.service.handlers[Verb.PUT]((1, Verb.PUT, self.service.epoch, key, record))
        return record


@pytest.fixture(scope="session")
def lone_view() -> View:
    topology = Topology.found("test", cluster_id="00c0ffee", seed=7, replication_factor=1)
    return View(topology.with_member(Member("n1", "127.0.0.1:7700")).settled())


@pytest.fixture
def service(lone_view: View) -> Iterator[Service]:
    """The verbs of a node that owns every key; its store is recounted at the end."""
    store = Store(StoreConfig(64 << 20), STREAM_START_MS)
    clock = HybridClock(lambda: STREAM_START_MS, 9)
    made = assemble(Identity("n1", "test", 1 << 20), store, clock, dict)
    made.add(PeerVerbs(made, ScriptedControl(), made.fences).handlers)
    made.adopt(Ownership("n1", lone_view.topology, lone_view.routes))
    yield made
    store.check()


@pytest.fixture
def stranger(service: Service) -> Stream:
    """A connection that has not said HELLO."""
    return Stream(service, StreamLimits())


@pytest.fixture
def stream(stranger: Stream) -> Stream:
    """A connection that has said HELLO."""
    stranger.introduce()
    return stranger


class HttpStub(asyncio.Protocol):
    """Says that HTTP was taken for it, with what it got."""

    def __init__(self, door: DoorStub, on_close: Callable[[], None]) -> None:
        self.door = door
        self.on_close = on_close

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.door.open_connections += 1

    def data_received(self, data: bytes) -> None:
        self.transport.write(b"http:" + data)  # type: ignore[attr-defined]

    def connection_lost(self, exc: Exception | None) -> None:
        self.door.open_connections -= 1
        self.on_close()


class DoorStub:
    """Takes HTTP connections."""

    def __init__(self) -> None:
        self.open_connections = 0

    def connection(self, on_close: Callable[[], None]) -> HttpStub:
        return HttpStub(self, on_close)


class Peer:
    """A raw connection to the port."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.frames = FrameReader(CLIENT_FRAME_LIMIT)

    def send(self, *data: bytes) -> None:
        self.writer.write(b"".join(data))

    async def messages(self, count: int) -> list[Message]:
        """Return the next messages, at least ``count``."""
        found: list[Message] = []
        async with asyncio.timeout(STREAM_PATIENCE):
            while len(found) < count:
                data = await self.reader.read(1 << 18)
                assert data, f"closed after {len(found)} of {count} messages"
                found += self.frames.feed(data)
        return found

    async def ask(self, *fields: Any) -> Message:
        self.send(pack_message(7, *fields))
        (reply,) = await self.messages(1)
        return reply[1:]

    async def rest(self) -> bytes:
        """Return what comes until the other end closes; a reset counts as closing."""
        data = b""
        async with asyncio.timeout(STREAM_PATIENCE):
            try:
                while piece := await self.reader.read(1 << 18):
                    data += piece
            except ConnectionResetError:
                return data
        return data

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except OSError:
            return


class Port:
    """A listener with the connections of a test."""

    def __init__(self, service: Service, limits: StreamLimits, busy_polling: float) -> None:
        self.service = service
        self.door = DoorStub()
        self.listener = Listener(service, self.door, limits, busy_polling=busy_polling)
        self.peers: list[Peer] = []

    @property
    def counters(self) -> StreamCounters:
        return self.listener.counters

    async def open(self) -> None:
        self.number = await self.listener.start("127.0.0.1", 0)

    async def connect(self, *data: bytes) -> Peer:
        peer = Peer(*await asyncio.open_connection("127.0.0.1", self.number))
        self.peers.append(peer)
        peer.send(*data)
        return peer

    async def introduced(self) -> Peer:
        peer = await self.connect(HELLO_MESSAGE)
        assert (await peer.messages(1))[0][1] == 0
        return peer

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(STREAM_PATIENCE):
            while not condition():
                await asyncio.sleep(0.001)

    async def close(self) -> None:
        await self.listener.stop()
        for peer in self.peers:
            await peer.close()
        await self.until(lambda: self.listener.connections == 0)


@pytest.fixture
async def make_port(service: Service) -> AsyncIterator[Callable[..., Any]]:
    """Make listeners with limits of the test's own."""
    made: list[Port] = []

    async def make(busy_polling: float = 0.0, **limits: Any) -> Port:
        made.append(Port(service, StreamLimits(**limits), busy_polling))
        await made[-1].open()
        return made[-1]

    yield make
    for port in made:
        await port.close()


@pytest.fixture
async def port(make_port: Callable[..., Any]) -> Port:
    made: Port = await make_port()
    return made


@pytest.fixture
def unpacked() -> Callable[[bytes], list[Message]]:
    """Read raw bytes as messages."""

    def read(data: bytes) -> list[Message]:
        unpacker = msgpack.Unpacker(use_list=False)
        unpacker.feed(data)
        return list(unpacker)

    return read
