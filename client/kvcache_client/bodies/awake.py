"""Waiting awake, on a socket and in an event loop.

Here lives how it is done, and where it would do harm. Never here: whether it pays (``core.busy_polling``).
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from typing import Final

from kvcache_client.bodies.socket_timeouts import waits_in_kernel
from kvcache_client.core.busy_polling import BusyPolling
from kvcache_client.core.link import Link

__all__ = ["AwakeLoop", "cores", "polling_on", "receive_awake"]

_DONTWAIT: Final = getattr(socket, "MSG_DONTWAIT", 0)


def cores() -> int:
    """Return how many cores this process may run on; with one, staying awake would keep the answer away."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1


def polling_on(sock: socket.socket, seconds: float) -> BusyPolling:
    """Return the busy polling of a blocking socket: none unless only this thread waits, in the kernel.

    Under gevent it would keep all other greenlets waiting, and TLS has no receive that returns at once.
    """
    return BusyPolling(seconds if _DONTWAIT and waits_in_kernel(sock) and cores() > 1 else 0.0)


def receive_awake(sock: socket.socket, size: int, polling: BusyPolling) -> bytes:
    """Return what arrives next, up to ``size`` bytes. Other threads may run between any two looks."""
    until = time.perf_counter() + polling.seconds
    while True:
        try:
            data = sock.recv(size, _DONTWAIT)
        except BlockingIOError:
            if time.perf_counter() < until:
                continue
            polling.ended(paid=False)
            return sock.recv(size)
        polling.ended(paid=True)
        return data


class AwakeLoop:
    """Keeps an event loop turning for a moment after a request has left; other tasks and timers run as always."""

    __slots__ = ("_heard", "_link", "_loop", "_polling", "_until")

    def __init__(self, link: Link, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._link = link
        self._loop = loop
        self._polling = BusyPolling(seconds if cores() > 1 else 0.0)
        self._until = 0.0
        self._heard = 0

    def sent(self) -> None:
        """A request has just left."""
        if not self._until and self._polling.begins():
            self._until = time.perf_counter() + self._polling.seconds
            self._heard = self._link.received
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        paid = self._link.received != self._heard
        if not paid and time.perf_counter() < self._until:
            self._loop.call_soon(self._turn)
        else:
            self._until = 0.0
            self._polling.ended(paid)

    def __repr__(self) -> str:
        return f"<AwakeLoop {'awake' if self._until else 'asleep'} {self._polling!r}>"
