"""Acceptor: takes connections from the listening sockets, no faster than the others can bear.

Here lives accepting: its pace, the TLS handshake, and what happens when the process has no descriptor left. Never here: what
is said on a connection (``listener``), or certificates (``kvcache_client.bodies.tls``).

Why not the event loop's own server: that one takes whatever is queued in one go, before anybody else has their turn; refuses only
what it has built a transport for; and, on asyncio, stops for a second when descriptors run out. Here a refused connection costs
two system calls, and those who wait for their turn wait in the kernel's queue.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol

from kvcache.transport.guard import network_of
from kvcache.transport.limits import StreamLimits

__all__ = ["Acceptor", "Newcomer", "Welcome"]

_BACKLOG: Final = 1024
_NO_DESCRIPTOR: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_PEER_GONE: Final = (BlockingIOError, InterruptedError, ConnectionAbortedError)


class Newcomer(asyncio.Protocol):
    """A connection of which nothing is known yet."""

    connected = False
    """Whether it has got as far as ``connection_made``; its end is then for whoever it speaks with by now."""


class Welcome(Protocol):
    """Who decides about new connections and serves them; ``network`` is whose limits they count against."""

    def turns_away(self, network: str) -> bool:
        """Say whether a connection must be closed at once."""

    def protocol(self, network: str) -> Newcomer:
        """Return the protocol of a connection that was taken."""

    def full(self) -> None:
        """The process has no descriptor left; a connection was closed for want of one."""

    def handshake_failed(self, network: str, reason: str) -> None:
        """A connection did not get as far as its first byte."""


class Acceptor:
    """The listening sockets of one port. ``context`` returns the TLS of the moment, None for none."""

    def __init__(self, welcome: Welcome, limits: StreamLimits, context: Callable[[], ssl.SSLContext | None]) -> None:
        self._welcome = welcome
        self._limits = limits
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._listening: list[socket.socket] = []
        self._handshakes: dict[asyncio.Task[None], Newcomer] = {}
        self._pauses: dict[socket.socket, asyncio.TimerHandle] = {}
        self._reserve = -1

    async def start(self, host: str, port: int) -> int:
        """Listen on every address of ``host``; returns the port. Raises ``OSError`` if it is taken."""
        found = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        try:
            for family, kind, proto, _, address in dict.fromkeys(found):
                listening = _listening(family, kind, proto, (address[0], port, *address[2:]))
                self._listening.append(listening)
                port = listening.getsockname()[1]
        except OSError:
            self.stop()
            raise
        self._reserve = os.open(os.devnull, os.O_RDONLY)
        for listening in self._listening:
            self._loop.add_reader(listening, self._accept_some, listening)
        return port

    def stop(self) -> None:
        """Take no more connections; handshakes under way end. Safe to call again."""
        listening, self._listening = self._listening, []
        for pause in self._pauses.values():
            pause.cancel()
        self._pauses = {}
        for each in listening:
            self._loop.remove_reader(each)
            each.close()
        for handshake, newcomer in self._handshakes.items():
            if not newcomer.connected:  # it may have been answered already, and uvloop would close it behind our back
                handshake.cancel()
        if self._reserve >= 0:
            os.close(self._reserve)
            self._reserve = -1

    def _accept_some(self, listening: socket.socket) -> None:
        for _ in range(self._limits.accepts_at_once):
            try:
                sock, peer = listening.accept()
            except _PEER_GONE:
                return
            except OSError as error:
                if error.errno not in _NO_DESCRIPTOR:
                    raise
                self._turn_one_away(listening)
                break
            network = network_of(peer)
            if self._welcome.turns_away(network):
                sock.close()
            else:
                self._take(sock, network)
        # There may be more; those who are connected already have their turn first.
        self._loop.remove_reader(listening)
        self._pauses[listening] = self._loop.call_later(self._limits.accept_pause_seconds, self._go_on, listening)

    def _go_on(self, listening: socket.socket) -> None:
        del self._pauses[listening]
        self._loop.add_reader(listening, self._accept_some, listening)

    def _turn_one_away(self, listening: socket.socket) -> None:
        """Close the next connection, by means of a descriptor that is kept for that: unanswered, it would be told nothing."""
        if self._reserve >= 0:
            os.close(self._reserve)
            self._reserve = -1
        with suppress(OSError):  # another thread may have been faster with the last descriptor
            listening.accept()[0].close()
        with suppress(OSError):
            self._reserve = os.open(os.devnull, os.O_RDONLY)
        self._welcome.full()

    def _take(self, sock: socket.socket, network: str) -> None:
        sock.setblocking(False)
        newcomer = self._welcome.protocol(network)
        task = self._loop.create_task(self._hand_over(sock, network, newcomer))
        self._handshakes[task] = newcomer
        task.add_done_callback(self._handshakes.pop)

    async def _hand_over(self, sock: socket.socket, network: str, newcomer: Newcomer) -> None:
        try:
            context = self._context()
            if context is None:
                await self._loop.connect_accepted_socket(lambda: newcomer, sock)
            else:
                seconds = self._limits.hello_seconds
                await self._loop.connect_accepted_socket(
                    lambda: newcomer, sock, ssl=context, ssl_handshake_timeout=seconds, ssl_shutdown_timeout=seconds
                )
        except OSError as error:
            sock.close()
            newcomer.connection_lost(error)
            self._welcome.handshake_failed(network, str(error) or type(error).__name__)
        except BaseException:  # cancelled, above all
            sock.close()
            newcomer.connection_lost(None)
            raise

    def __repr__(self) -> str:
        return f"<Acceptor sockets={len(self._listening)} handshakes={len(self._handshakes)}>"


def _listening(family: int, kind: int, proto: int, address: tuple[object, ...]) -> socket.socket:
    listening = socket.socket(family, kind, proto)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # IPv4 has a socket of its own
        listening.bind(address)
        listening.listen(_BACKLOG)
        listening.setblocking(False)
    except BaseException:
        listening.close()
        raise
    return listening
