"""One blocking connection to a node.

Here lives the socket side of a ``Link`` for threads and greenlets: send, then read until the replies are there. Never here:
which node is asked, pooling, back-off. Only plain ``socket`` and ``ssl`` calls are used, so gevent can patch them.
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, overload

from kvcache_client.bodies.awake import polling_on, receive_awake
from kvcache_client.bodies.socket_timeouts import WAITED_TOO_LONG, timeout_setter
from kvcache_client.bodies.tls import current_context, refused_handshake
from kvcache_client.core.brain import Brain
from kvcache_client.core.effects import Outcome, Slow
from kvcache_client.core.introduction import Greeting, introduce
from kvcache_client.core.link import Link
from kvcache_client.protocol.errors import ConnectFailed, ConnectionLost, KvCacheError, NoAnswer
from kvcache_client.protocol.verbs import Request
from kvcache_client.seeds import split_address

__all__ = ["Channel", "Slot", "connect"]

_READ_BYTES: Final = 16 * 1024
"""One receive. ``recv`` allocates that much first: from 128 KiB on that is a fresh mapping each time, and dear."""

_DUPLEX_BYTES: Final = 64 * 1024
"""From this much output on, replies are read while sending: else both ends could wait for the other to read."""


class Slot:
    """Waits for one reply."""

    __slots__ = ("outcome",)

    def __init__(self) -> None:
        self.outcome: Any = None

    def done(self) -> bool:
        """Say whether it has come."""
        return self.outcome is not None

    def set_result(self, result: Outcome | Slow, /) -> None:
        """Take it."""
        self.outcome = result


def connect(
    brain: Brain, address: str, *, node: str = "", on_epoch: Callable[[int], None] = lambda epoch: None
) -> Channel:
    """Return an introduced connection. Raises ``ConnectFailed``, or the error with which the node refused the HELLO."""
    limit = brain.config.connect_timeout
    host, port = split_address(address)
    tls = brain.config.tls
    context = current_context(tls) if tls is not None else None
    try:
        sock = socket.create_connection((host, port), timeout=limit)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context is not None and tls is not None:
            sock = _secured(sock, context, tls.server_name or host)
    except OSError as error:
        rejected = refused_handshake(address, node, error, tls)
        if rejected is not None:
            raise rejected from error
        reason = "no connection in time" if isinstance(error, TimeoutError) else error.strerror or str(error)
        raise ConnectFailed(f"{address}: {reason}", node=node or None) from error
    channel = Channel(brain, node, address, sock, on_epoch)
    try:
        channel.introduce(limit)
    except BaseException:
        channel.close()
        raise
    return channel


def _secured(sock: socket.socket, context: ssl.SSLContext, name: str) -> socket.socket:
    try:
        return context.wrap_socket(sock, server_hostname=name)
    except BaseException:
        sock.close()
        raise


class Channel:
    """A connection that one call at a time uses. ``broken`` says why it can't be used any more."""

    __slots__ = ("_brain", "_polling", "_set_timeout", "_slot", "_sock", "address", "broken", "link", "node", "timeout")

    def __init__(
        self, brain: Brain, node: str, address: str, sock: socket.socket, on_epoch: Callable[[int], None]
    ) -> None:
        self.address = address
        self.node = node
        self.link = Link(node, on_epoch)
        self.broken: BaseException | None = None
        self.timeout = -1.0
        self._brain = brain
        self._slot = Slot()
        self._sock = sock
        self._polling = polling_on(sock, brain.config.busy_polling)
        self._set_timeout = timeout_setter(sock)

    def introduce(self, limit: float) -> None:
        """Say who we are, prove it if asked to, and learn who is there. Raises what the node says, or ``ConnectFailed``."""
        steps = introduce(self._brain, self.address, self.node)
        try:
            request = next(steps)
            while True:
                request = steps.send(self.ask(request, limit))
        except StopIteration as done:
            greeting: Greeting = done.value
        except (ConnectionLost, NoAnswer) as outcome:
            rejected = refused_handshake(self.address, self.node, outcome, self._brain.config.tls)
            if rejected is not None:
                raise rejected from outcome
            reason = str(outcome) if isinstance(outcome, ConnectionLost) else f"{self.address}: no connection in time"
            raise ConnectFailed(reason, node=self.node or None) from outcome
        self.node = self.link.node = greeting.node
        self.link.on_epoch(greeting.epoch)

    @overload
    def ask(self, request: Request, seconds: float) -> Outcome: ...

    @overload
    def ask(self, request: Request, seconds: float, patience: float) -> Outcome | Slow: ...

    def ask(self, request: Request, seconds: float, patience: float = 0.0) -> Outcome | Slow:
        """Send one request and return its outcome; the hot path of the blocking client.

        With ``patience`` it is ``Slow`` when nothing has come within so many seconds; the request is then still under way.
        """
        slot = self._slot
        slot.outcome = None
        link = self.link
        link.enqueue(request, slot)
        wait = patience or seconds
        if self.timeout != wait:
            self._wait_at_most(wait)
        try:
            self._send(link.output())
        except OSError as error:
            self._break(error)  # also when time ran out: half a frame is on its way
        else:
            try:
                self._read()
            except WAITED_TOO_LONG:
                if patience:
                    link.heard = False
                    link.suspect(link.newest, Slot, patience)
                else:
                    self._give_up(seconds)
            except (OSError, KvCacheError) as error:
                self._break(error)
        if slot.outcome is None:  # only part of the reply, or one to a call that was given up
            self.collect([slot], time.monotonic() + seconds)
        outcome: Outcome | Slow = slot.outcome
        return outcome

    def send(self, requests: Sequence[Request], deadline: float) -> list[Slot]:
        """Send a round's requests to this node; the slots are filled by ``collect``."""
        slots = [Slot() for _ in requests]
        for request, slot in zip(requests, slots, strict=True):
            self.link.enqueue(request, slot)
        self.link.heard = False
        output = self.link.output()
        try:
            self._wait_until(deadline)
            if len(output) <= _DUPLEX_BYTES:
                self._send(output)
            else:
                self._send_and_receive(output, deadline)
        except (OSError, KvCacheError) as error:
            self._break(error)  # also when time ran out: half a frame is on its way
        return slots

    def collect_patiently(self, slots: Sequence[Slot], sent: float, patience: float) -> list[Outcome | Slow]:
        """Read until all ``slots`` are filled; those that are not ``patience`` seconds after they were ``sent`` are ``Slow``."""
        for slot in slots:
            try:
                while slot.outcome is None:
                    left = sent + patience - time.monotonic()
                    wait = patience if left > patience / 2 else max(left, 0.001)  # else a system call for each call
                    if self.timeout != wait:
                        self._wait_at_most(wait)
                    self._read()
            except WAITED_TOO_LONG:
                self.link.suspect(self.link.newest, Slot, max(time.monotonic() - sent, patience))
            except (OSError, KvCacheError) as error:
                self._break(error)
        return [slot.outcome for slot in slots]

    def collect(self, slots: Sequence[Slot], deadline: float) -> list[Outcome]:
        """Read until all ``slots`` are filled or time is up; returns their outcomes."""
        for slot in slots:
            try:
                while slot.outcome is None:
                    self._wait_until(deadline)
                    self._read()
            except WAITED_TOO_LONG:
                self._give_up(self.timeout)
            except (OSError, KvCacheError) as error:
                self._break(error)
        return [slot.outcome for slot in slots]

    def fileno(self) -> int:
        """Return the socket's descriptor, so that ``select`` can wait for several channels."""
        return self._sock.fileno()

    def take_in(self) -> None:
        """Read what has arrived."""
        try:
            self._read()
        except WAITED_TOO_LONG:
            return
        except (OSError, KvCacheError) as error:
            self._break(error)

    def _send(self, output: bytes) -> None:
        # Not sendall at once: gevent's makes a system call and a timer before it sends, and all of a request nearly always fits.
        sent = self._sock.send(output)
        if sent != len(output):
            self._sock.sendall(memoryview(output)[sent:])

    def _send_and_receive(self, output: bytes, deadline: float) -> None:
        view = memoryview(output)
        while view:
            readable, writable, _ = select.select(
                [self._sock], [self._sock], [], max(deadline - time.monotonic(), 0.001)
            )
            if not readable and not writable:
                raise TimeoutError("the node does not take the request")
            if readable:
                self._read()
            if writable:
                view = view[self._sock.send(view[:_DUPLEX_BYTES]) :]

    def _read(self) -> None:
        """Take in what arrives next; the wait for it begins awake where that pays."""
        sock, polling = self._sock, self._polling
        data = receive_awake(sock, _READ_BYTES, polling) if polling.begins() else sock.recv(_READ_BYTES)
        if not data:
            raise ConnectionResetError("the node closed the connection")
        broken = self.link.receive(data)
        if broken is not None:
            raise broken

    def _wait_at_most(self, seconds: float) -> None:
        self.timeout = seconds
        self._set_timeout(seconds)

    def _wait_until(self, deadline: float) -> None:
        """Set what is left, unless it is nearly what is set: that would be a system call for each of many calls."""
        left = max(deadline - time.monotonic(), 0.001)
        if not 0.9 * self.timeout < left < 1.1 * self.timeout:
            self._wait_at_most(left)

    def _give_up(self, seconds: float) -> None:
        silence = NoAnswer(f"no answer within {seconds:.3g} s", node=self.node or None)
        self.link.expire(self.link.newest, lambda: silence)

    def _break(self, cause: BaseException) -> None:
        self.broken = cause
        self.close()
        error = ConnectionLost(f"{self.address}: {cause}", node=self.node or None)
        error.__cause__ = cause
        self.link.fail(lambda: error)

    def close(self) -> None:
        """Close the socket."""
        self._brain.counters.late_replies += self.link.late
        self.link.late = 0
        self._sock.close()

    def __repr__(self) -> str:
        return f"<Channel {self.address} {'broken' if self.broken else 'open'} {self.link!r}>"
