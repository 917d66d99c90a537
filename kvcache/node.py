"""Node: the composition root. Builds every part of a node, starts them in order and stops them in the reverse one.

Here lives how the parts fit together, and the life of the process. Never here: what any part does. ::

                         +-- Store
             Service ----+-- HybridClock
            /       \\
    Listener         HttpFrontDoor -- AsyncClient (routes any key to its owners)
     one port              |
                        Registry ---- Redis/Valkey (the topology document; not needed to serve data)
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import secrets
import signal
import time
from dataclasses import asdict
from importlib.metadata import version
from typing import Any, Final

from kvcache.cluster.registry import Registry
from kvcache.memory import resident_bytes, return_free_pages
from kvcache.options import NodeOptions
from kvcache.service.ownership import Ownership
from kvcache.service.service import Identity, Service
from kvcache.store.config import MIN_BUDGET_BYTES, StoreConfig
from kvcache.store.governor import MemoryGovernor
from kvcache.store.store import Store
from kvcache.transport.http import HttpFrontDoor, HttpLimits
from kvcache.transport.limits import StreamLimits
from kvcache.transport.listener import Listener
from kvcache_client import AsyncClient, ClientConfig
from kvcache_client.core.routing import View
from kvcache_client.placement.topology import Topology
from kvcache_client.protocol.errors import InvalidOption, NotReady
from kvcache_client.protocol.verbs import Role
from kvcache_client.protocol.version import WRITERS, HybridClock

__all__ = ["Node", "run"]

_log = logging.getLogger(__name__)

_TICK_SECONDS: Final = 0.2
"""How often time is looked at when nobody asks anything: what expires is reclaimed within this, or soon after."""

_HURRY_SECONDS: Final = 0.002
"""The same while more is due than one look reclaims: a new millisecond, and time for requests in between."""

_GOVERN_SECONDS: Final = 0.4
"""How often the process's real memory is compared with its budget."""

_GRACE_SECONDS: Final = 3.0
"""What HTTP requests under way get to finish when the node stops."""


class Node:
    """One node of a cluster."""

    def __init__(self, options: NodeOptions) -> None:
        self.options = options
        self.incarnation = secrets.token_hex(8)
        self._started = time.monotonic()
        self._clock = HybridClock(_wall_ms, secrets.randbelow(WRITERS))
        self._store = Store(StoreConfig(options.memory), _wall_ms())
        self._registry = Registry(options.coordinator, options.cluster) if options.coordinator else None
        self.service = Service(self._identity(), self._store, self._clock, self.statistics)
        self._door = HttpFrontDoor(self, HttpLimits(value_limit=options.value_limit))
        limits = StreamLimits(value_limit=options.value_limit, connections=options.max_connections)
        self._listener = Listener(self.service, self._door, limits)
        self._client: AsyncClient | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._ticker: asyncio.TimerHandle | None = None
        self._governor: MemoryGovernor | None = None
        self._govern_at = 0.0
        self._stopping = False

    async def start(self) -> None:
        """Listen, join the cluster, serve. Raises ``OSError`` if the port is taken."""
        host, _, port = self.options.listen.rpartition(":")
        await self._listen(host.strip("[]"), int(port))
        await self._adopt(await self._join())
        self._tick()
        # What is alive now lives as long as the process: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        _log.info("node %s serves cluster %s at %s", self.options.id, self.options.cluster, self.options.advertise)

    def _identity(self) -> Identity:
        return Identity(self.options.id, self.options.cluster, self.options.value_limit)

    async def _listen(self, host: str, port: int) -> None:
        bound = await self._listener.start(host, port)
        if port == 0:  # address and id follow from the port, which only binding tells; nothing was answered so far
            self.options = self.options.bound_to(bound)
            self.service.identity = self._identity()
        options = self.options
        config = ClientConfig(
            cluster=options.cluster, value_limit=options.value_limit, role=Role.NODE, name=options.id, timeout=1.0
        )
        self._client = AsyncClient([options.advertise], config=config)
        await self._door.start()

    @property
    def client(self) -> AsyncClient:
        """The embedded client, by which HTTP reaches the owners of any key."""
        if self._client is None:
            raise NotReady("the node is not listening yet")
        return self._client

    async def _join(self) -> Topology:
        options = self.options
        member = options.member(incarnation=self.incarnation)
        if self._registry is None:
            return self._found().with_member(member).settled()
        return await self._registry.join(member, self._found)

    def _found(self) -> Topology:
        return Topology.found(
            self.options.cluster,
            cluster_id=secrets.token_hex(8),
            seed=secrets.randbits(32),
            replication_factor=self.options.replication_factor,
        )

    async def _adopt(self, topology: Topology) -> None:
        """Answer and route by ``topology``, and tell every client that there is a newer one."""
        view = await asyncio.get_running_loop().run_in_executor(None, View, topology)
        ownership = Ownership(self.options.id, topology, view.routes, self.service.ownership)
        if not self.service.adopt(ownership):
            return
        self.client.brain.adopt(view)
        self._listener.push_epoch(topology.epoch)
        _log.info("epoch %d: %r", topology.epoch, topology)
        if self._registry is not None and self._watcher is None:
            self._watcher = asyncio.get_running_loop().create_task(self._watch(topology), name="topology watch")

    async def _watch(self, known: Topology) -> None:
        if self._registry is not None:
            async for topology in self._registry.watch(known):
                await self._adopt(topology)

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() >= self._govern_at:
            self._govern_at = loop.time() + _GOVERN_SECONDS
            self._govern()
        pause = _HURRY_SECONDS if self.service.tick() else _TICK_SECONDS
        self._ticker = loop.call_later(pause, self._tick)

    def _govern(self) -> None:
        """Let the store give way when the process takes more memory than its records account for."""
        resident = resident_bytes()
        if resident is None:
            return
        if self._governor is None:  # the first look, before any record: this is what an empty node takes
            self._governor = MemoryGovernor(self.options.memory, resident, MIN_BUDGET_BYTES)
        advice = self._governor.observe(resident)
        if advice.trim:
            return_free_pages()
        if advice.budget_bytes != self._store.budget_bytes:
            self._store.resize(advice.budget_bytes)

    async def stop(self) -> None:
        """Finish what is under way, then close everything."""
        self._stopping = True
        self._listener.stop_accepting()
        if self._ticker is not None:
            self._ticker.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
        await self._door.stop(_GRACE_SECONDS)
        if self._client is not None:
            await self._client.close()
        await self._listener.stop()
        if self._registry is not None:
            await self._registry.close()

    # What HTTP and STATS show

    def ready(self) -> bool:
        """Say whether the node has joined and is not about to stop."""
        return self.service.ownership is not None and not self._stopping

    def topology(self) -> Topology:
        """Return the topology in use. Raises ``NotReady`` before the first."""
        if self.service.ownership is None:
            raise NotReady("the node has not joined its cluster yet")
        return self.service.ownership.topology

    def statistics(self) -> dict[str, Any]:
        """Return the node's counters, in sections, fit for JSON."""
        ownership = self.service.ownership
        owned = ownership.routes.readers if ownership else ()
        me = self.options.id
        return {
            "node": {
                "id": me,
                "cluster": self.options.cluster,
                "address": self.options.advertise,
                "incarnation": self.incarnation,
                "version": version("kvcache"),
                "pid": os.getpid(),
                "uptime_seconds": round(time.monotonic() - self._started, 3),
                "ready": self.ready(),
            },
            "store": asdict(self._store.statistics()),
            "stream": {
                **self._listener.counters.as_dict(),
                "connections": self._listener.connections,
                "hinted": self.service.hints.noted_count,
            },
            "topology": {
                "epoch": self.service.epoch,
                "members": len(ownership.topology.members) if ownership else 0,
                "partitions": sum(me in owners for owners in owned),
                "primaries": sum(owners[0] == me for owners in owned),
            },
        }

    def __repr__(self) -> str:
        return f"<Node {self.options.id} {'ready' if self.ready() else 'not ready'} {self.service!r}>"


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


async def run(options: NodeOptions) -> int:
    """Run a node until SIGTERM or SIGINT; returns the exit code of its process.

    Raises ``InvalidOption`` if it cannot listen where it is told to.
    """
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    node = Node(options)
    starting = loop.create_task(node.start(), name="node start")
    waiting = loop.create_task(stopped.wait(), name="node stop")
    try:
        # Joining waits for coordination as long as it takes; a signal must end that too.
        await asyncio.wait((starting, waiting), return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
        await waiting
    except OSError as error:
        raise InvalidOption(f"cannot listen on {options.listen}: {error.strerror or error}") from error
    finally:
        for task in (starting, waiting):
            task.cancel()
        await asyncio.wait((starting,))
        await node.stop()
    return 0
