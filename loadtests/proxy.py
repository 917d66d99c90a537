"""Proxy: a stretch of network between a node and those who speak to it, on which anything can go wrong.

Here lives one TCP proxy. Never here: when something goes wrong (``scenarios``). ::

    client --HELLO "n1"--> Proxy(source "n1") --up--> node
                                              <-down-

A connection of the fast protocol is known by the name in its HELLO (nodes give their id), so that two nodes can be cut off
from each other while both stay within reach of everybody else. What is cut off is held back and delivered after the heal, as
TCP does when packets get lost; no byte is ever dropped or moved.
"""

from __future__ import annotations

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, Self

from kvcache_client.protocol.framing import CLIENT_FRAME_LIMIT, FrameReader, is_stream_byte, pack_message
from kvcache_client.protocol.verbs import Verb

__all__ = ["Direction", "Proxy"]

Direction = Literal["up", "down"]
"""To the node, or back."""

_CHUNK: Final = 1 << 16
_HELD_CHUNKS: Final = 256
"""What one direction holds back before its sender feels it, in chunks."""


@dataclass(frozen=True, slots=True)
class _Trouble:
    """What is wrong in one direction for one source; ``source`` None is everybody."""

    source: str | None
    direction: Direction
    delay: float
    """Seconds; infinite is a cut."""


class Proxy:
    """``async with Proxy("127.0.0.1", port) as proxy``: listens at ``proxy.address`` and passes everything on to ``port``."""

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        self._server: asyncio.Server | None = None
        self._troubles: tuple[_Trouble, ...] = ()
        self._lags: dict[str | None, Callable[[], float]] = {}
        self._changed = asyncio.Event()
        self._connections: dict[asyncio.Task[None], _Connection] = {}
        self.refusing = False
        """Whether new connections are reset at once."""

    @property
    def address(self) -> str:
        """Where it listens, as host:port."""
        if self._server is None:
            raise RuntimeError("the proxy is not listening")
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    @property
    def connections(self) -> int:
        """How many callers are connected through to the target."""
        return sum(connection.through for connection in list(self._connections.values()))

    def held(self, direction: Direction) -> int:
        """Return how many pieces of data are held back: of callers that wait for each answer, requests. HELLOs do not count."""
        return sum(connection.held[direction] for connection in list(self._connections.values()))

    def delay(self, seconds: float, *, source: str | None = None, direction: Direction | None = None) -> None:
        """Let everything (of one source, in one direction) take that much longer."""
        self._trouble(source, direction, seconds)

    def cut(self, *, source: str | None = None, direction: Direction | None = None) -> None:
        """Hold back everything (of one source, in one direction) until ``heal``."""
        self._trouble(source, direction, float("inf"))

    def straggle(self, lag: Callable[[], float], *, source: str | None = None) -> None:
        """Let each answer (to one source) take ``lag()`` seconds longer, by itself: those behind it overtake it."""
        self._lags[source] = lag

    def lag_of(self, source: str) -> Callable[[], float] | None:
        """Return what says how much longer the next answer takes; None where answers go as they come."""
        return self._lags.get(source) or self._lags.get(None)

    def heal(self) -> None:
        """End all delays and cuts; what was held back arrives."""
        self.refusing = False
        self._lags.clear()
        self._troubles = ()
        self._tell()

    def reset(self, *, source: str | None = None) -> None:
        """Break all connections (of one source)."""
        for connection in list(self._connections.values()):
            if source is None or connection.source == source:
                connection.abort()

    def delay_of(self, source: str, direction: Direction) -> float:
        """Return the seconds that what is sent now takes longer; infinite while it is cut off."""
        matching = (it for it in self._troubles if it.direction == direction and it.source in (None, source))
        return max((it.delay for it in matching), default=0.0)

    async def until_passable(self, source: str, direction: Direction) -> None:
        """Return when nothing cuts that direction off."""
        while self.delay_of(source, direction) == float("inf"):
            await self._changed.wait()

    def _trouble(self, source: str | None, direction: Direction | None, seconds: float) -> None:
        directions: tuple[Direction, ...] = (direction,) if direction else ("up", "down")
        self._troubles += tuple(_Trouble(source, it, seconds) for it in directions)
        self._tell()

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.current_task()
        if self.refusing or task is None:
            writer.transport.abort()
            return
        connection = self._connections[task] = _Connection(self, reader, writer)
        try:
            await connection.run(*self._target)
        finally:
            connection.abort()
            del self._connections[task]

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        tasks = list(self._connections)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()

    def __repr__(self) -> str:
        return f"<Proxy to port {self._target[1]}, {len(self._connections)} connections, {list(self._troubles)}>"


class _Connection:
    """One connection through a proxy."""

    def __init__(self, proxy: Proxy, reader: StreamReader, writer: StreamWriter) -> None:
        self.source = ""
        self.through = False
        self.held: dict[Direction, int] = {"up": 0, "down": 0}
        self._proxy = proxy
        self._caller = reader, writer
        self._writers = [writer]

    def abort(self) -> None:
        """Break it at both ends."""
        for writer in self._writers:
            writer.transport.abort()

    async def run(self, host: str, port: int) -> None:
        """Pass on both directions until both ends have closed, or either broke."""
        reader, writer = self._caller
        try:
            first = await reader.read(_CHUNK)
            self.source = _name_in(first)
            await self._proxy.until_passable(self.source, "up")
            back, forth = await asyncio.open_connection(host, port)
            self._writers.append(forth)
            forth.write(first)
            self.through = True
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass(reader, forth, "up"))
                group.create_task(self._pass(back, writer, "down"))
        except (OSError, ExceptionGroup):  # either end broke; ``abort`` lets the other know
            return

    async def _pass(self, reader: StreamReader, writer: StreamWriter, direction: Direction) -> None:
        held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_HELD_CHUNKS)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._deliver(held, writer, direction))
            clock = asyncio.get_running_loop().time
            data = b"-"
            while data:
                data = await reader.read(_CHUNK)
                self.held[direction] += 1
                delay = self._proxy.delay_of(self.source, direction)
                await held.put((clock() + (delay if delay != float("inf") else 0.0), data))

    async def _deliver(
        self, held: asyncio.Queue[tuple[float, bytes]], writer: StreamWriter, direction: Direction
    ) -> None:
        clock = asyncio.get_running_loop().time
        frames = FrameReader(CLIENT_FRAME_LIMIT)
        async with asyncio.TaskGroup() as late:  # its end waits for what lags: the end of a stream overtakes nothing
            while True:
                due, data = await held.get()
                if due > clock():
                    await asyncio.sleep(due - clock())
                await self._proxy.until_passable(self.source, direction)
                self.held[direction] -= 1
                if not data:
                    break
                lag = self._proxy.lag_of(self.source) if direction == "down" else None
                if lag is None:
                    writer.write(data)
                else:
                    for message in frames.feed(data):
                        late.create_task(_write_after(lag(), writer, pack_message(*message)))
                await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


async def _write_after(seconds: float, writer: StreamWriter, data: bytes) -> None:
    await asyncio.sleep(seconds)
    writer.write(data)


def _name_in(first: bytes) -> str:
    """Return the name in a HELLO; empty if that is not what a connection begins with."""
    if not first or not is_stream_byte(first[0]):
        return ""
    messages = FrameReader(CLIENT_FRAME_LIMIT).feed(first)
    if messages and len(messages[0]) == 7 and messages[0][1] == Verb.HELLO and isinstance(messages[0][6], str):
        return str(messages[0][6])
    return ""
