"""Node: the composition root. Builds every part of a node, starts them in order and stops them in the reverse one.

Here lives how the parts fit together, and the life of the process. Never here: what any part does. ::

                         +-- Store
             Service ----+-- HybridClock                       Membership --+
            /       \\                                          Controller --+-- Redis/Valkey
    Listener         HttpFrontDoor -- AsyncClient               NodeControl -+   (not needed to serve data)
     one port                         to the other nodes: Loader, Handover, Repairer
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any, Final

from kvcache.access import Access
from kvcache.cluster.admin import Admin
from kvcache.cluster.control import NodeControl
from kvcache.cluster.controller import Controller, Timings, reports_of
from kvcache.cluster.handover import Handover
from kvcache.cluster.heartbeat import Heartbeats
from kvcache.cluster.loader import Loader
from kvcache.cluster.lock import Lock
from kvcache.cluster.lock_store import LockStore
from kvcache.cluster.membership import Membership
from kvcache.cluster.operator import Operator
from kvcache.cluster.reach import Reach
from kvcache.cluster.registry import Registry
from kvcache.cluster.repairer import Repairer
from kvcache.cluster.twins import Place
from kvcache.descriptors import room_for_connections
from kvcache.events import journal
from kvcache.janitor import Janitor
from kvcache.loop_lag import LoopLag
from kvcache.machine import describe_machine
from kvcache.node_statistics import describe_node
from kvcache.options import NodeOptions
from kvcache.port_limits import port_limits
from kvcache.service.assembly import assemble
from kvcache.service.ownership import Ownership
from kvcache.service.peers import PeerVerbs
from kvcache.service.service import Identity
from kvcache.store.config import StoreConfig
from kvcache.store.store import Store
from kvcache.topology_events import what_happened
from kvcache.transport.http import HttpFrontDoor
from kvcache.transport.listener import Listener
from kvcache.transport.watch import RequestWatch, tell_slow
from kvcache_client import AsyncClient, ClientConfig
from kvcache_client.core.effects import Plan
from kvcache_client.core.retry import Backoff
from kvcache_client.core.routing import View
from kvcache_client.placement.partitions import PARTITIONS, partition_of
from kvcache_client.placement.topology import Member, Topology
from kvcache_client.protocol.errors import NotReady
from kvcache_client.protocol.record import TOMBSTONE_MS
from kvcache_client.protocol.verbs import Role
from kvcache_client.protocol.version import WRITERS, HybridClock

__all__ = ["Node"]

_GRACE_SECONDS: Final = 3.0
"""What HTTP requests under way get to finish when the node stops."""

_FLOOR_SECONDS: Final = 0.25
"""What the others may take to tell the highest fence; with what the coordinator may take, an operator is answered in a second."""
_RELOAD_SECONDS: Final = 1.0
"""How often we look whether the secrets have changed."""

_AGAIN_SECONDS: Final = 1.0
"""How long a background task that has failed waits before it begins anew."""


class Node:
    """One node of a cluster."""

    def __init__(self, options: NodeOptions, timings: Timings | None = None) -> None:
        self.options = options
        self.timings = timings or Timings()
        self.incarnation = secrets.token_hex(8)
        self.started = time.monotonic()
        self.store = Store(StoreConfig(options.memory), _wall_ms(), lambda key: partition_of(key, self.service.seed))
        clock = HybridClock(_wall_ms, secrets.randbelow(WRITERS))
        reach = Reach(self._run, self._unreachable, time.monotonic)
        self.service = assemble(self._identity(), self.store, clock, self.statistics, reach)
        self._registry = Registry(options.coordinator, options.cluster) if options.coordinator else None
        locks = LockStore(self._registry.coordinator, options.cluster) if self._registry else None
        self.control = NodeControl(self.service, self.incarnation, self.adopt, self._registry, locks)
        self.control.loader = self.loader = Loader(self.service, self._run, self._complete, self.adopt)
        self.repairer = Repairer(self.service, self._run)
        self.control.repairing = self.repairer.repair
        self.control.handover = Handover(self.service, self._run, self._unreachable)
        self.control.floor = self._highest_fence
        self.control.heard_from = lambda node: self.client.brain.health.answered(node)
        self.service.forward = self.control.handover.forward
        self.service.add(PeerVerbs(self.service, self.control, self.service.fences).handlers)
        self._access = Access(options, os.environ)
        room = room_for_connections(options.max_connections)
        limits, http_limits = port_limits(options, room)
        counts = {"connections": room, "connections_wanted": options.max_connections}
        self.control.machine = lambda: describe_machine() | counts
        self._door = HttpFrontDoor(self, http_limits, self._access.guard)
        watch = RequestWatch(options.slow_ms / 1000, tell_slow)
        watch.follow(self.service)
        guard, context = self._access.guard, self._access.context
        self.listener = Listener(self.service, self._door, limits, guard, watch, context, options.busy_polling)
        self._door.overloaded = lambda: self.listener.overload.active
        loop = asyncio.get_running_loop()
        self.loop_lag = LoopLag(loop.time, loop.call_later)
        self._janitor = Janitor(self.service, options.memory)
        self._locks = locks
        self._membership: Membership | None = None
        self.controller: Controller | None = None
        self._client: AsyncClient | None = None
        self._operating: AsyncClient | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._adopting = asyncio.Lock()
        self._stopping = False
        self.place = Place(self._member, lambda: self.client.brain)

    async def start(self) -> None:
        """Listen, join the cluster, serve. Raises ``OSError`` if the port is taken."""
        self.service.leases.go_by(asyncio.get_running_loop().call_later)
        host, _, port = self.options.listen.rpartition(":")
        await self._listen(host.strip("[]"), int(port))
        topology = await self._join()
        await self.adopt(topology)
        self.service.watch_for_pauses(int(self.timings.stumble * 1000), self._paused)
        self._janitor.start()
        self.loop_lag.start()
        for task in (self._follow_secrets, self.loader.run, self.control.handover.run, self.repairer.run):
            self._keep_running(task)
        if self._membership is not None:
            membership = self._membership
            self._keep_running(membership.beat)
            self._keep_running(lambda: membership.follow(self.topology()))
        if self.controller is not None:
            self._keep_running(self.controller.run)
        mine = topology.member(self.options.id)
        if mine is not None and mine.state == "syncing":
            self.loader.sync(self.incarnation)
        # What is alive now lives as long as the process: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        options = self.options
        journal.say("node_serving", node=options.id, cluster=options.cluster, address=options.advertise)

    def _identity(self) -> Identity:
        return Identity(self.options.id, self.options.cluster, self.options.value_limit)

    async def _listen(self, host: str, port: int) -> None:
        bound = await self.listener.start(host, port)
        if port == 0:  # address and id follow from the port, which only binding tells; nothing was answered so far
            self.options = self.options.bound_to(bound)
            self.service.identity = self._identity()
        options = self.options
        config = ClientConfig(
            cluster=options.cluster,
            value_limit=options.value_limit,
            role=Role.NODE,
            secrets=self._access.guard.secrets,
            tls=self._access.tls,
            name=options.id,
            timeout=1.0,
            backoff=Backoff(longest=0.25),  # a node that is back must be noticed before clients notice it
        )
        self._client = AsyncClient([options.advertise], config=config)
        operating = replace(config, role=Role.ADMIN, name=f"http at {options.id}", timeout=2.0, backoff=Backoff())
        self._operating = AsyncClient([options.advertise], config=operating)
        await self._door.start()

    @property
    def client(self) -> AsyncClient:
        """The embedded client, by which this node reaches the others."""
        if self._client is None:
            raise NotReady("the node is not listening yet")
        return self._client

    @property
    def operator(self) -> Operator:
        """What carries out the admin operations that come by HTTP."""
        if self._operating is None:
            raise NotReady("the node is not listening yet")
        return Operator(Admin(self._operating))

    async def _run(self, plan: Plan[Any]) -> Any:
        return await self.client.run(plan)

    async def _join(self) -> Topology:
        options = self.options
        member = self._member()
        if self._registry is None or self._locks is None:
            return self._found().with_member(member).settled()
        heartbeats = Heartbeats(self._registry.coordinator, options.cluster)
        self._membership = Membership(
            self._registry, heartbeats, member, self.adopt, self.control.report, random.random, self.timings
        )
        self.controller = Controller(
            self._registry, heartbeats, self._controller_lock, self._run, self.topology, self.adopt, self.timings
        )
        return await self._membership.join(self._found, self.place.refuse_twin)

    def _member(self) -> Member:
        return self.options.member(incarnation=self.incarnation)

    def _controller_lock(self) -> Lock:
        if self._locks is None:
            raise NotReady("this node runs without a coordinator")
        return Lock(
            self._locks,
            "controller",
            owner=self.options.id,
            doing="keeps the document true",
            lease=self.timings.lease,
            timeout=0.0,
            floor=lambda: self._highest_fence("controller"),
        )

    def _found(self) -> Topology:
        return Topology.found(
            self.options.cluster,
            cluster_id=secrets.token_hex(8),
            seed=secrets.randbits(32),
            replication_factor=self.options.replication_factor,
        )

    async def _highest_fence(self, resource: str) -> int:
        """Return the highest fence of a resource that any node that answers has seen."""
        name = "lock" if resource.startswith("user:") else resource
        reports = await self._run(reports_of(self.topology(), _FLOOR_SECONDS))
        seen = [report.fences.get(name, 0) for report in reports.values()]
        highest: int = max([self.service.fences.highest.get(name, 0), *seen])
        return highest

    async def adopt(self, topology: Topology) -> None:
        """Answer and route by ``topology`` if it is newer, and tell every client that there is a newer one."""
        async with self._adopting:
            before = self.service.ownership
            if before is not None and topology.epoch <= before.epoch:
                if topology.epoch == before.epoch and topology != before.topology:
                    journal.say("document_refused", epoch=topology.epoch, document=topology)
                return
            loop = asyncio.get_running_loop()
            view, ownership = await loop.run_in_executor(None, _derive, self.options.id, topology, before)
            if not self.service.adopt(ownership):
                return
            self.service.fences.saw("topology", topology.fence)
            leaving = self.client.session.adopt(view)
            self.listener.push_epoch(topology.epoch)
            self._janitor.follow(before, ownership)
            self.loader.follow(ownership)
            if before is not None and _copies_may_differ(before.topology, topology):
                self.repairer.suspect_all()  # what was missed and not made good by now is found this way
            journal.say("topology_adopted", epoch=topology.epoch, document=topology)
            for event, fields in what_happened(before.topology, topology) if before else ():
                journal.say(event, **fields)
            for link in leaving:  # only now: nothing may come between what is adopted and what follows from it
                await link.close()
            mine = topology.member(self.options.id)
            if (other := self.place.taken_by(topology)) is not None:
                self._spawn(self._make_way(other))
            elif mine is not None and mine.state == "down":
                self._came_back(topology.epoch)

    async def _make_way(self, other: Member) -> None:
        """The document has another process in the place of this one: if that lives, this one ends; if not, it comes back."""
        if await self.place.is_lost_to(other):
            self.service.begin_loading(range(PARTITIONS))  # until it has ended it answers no reads
        elif self._membership is not None:
            journal.say("place_taken_back", member=other.id)
            await self._membership.register_again()
            self.loader.sync(f"{self.incarnation}-{secrets.token_hex(4)}")

    def _came_back(self, epoch: int) -> None:
        """The others have taken this node for dead, and did without it."""
        journal.say("taken_for_down")
        self.loader.sync(f"{self.incarnation}-{epoch}")
        if self._membership is not None:
            self._spawn(self._membership.say_syncing())

    def _paused(self, ms: int) -> None:
        """This process stood still: what it holds may be out of date, and it answers for nothing before it knows."""
        if ms <= self.timings.pause * 1000:
            # Others may have decided in its place and told a stand-in: it answers, but decides nothing before it knows.
            self.service.hesitating = True
            self.loader.collect()
            return
        journal.say("stood_still", ms=ms)
        if ms > TOMBSTONE_MS // 2:  # what was deleted meanwhile may be forgotten elsewhere: start empty
            self._janitor.wipe()
        self.loader.sync(f"{self.incarnation}-{secrets.token_hex(4)}")

    async def _complete(self) -> None:
        """All is there: say so."""
        ownership = self.service.ownership
        mine = ownership.topology.member(self.options.id) if ownership else None
        if self._membership is not None and mine is not None and mine.state in ("syncing", "down"):
            self._spawn(self._membership.say_up())

    async def _follow_secrets(self) -> None:
        """Ask for, and show, other secrets when their file has changed."""
        while True:
            await asyncio.sleep(_RELOAD_SECONDS)
            if self._access.reload_secrets():
                for client in (self._client, self._operating):
                    if client is not None:
                        client.brain.config = replace(client.brain.config, secrets=self._access.guard.secrets)

    def _unreachable(self) -> set[str]:
        return set(self.client.brain.down)

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _keep_running(self, work: Callable[[], Awaitable[None]]) -> None:
        self._spawn(self._supervised(work))

    async def _supervised(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run a background task for ever: a bug in one must not end it silently, nor take the node along."""
        while True:
            try:
                await work()
            except Exception as error:  # noqa: BLE001  # the edge of the background: it has nobody else to tell
                journal.say("background_bug", error_info=error)
            await asyncio.sleep(_AGAIN_SECONDS)

    async def stop(self) -> None:
        """Finish what is under way, then close everything; a step that fails keeps none of the others from being taken."""
        self._stopping = True
        self.listener.stop_accepting()
        async with AsyncExitStack() as steps:  # from the last to the first
            if self._registry is not None:
                steps.push_async_callback(self._registry.close)
            if self._membership is not None and not self.place.reason and self.service.ownership is not None:
                steps.push_async_callback(self._membership.leave)
            for client in (self._client, self._operating):
                if client is not None:
                    steps.push_async_callback(client.close)
            steps.push_async_callback(self.listener.stop)  # replies that wait for other nodes need the clients
            steps.push_async_callback(self._door.stop, _GRACE_SECONDS)
            self._janitor.stop()
            self.loop_lag.stop()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    # What HTTP and STATS show

    def ready(self) -> bool:
        """Say whether the node owns something, holds all of it, and is not about to stop."""
        ownership = self.service.ownership
        return ownership is not None and any(ownership.readable) and not self.loader.syncing.left and not self._stopping

    def topology(self) -> Topology:
        """Return the topology in use. Raises ``NotReady`` before the first."""
        if self.service.ownership is None:
            raise NotReady("the node has not joined its cluster yet")
        return self.service.ownership.topology

    def statistics(self) -> dict[str, Any]:
        """Return the node's counters, in sections, fit for JSON."""
        return describe_node(self)

    def __repr__(self) -> str:
        return f"<Node {self.options.id} {'ready' if self.ready() else 'not ready'} {self.service!r}>"


def _copies_may_differ(before: Topology, now: Topology) -> bool:
    """Say whether a member is up again that was not, or a move has ended: writes meanwhile may be in doubt."""
    if before.move is not None and now.move is None:
        return True
    away = {member.id for member in before.members if member.state in ("syncing", "down")}
    return any(member.id in away and member.state == "up" for member in now.members)


def _derive(node: str, topology: Topology, before: Ownership | None) -> tuple[View, Ownership]:
    """Compute what follows from a document: tens of milliseconds, so not on the event loop."""
    view = View(topology)
    return view, Ownership(node, topology, view.routes, before)


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000
