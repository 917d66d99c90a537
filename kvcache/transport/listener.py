"""Listener: the one port. The first byte of a connection decides which protocol it speaks.

Here lives accepting, sniffing and sweeping. Never here: either protocol. ::

    0x90-0x9f, 0xdc   a msgpack array   -> StreamConnection
    A-Z               an HTTP method    -> aiohttp, through HttpFrontDoor
    anything else     Redis, noise      -> closed, one log line a second at most

With certificates the port speaks TLS and nothing else: a byte in the clear ends the handshake. There is no sniffing for TLS,
so nobody speaks in the clear by mistake where it was meant to be hidden. The first byte is then that inside of TLS.

The sniffer hands over the transport with the bytes that it has seen, and is never called again.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, suppress
from functools import partial
from itertools import islice
from typing import Final, Protocol

from kvcache.events import journal
from kvcache.service.service import Service
from kvcache.transport.acceptor import Acceptor, Newcomer
from kvcache.transport.awake import AwakeNode
from kvcache.transport.counters import StreamCounters
from kvcache.transport.guard import Guard, open_guard
from kvcache.transport.limits import StreamLimits
from kvcache.transport.overload import Overload
from kvcache.transport.stream import StreamConnection
from kvcache.transport.stream_port import Holding, StreamPort
from kvcache.transport.watch import RequestWatch
from kvcache_client.protocol.errors import NotReady
from kvcache_client.protocol.framing import is_stream_byte

__all__ = ["Door", "Listener"]

_SWEEP_SECONDS: Final = 0.5
"""How often each connection is looked at."""

_SWEPT_AT_ONCE: Final = 500
_PART_SECONDS: Final = 0.01
"""So many connections, and then others have their turn: looking at ten thousand in one go takes milliseconds."""


_FLUSH_SECONDS: Final = 1.0
"""What peers get at the end to take their replies, and to see that nothing more comes."""

_SETTLE_SECONDS: Final = 0.02
"""How often we look which of them have done so."""


class Door(Protocol):
    """Who takes HTTP connections."""

    @property
    def open_connections(self) -> int:
        """How many it has open."""

    def connection(self, on_close: Callable[[], None]) -> asyncio.Protocol:
        """Return the protocol of a new connection, which calls ``on_close`` at its end."""


class Listener:
    """Accepts connections and keeps count of them."""

    def __init__(
        self,
        service: Service,
        door: Door,
        limits: StreamLimits,
        guard: Guard | None = None,
        watch: RequestWatch | None = None,
        context: Callable[[], ssl.SSLContext | None] = lambda: None,
        busy_polling: float = 0.0,
    ) -> None:
        self.counters = StreamCounters()
        self.watch = watch or RequestWatch()
        self.limits = limits
        self._door = door
        self._now = asyncio.get_running_loop().time
        self.guard = guard or open_guard(self._now)
        self.overload = Overload(limits, asyncio.get_running_loop())
        self.awake = AwakeNode(self.counters, asyncio.get_running_loop(), busy_polling)
        self.holding = Holding()
        self._port = StreamPort(
            service, limits, self.counters, self._now, self.guard, self.watch, self.overload, self.holding, self.awake
        )
        self._acceptor = Acceptor(self, limits, context)
        self._by_network: Counter[str] = Counter()
        self._streams: set[StreamConnection] = set()
        self._drained = asyncio.Event()
        self._drained.set()
        self._unsniffed: set[_Sniffer] = set()
        self._unswept: Iterator[StreamConnection | _Sniffer] | None = None
        self._round_began = 0.0
        self._sweeper: asyncio.TimerHandle | None = None
        self._stopping = False

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port. Raises ``OSError`` if it is taken."""
        bound = await self._acceptor.start(host, port)
        self._sweep()
        self.overload.start()
        return bound

    @property
    def connections(self) -> int:
        """Connections open now, of any kind."""
        return len(self._streams) + len(self._unsniffed) + self._door.open_connections

    def push_epoch(self, epoch: int) -> None:
        """Tell every stream connection that there is a newer topology."""
        for stream in self._streams:
            stream.push_epoch(epoch)

    def stop_accepting(self) -> None:
        """Take no more connections; those that have said something go on."""
        self._stopping = True
        self._acceptor.stop()
        for sniffer in list(self._unsniffed):
            sniffer.abort()

    async def stop(self) -> None:
        """Answer every request that was read, send the replies and close."""
        self.stop_accepting()
        self.overload.stop()
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._port.service.leases.dismiss(NotReady("the node is stopping"))
        async with AsyncExitStack() as ending:  # from the last to the first, each whatever becomes of the others
            for stream in self._streams:
                ending.callback(stream.abort)
            ending.push_async_callback(self._part)
            for stream in self._streams:
                ending.callback(stream.finish)

    async def _part(self) -> None:
        """Return when every stream is gone, closed by its peer, or by us once it is settled; or when there is no more time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_FLUSH_SECONDS):
                while self._streams:
                    await self._drained_within(_SETTLE_SECONDS)
                    for stream in list(self._streams):
                        if stream.settled(self._now()):
                            stream.close()

    async def _drained_within(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._drained.wait()

    def _sweep(self) -> None:
        """Close what has kept us waiting too long. One timer for all connections, none for each; a part of them at a time."""
        now = self._now()
        if self._unswept is None:
            everybody: list[StreamConnection | _Sniffer] = [*self._streams, *self._unsniffed]
            self._unswept, self._round_began = iter(everybody), now
        part = list(islice(self._unswept, _SWEPT_AT_ONCE))
        for connection in part:
            reason = connection.overdue(now)
            if reason is not None:
                self.counters.overdue += 1
                journal.say("connection_overdue", at=now, reason=reason)
                connection.abort()
        if len(part) == _SWEPT_AT_ONCE:
            self._sweep_in(_PART_SECONDS)
        else:  # all have had their turn
            self._unswept = None
            self._sweep_in(max(0.0, self._round_began + _SWEEP_SECONDS - now))

    def _sweep_in(self, seconds: float) -> None:
        self._sweeper = asyncio.get_running_loop().call_later(seconds, self._sweep)

    def turns_away(self, network: str) -> bool:
        """Say whether a connection from ``network`` must be closed at once, and count it."""
        self.counters.accepted += 1
        limits = self.limits
        if not self.guard.guesses.are_left(network):  # the guard has said why
            self.counters.refused += 1
        elif self.connections >= limits.connections:
            self._refuse(f"{limits.connections} are open")
        elif self._by_network[network] >= limits.connections_per_address:
            self._refuse(f"{limits.connections_per_address} from {network} are open")
        else:
            return False
        return True

    def full(self) -> None:
        """Count a connection that was closed because the process has no descriptor left."""
        self._refuse("the process has no file descriptor left")

    def handshake_failed(self, network: str, reason: str) -> None:
        """Count a connection that did not get as far as its first byte."""
        self.counters.handshakes_failed += 1
        journal.say("handshake_failed", at=self._now(), network=network, reason=reason)

    def _refuse(self, why: str) -> None:
        self.counters.refused += 1
        journal.say("connection_refused", at=self._now(), why=why)

    def protocol(self, network: str) -> Newcomer:
        """Return the protocol of a connection from ``network`` whose first byte is still to come."""
        sniffer = _Sniffer(self, network)
        self._unsniffed.add(sniffer)
        self._by_network[network] += 1
        return sniffer

    def _settle(self, sniffer: _Sniffer, first: bytes) -> asyncio.Protocol | None:
        """Return who takes over the connection that begins with ``first``, or None if nobody does."""
        self._unsniffed.discard(sniffer)
        byte = first[0]
        closed = partial(self._left, sniffer.network)
        if is_stream_byte(byte):
            stream = StreamConnection(self._port, partial(self._forget, closed), sniffer.network)
            self._streams.add(stream)
            self._drained.clear()
            return stream
        if 0x41 <= byte <= 0x5A:
            return self._door.connection(closed)
        self.counters.foreign += 1
        journal.say("connection_foreign", at=self._now(), byte=f"{byte:#04x}")
        return None

    def _forget(self, closed: Callable[[], None], stream: StreamConnection) -> None:
        closed()
        self._streams.discard(stream)
        if not self._streams:
            self._drained.set()

    def _gone(self, sniffer: _Sniffer) -> None:
        self._unsniffed.discard(sniffer)
        self._left(sniffer.network)

    def _left(self, network: str) -> None:
        self._by_network[network] -= 1
        if not self._by_network[network]:
            del self._by_network[network]

    def __repr__(self) -> str:
        return f"<Listener streams={len(self._streams)} connections={self.connections} {self.counters!r}>"


class _Sniffer(Newcomer):
    """Looks at the first byte and steps out."""

    def __init__(self, listener: Listener, network: str) -> None:
        self.network = network
        self._listener = listener
        self._transport: asyncio.Transport | None = None
        self._done = False
        self._since = asyncio.get_running_loop().time()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self.connected = True
        if self._done:  # swept away, or told to stop, while it shook hands
            self.abort()

    def data_received(self, data: bytes) -> None:
        transport = self._transport
        if transport is None or self._done:
            return
        successor = self._listener._settle(self, data)
        if successor is None:
            transport.close()
            return
        self._done = True
        transport.set_protocol(successor)
        successor.connection_made(transport)
        successor.data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done:
            self._done = True
            self._listener._gone(self)

    def overdue(self, now: float) -> str | None:
        limit = self._listener.limits.hello_seconds
        if self._done:
            return None
        return f"no first byte within {limit:g} s" if now - self._since > limit else None

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
