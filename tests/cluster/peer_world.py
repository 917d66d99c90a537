"""A few nodes without sockets: their services, and a way to run plans between them.

A request of a plan is a call of the other service's handler, so a test sees everything happen in its own order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from scripted_control import ScriptedControl

from kvcache.cluster.handover import Handover
from kvcache.cluster.reach import Reach
from kvcache.service.assembly import assemble
from kvcache.service.later import Later
from kvcache.service.ownership import Ownership
from kvcache.service.peers import PeerVerbs
from kvcache.service.service import Identity, Service
from kvcache.store.config import StoreConfig
from kvcache.store.store import Store
from kvcache_client.core.effects import Pause, Plan, Refresh, Within
from kvcache_client.core.routing import View
from kvcache_client.placement.topology import Member, Topology
from kvcache_client.protocol.errors import ConnectFailed, KvCacheError
from kvcache_client.protocol.record import NEVER, PayloadType, make_record, tombstone
from kvcache_client.protocol.verbs import Role, Verb
from kvcache_client.protocol.version import HybridClock, version_at

START_MS = 1_790_000_000_000


class PeerWorld:
    """Nodes n1, n2, ... that share one topology. ``away`` are those that can't be reached."""

    def __init__(self, nodes: int = 3, copies: int = 2) -> None:
        topology = Topology.found("test", cluster_id="00c0ffee", seed=7, replication_factor=copies)
        for number in range(1, nodes + 1):
            topology = topology.with_member(Member(f"n{number}", f"127.0.0.1:{7700 + number}"))
        self.now_ms = START_MS
        self.away: set[str] = set()
        self.asked: Counter[Verb] = Counter()
        self.before_answer: Callable[[str, Verb], None] = lambda node, verb: None
        self.services: dict[str, Service] = {}
        self.controls: dict[str, PeerControl] = {}
        self.topology = topology.settled()
        self.change(self.topology)

    def change(self, topology: Topology) -> None:
        """Have all nodes, new ones too, go by ``topology``."""
        self.topology = topology
        self.view = View(topology)
        for member in topology.members:
            if member.id not in self.services:
                self.services[member.id] = self._make(member.id)
        for id, service in self.services.items():
            service.adopt(Ownership(id, topology, self.view.routes, service.ownership))

    def _make(self, id: str) -> Service:
        clock = HybridClock(lambda: self.now_ms, 1 + len(self.services))
        store = Store(StoreConfig(16 << 20), self.now_ms)
        reach = Reach(self.run, lambda: self.away, lambda: self.now_ms / 1000)
        service = assemble(Identity(id, "test", 1 << 20), store, clock, dict, reach)
        self.controls[id] = PeerControl(self, service)
        service.add(PeerVerbs(service, self.controls[id], service.fences).handlers)
        return service

    async def run(self, plan: Plan[Any]) -> Any:
        """Drive a plan to its end."""
        outcome: Any = None
        try:
            while True:
                effect = plan.send(outcome)
                if isinstance(effect, Pause | Refresh):
                    outcome = None
                elif isinstance(effect, Within | list):
                    asks = effect.round if isinstance(effect, Within) else effect
                    outcome = [await self._ask(node, request) for node, request in asks]
                else:
                    outcome = await self._ask(*effect)
        except StopIteration as done:
            return done.value

    async def _ask(self, node: str, request: list[Any]) -> Any:
        verb = Verb(request[1])
        if node in self.away or node not in self.services:
            return ConnectFailed(f"{node} is away", node=node)
        self.asked[verb] += 1
        self.before_answer(node, verb)
        try:
            try:
                return self.services[node].handlers_of(Role.ADMIN)[verb]((5, *request[1:]))
            except Later as later:
                return (5, *later.fields(await later.work))
        except KvCacheError as error:
            return 5, error.code, str(error), error.detail

    def key(self, *owners: str, number: int = 0) -> bytes:
        """Return a key that these nodes own, in this order; another one for each ``number``."""
        names = (b"key-%d" % at for at in range(100_000))
        fitting = (name for name in names if self.view.owners_of(name) == owners)
        for _ in range(number):
            next(fitting)
        return next(fitting)

    def held(self, node: str, key: bytes) -> bytes | None:
        """Return what a node holds of a key."""
        return self.services[node].store.peek(self.view.partition(key), key)

    def partitions(self, keys: Iterable[bytes]) -> list[int]:
        """Return the partitions of keys."""
        return [self.view.partition(key) for key in keys]


class PeerControl(ScriptedControl):
    """The control of a node of the world: it hands over what it holds when it is asked to."""

    def __init__(self, world: PeerWorld, service: Service) -> None:
        super().__init__()
        self.handover = Handover(service, world.run, lambda: world.away)
        self._service = service

    def report(self) -> dict[str, Any]:
        return {"epoch": self._service.epoch}

    async def deliver(self, owner: str) -> int:
        self.asked.append(("deliver", owner))
        return await self.handover.deliver(owner)


def value(ms: int, payload: bytes = b"value") -> bytes:
    """Return a record that was written ``ms`` after the start."""
    return make_record(version_at(START_MS - 60_000 + ms), NEVER, PayloadType.BYTES, payload)


def deleted(ms: int) -> bytes:
    """Return a tombstone that was written ``ms`` after the start."""
    return tombstone(version_at(START_MS - 60_000 + ms), START_MS + 60_000)
