"""Servers that misbehave on purpose: a node that does as it is told, and a proxy that delays, swallows and cuts."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from client_faces import CLIENTS, Face

from kvcache.service.assembly import assemble
from kvcache.service.ownership import Ownership
from kvcache.service.service import Identity
from kvcache.store.config import StoreConfig
from kvcache.store.store import Store
from kvcache_client.core.routing import View
from kvcache_client.placement.topology import Member, Topology
from kvcache_client.protocol.errors import KvCacheError
from kvcache_client.protocol.framing import FrameReader, pack_message
from kvcache_client.protocol.verbs import Message
from kvcache_client.protocol.version import HybridClock

Answer = Callable[["ScriptedNode", Message], bytes | None]


class ScriptedNode:
    """A node whose answers a test decides. ``answer`` makes the bytes of a reply, or None for silence."""

    def __init__(self) -> None:
        self.answer: Answer = ScriptedNode.honest
        self.reads: list[int] = []
        """How many requests each read of the socket brought."""
        self.connections: list[asyncio.Transport] = []
        self.accepted = 0
        self._server: asyncio.Server | None = None
        self.port = 0

    async def start(self) -> None:
        """Listen, on the same port as before if there was one."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Conversation(self), "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        founded = Topology.found("scripted", cluster_id="00c0ffee", seed=1, replication_factor=1)
        topology = founded.with_member(Member("scripted", self.address)).settled()
        wall = lambda: int(loop.time() * 1000)  # noqa: E731
        clock = HybridClock(wall, 1)
        self.service = assemble(
            Identity("scripted", "scripted", 1 << 20), Store(StoreConfig(8 << 20), wall()), clock, dict
        )
        self.service.adopt(Ownership("scripted", topology, View(topology).routes))

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def honest(self, message: Message) -> bytes:
        """Answer as a real node does."""
        self.service.tick()
        try:
            return pack_message(*self.service.handlers[message[1]](message))
        except KvCacheError as error:
            return pack_message(message[0], error.code, str(error), None)

    def hang_up(self) -> None:
        """Close every connection."""
        for connection in list(self.connections):
            connection.abort()

    async def stop(self) -> None:
        """Close everything."""
        self.hang_up()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()


class _Conversation(asyncio.Protocol):
    def __init__(self, node: ScriptedNode) -> None:
        self.node = node
        self.reader = FrameReader(2 << 20)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.node.connections.append(self.transport)
        self.node.accepted += 1

    def data_received(self, data: bytes) -> None:
        messages = self.reader.feed(data)
        self.node.reads.append(len(messages))
        replies = [self.node.answer(self.node, message) for message in messages]
        self.transport.write(b"".join(reply for reply in replies if reply is not None))

    def connection_lost(self, exc: Exception | None) -> None:
        self.node.connections.remove(self.transport)


class Proxy:
    """A way to a node that can be slow, deaf or cut. The node is told to advertise the proxy's address as its own."""

    def __init__(self) -> None:
        self.target = ""
        self.deaf = False
        """Take everything and pass nothing on."""
        self.delay: Callable[[], float] = lambda: 0.0
        """Seconds that each piece of data travels, in order."""
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = self.target.rpartition(":")
        try:
            far_reader, far_writer = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.close()
            return
        self._writers |= {writer, far_writer}
        await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
        for side in (writer, far_writer):
            self._writers.discard(side)
            side.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                delay = self.delay()
                if delay:
                    await asyncio.sleep(delay)
                if not self.deaf:
                    writer.write(data)
        writer.close()

    def cut(self) -> None:
        """Break every connection."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def stop(self) -> None:
        self.cut()
        if self._server is not None:
            self._server.close()


@pytest.fixture
def scripted(loop_thread: Any) -> Iterator[ScriptedNode]:
    """A node that does as the test says."""
    node = ScriptedNode()
    loop_thread.run(node.start())
    yield node
    loop_thread.run(node.stop())


@pytest.fixture
def proxy(loop_thread: Any, start_node: Callable[..., Any]) -> Iterator[Proxy]:
    """A proxy before a real node."""
    proxy = Proxy()
    loop_thread.run(proxy.start())
    node = start_node(advertise=proxy.address, id="behind")
    proxy.target = node.options.listen
    yield proxy
    loop_thread.run(proxy.stop())


@pytest.fixture(params=list(CLIENTS))
def make(request: pytest.FixtureRequest) -> type[Any]:
    return CLIENTS[request.param]


@pytest.fixture
async def open_client(make: type[Any]) -> AsyncIterator[Callable[..., Face]]:
    """Make clients of the kind under test; they are closed at the end."""
    faces: list[Face] = []

    def create(*arguments: Any, **options: Any) -> Face:
        patience = {} if "config" in options else {"timeout": 5.0, "connect_timeout": 5.0}
        faces.append(Face(make(*arguments, **patience | options)))
        return faces[-1]

    yield create
    for face in faces:
        await face.close()


@pytest.fixture
def dice() -> random.Random:
    return random.Random(4711)
