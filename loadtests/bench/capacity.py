"""Works of the server alone: how many gets one core of it can answer, with bytes that were built in advance.

Here lives the generator and each server's dialect. Never here: a client library.

One epoll loop writes to 50 connections and only counts the bytes that come back: replies have one length,
since values and request ids have one width. That costs the generator 5-10 us a batch, kernel included, which
is near what a server in C costs without pipelining; so the figure is requests per second of the server's
*own* time on its core, the same for every server.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from kvcache_client.protocol.framing import FrameReader, pack_message
from kvcache_client.protocol.record import HEADER_BYTES
from kvcache_client.protocol.verbs import PROTOCOL_VERSION, Role, Status, Verb
from loadtests import CannotRun
from loadtests.bench.arena import KEYS, VALUES, Arena
from loadtests.bench.turns import Contestant

__all__ = ["DIALECTS", "Dialect", "capacity_contestant", "drive"]

CONNECTIONS: Final = 50
_BATCHES: Final = 600
_STALL_SECONDS: Final = 5.0
_READ_BYTES: Final = 1 << 16
# Ids from 256 to 65535 are three bytes in msgpack.
_FIRST_ID: Final = 1000


@dataclass(frozen=True, slots=True)
class Dialect:
    """How to ask one kind of server: ``get(number, key)`` is the request, ``reply`` what the first one brings."""

    server: str
    get: Callable[[int, bytes], bytes]
    reply_bytes: int
    value_of: Callable[[bytes], bytes]
    greet: Callable[[socket.socket], None] = lambda connection: None


def _kvcache_get(number: int, key: bytes) -> bytes:
    return pack_message(_FIRST_ID + number % 10_000, Verb.GET, key)


def _kvcache_greet(connection: socket.socket) -> None:
    connection.sendall(pack_message(1, Verb.HELLO, PROTOCOL_VERSION, "", Role.CLIENT, b"", "bench"))
    reader = FrameReader(4096)
    while not (messages := reader.feed(connection.recv(4096))):
        if reader.broken:
            raise reader.broken
    if messages[0][1] != Status.OK:
        raise CannotRun(f"the node refused the generator: {messages[0]!r}")


def _kvcache_value(reply: bytes) -> bytes:
    (message,) = FrameReader(4096).feed(reply)
    return bytes(message[2][HEADER_BYTES:])


_VALUE_BYTES: Final = len(VALUES[KEYS[0]])
_KEY_BYTES: Final = len(KEYS[0])

DIALECTS: Final = {
    "kvcache": Dialect(
        "kvcache",
        _kvcache_get,
        len(pack_message(_FIRST_ID, Status.OK, bytes(HEADER_BYTES + _VALUE_BYTES))),
        _kvcache_value,
        _kvcache_greet,
    ),
    "redis-server": Dialect(
        "redis",
        lambda _, key: b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (len(key), key),
        len(b"$%d\r\n" % _VALUE_BYTES) + _VALUE_BYTES + 2,
        lambda reply: reply[-_VALUE_BYTES - 2 : -2],
    ),
    "memcached": Dialect(
        "memcached",
        lambda _, key: b"get %b\r\n" % key,
        len(b"VALUE  0 %d\r\n" % _VALUE_BYTES) + _KEY_BYTES + _VALUE_BYTES + len(b"\r\nEND\r\n"),
        lambda reply: reply[-_VALUE_BYTES - 7 : -7],
    ),
}
"""Contestant -> how it is asked."""


def capacity_contestant(arena: Arena, stack: contextlib.ExitStack, name: str, pipeline: int) -> Contestant:
    """Open ``CONNECTIONS`` connections to the server, each to carry ``pipeline`` requests at a time."""
    if not hasattr(select, "epoll"):
        raise CannotRun("the generator needs epoll, which is Linux's")
    dialect = DIALECTS[name]
    host, _, port = arena.address(dialect.server).removeprefix("kvcache://").rpartition(":")
    connections = [stack.enter_context(_connect(host, int(port), dialect)) for _ in range(CONNECTIONS)]
    _check(connections[0], name, dialect)
    batches = _batches(dialect, pipeline)
    process = arena.process(dialect.server)

    def run(seconds: float) -> float:
        before = process.cpu_seconds()
        replies = drive(connections, batches, dialect.reply_bytes * pipeline, seconds) * pipeline
        return replies / (process.cpu_seconds() - before)

    return Contestant(name, run)


def _connect(host: str, port: int, dialect: Dialect) -> socket.socket:
    connection = socket.create_connection((host, port), timeout=_STALL_SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    dialect.greet(connection)
    return connection


def _check(connection: socket.socket, name: str, dialect: Dialect) -> None:
    """Ask once and look: counting bytes proves nothing if they are not the replies."""
    connection.sendall(dialect.get(0, KEYS[0]))
    reply = connection.recv(dialect.reply_bytes, socket.MSG_WAITALL)
    if dialect.value_of(reply) != VALUES[KEYS[0]]:
        raise CannotRun(f"{name} answered a get with {reply!r:.80}")


def _batches(dialect: Dialect, pipeline: int) -> list[bytes]:
    numbered = [dialect.get(number, KEYS[number % len(KEYS)]) for number in range(_BATCHES * pipeline)]
    return [b"".join(numbered[start : start + pipeline]) for start in range(0, len(numbered), pipeline)]


def drive(connections: list[socket.socket], batches: list[bytes], reply_bytes: int, seconds: float) -> int:
    """Keep one batch in flight on each connection; returns how many were answered, all of them read to the end."""
    waiting = {connection.fileno(): reply_bytes for connection in connections}
    calls = {connection.fileno(): (connection.recv_into, connection.send) for connection in connections}
    buffer = bytearray(_READ_BYTES)
    answered = sent = 0
    with select.epoll() as poll:
        for number, connection in enumerate(connections):
            connection.setblocking(False)
            poll.register(connection.fileno(), select.EPOLLIN)
            connection.send(batches[number % len(batches)])
        end = time.perf_counter() + seconds
        in_flight = len(connections)
        going = True
        while in_flight:
            events = poll.poll(_STALL_SECONDS)
            if not events:
                raise CannotRun(f"a server left a batch unanswered for {_STALL_SECONDS:g} s")
            for descriptor, _ in events:
                receive, send = calls[descriptor]
                missing = waiting[descriptor] - receive(buffer)
                if missing > 0:
                    waiting[descriptor] = missing
                    continue
                answered += 1
                waiting[descriptor] = reply_bytes
                if going:
                    sent += 1
                    send(batches[sent % len(batches)])
                else:
                    in_flight -= 1
            going = going and time.perf_counter() < end
    return answered
