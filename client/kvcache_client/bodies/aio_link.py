"""A node as the asyncio client sees it: a connection that comes back by itself.

Here lives connecting, backing off and probing. Never here: the bytes (``aio_connection``), or which node is asked.

``post`` is an attribute that always points at the right thing: the live connection's own ``post`` (nothing is in between on
the hot path), or the waiting room while there is none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from kvcache_client.bodies.aio_connection import AsyncConnection, connect
from kvcache_client.core.brain import Brain
from kvcache_client.core.effects import Outcome
from kvcache_client.core.link import Waiter
from kvcache_client.protocol.errors import ClientClosed, ConnectFailed, KvCacheError, NoAnswer
from kvcache_client.protocol.verbs import Request, Verb

__all__ = ["AsyncLink", "Nowhere"]


class AsyncLink:
    """The way to one node. Requests made while a connection is under way wait for it; in a back-off they fail at once."""

    def __init__(self, brain: Brain, node: str, address: str, on_epoch: Callable[[int], None]) -> None:
        self.node = node
        self.address = address
        self.post: Callable[[Request, Waiter], None] = self._post_waiting
        self._brain = brain
        self._on_epoch = on_epoch
        self._loop = asyncio.get_running_loop()
        self._connection: AsyncConnection | None = None
        self._connector: asyncio.Task[None] | None = None
        self._prober: asyncio.TimerHandle | None = None
        self._backing_off: KvCacheError | None = None
        self._waiting_room: dict[Waiter, Request] = {}
        self._patient: set[Waiter] = set()

    @property
    def connected(self) -> bool:
        """Whether there is a connection at this moment."""
        return self._connection is not None

    def _post_waiting(self, request: Request, waiter: Waiter) -> None:
        if self._backing_off is not None:
            waiter.set_result(self._backing_off)
        else:
            self._waiting_room[waiter] = request
            self._loop.call_later(self._brain.attempt, self._stop_waiting, waiter)
            self.open()

    def post_patiently(self, request: Request, waiter: Waiter) -> None:
        """Send a request that may take longer than an attempt; the connection has to be there within one all the same."""
        if self._connection is not None:
            self._connection.post_patiently(request, waiter)
        else:
            self._patient.add(waiter)
            self._post_waiting(request, waiter)

    def _stop_waiting(self, waiter: Waiter) -> None:
        """An attempt is over and there is still no connection: the call goes elsewhere, connecting goes on."""
        if self._waiting_room.pop(waiter, None) is None or waiter.done():
            return
        error = ConnectFailed(f"{self.address}: no connection in time", node=self.node)
        if self.node not in self._brain.down:
            self._brain.health.failed(self.node, error)
        waiter.set_result(error)

    def open(self) -> None:
        """Connect, unless that is under way already; keeps trying until it succeeds or the link is closed."""
        if self._connector is None:
            self._connector = self._loop.create_task(self._keep_trying(), name=f"kvcache connect {self.node}")

    async def _keep_trying(self) -> None:
        while True:
            try:
                connection, greeting = await connect(
                    self._brain,
                    self.address,
                    node=self.node,
                    on_epoch=self._on_epoch,
                    on_end=self._ended,
                    on_silence=self._suspect,
                )
            except KvCacheError as error:
                delay = self._brain.health.failed(self.node, error)
                self._backing_off = error
                self._settle_waiting_room(error)
                await asyncio.sleep(delay)
                self._backing_off = None
            else:
                self._use(connection)
                self._on_epoch(greeting.epoch)
                return

    def _use(self, connection: AsyncConnection) -> None:
        self._connector = None
        self._connection = connection
        connection.use()
        self.post = connection.post
        self._brain.health.answered(self.node)
        waiting, self._waiting_room = self._waiting_room, {}
        patient, self._patient = self._patient, set()
        for waiter, request in waiting.items():
            if not waiter.done():
                (connection.post_patiently if waiter in patient else connection.post)(request, waiter)

    def _settle_waiting_room(self, error: KvCacheError) -> None:
        waiting, self._waiting_room = self._waiting_room, {}
        self._patient.clear()
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(error)

    def _ended(self, connection: AsyncConnection) -> None:
        """Connect again at once: a node that merely dropped us answers, one that died is found out."""
        if connection is self._connection:
            self._connection = None
            self.post = self._post_waiting
            self.open()

    def _suspect(self) -> None:
        """Avoid a node that has been silent for a whole attempt, and ask it until it speaks again."""
        if self.node not in self._brain.down:
            silence = NoAnswer(f"{self.address}: silent", node=self.node)
            self._probe_in(self._brain.health.failed(self.node, silence))

    def _probe_in(self, delay: float) -> None:
        self._prober = self._loop.call_later(delay, self._probe)

    def _probe(self) -> None:
        if self._connection is not None:
            self._connection.ask([0, Verb.PING]).add_done_callback(partial(self._probed, self._connection))

    def _probed(self, connection: AsyncConnection, future: asyncio.Future[Outcome]) -> None:
        outcome = future.result()
        if not isinstance(outcome, KvCacheError):
            self._brain.health.answered(self.node)
        elif connection is self._connection:
            # Perhaps only the connection is dead: a path that forgot it, or a frame that never ends. A new one tells.
            connection.end(outcome)

    async def close(self) -> None:
        """Close for good; whoever still waits gets an error."""
        if self._prober is not None:
            self._prober.cancel()
        connector, self._connector = self._connector, None
        if connector is not None:
            connector.cancel()
            await asyncio.gather(connector, return_exceptions=True)
        closed = ClientClosed(f"the connection to {self.node} was closed by its client")
        self._backing_off = closed
        self._settle_waiting_room(closed)
        connection, self._connection = self._connection, None
        self.post = self._post_waiting
        if connection is not None:
            connection.end(closed)

    def statistics(self) -> dict[str, Any]:
        """Return what this link is doing: address, state, requests without a reply, replies that came too late."""
        connection = self._connection
        return {
            "address": self.address,
            "connected": connection is not None,
            "waiting": connection.link.waiting if connection else len(self._waiting_room),
            "late": connection.link.late if connection else 0,
        }

    def __repr__(self) -> str:
        return f"<AsyncLink {self.node} {self._connection or self._backing_off or 'not connected'}>"


class Nowhere:
    """The way to a node that the newest topology no longer has; a plan may still be routing by an older one."""

    def __init__(self, node: str) -> None:
        self._error = ConnectFailed(f"{node} is not a member any more", node=node)

    def post(self, request: Request, waiter: Waiter) -> None:
        """Answer at once that there is nobody."""
        waiter.set_result(self._error)

    post_patiently = post
