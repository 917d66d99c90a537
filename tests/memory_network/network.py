"""The network: nodes, clients, and the queue of what happens when."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from kvcache_client.core.config import ClientConfig
from kvcache_client.placement.topology import Topology
from kvcache_client.protocol.codec import encode_key
from memory_network.nodes import MemoryNode
from memory_network.sessions import MemoryClient, MemorySession
from memory_network.weather import CLEAR, Weather
from memory_network.world import START_MS, cluster_of, placed

__all__ = ["MemoryNetwork"]


class MemoryNetwork:
    """A cluster, its clients and the network between them. ``seed`` decides everything that is left to chance."""

    def __init__(self, nodes: int = 3, replication_factor: int = 2, *, seed: int = 1, weather: Weather = CLEAR) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.now = 0.0
        self.weather = weather
        self.local_weather: dict[tuple[str, str], Weather] = {}
        """(client, node) -> what is different between those two."""
        self.topology = cluster_of(nodes, replication_factor)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self.nodes = {member.id: self.make_node(member.id) for member in self.topology.members}
        self.sessions: list[MemorySession] = []
        for node in self.nodes.values():
            node.adopt(self.topology)

    def make_node(self, id: str) -> MemoryNode:
        """Return a node that knows no topology yet."""
        return MemoryNode(self, id)

    def wall_ms(self) -> int:
        """Return the true time in ms since 1970."""
        return START_MS + round(self.now * 1000)

    def client(self, *, topology: Topology | None = None, **options: Any) -> MemoryClient:
        """Return a new client that already knows ``topology``, by default the cluster's; ``options`` as ``ClientConfig``."""
        name = f"c{len(self.sessions) + 1}"
        session = MemorySession(self, name, ClientConfig(**options), topology or self.topology)
        self.sessions.append(session)
        return MemoryClient(session)

    def change(self, topology: Topology, *, only: Iterable[str] | None = None) -> None:
        """Give nodes (all, or ``only`` some) a newer topology; clients have to find out."""
        self.topology = topology
        for member in topology.members:
            if member.id not in self.nodes:
                self.nodes[member.id] = self.make_node(member.id)
        for id in list(self.nodes) if only is None else only:
            self.nodes[id].adopt(topology)

    def weather_of(self, client: str, node: str) -> Weather:
        """Return the weather between a client and a node."""
        return self.local_weather.get((client, node), self.weather)

    def told_by_seeds(self) -> Topology | None:
        """Return what a client learns that asks its seeds."""
        for node in self.nodes.values():
            if node.reachable and not node.silent and node.service.ownership is not None:
                return node.service.ownership.topology
        return None

    def break_wires(self, node: str) -> None:
        """Break every connection to ``node``."""
        for session in self.sessions:
            wire = session.wires.get(node)
            if wire is not None:
                wire.end("Connection reset by peer")

    def owners(self, key: str) -> list[MemoryNode]:
        """Return the nodes that own ``key``, primary first."""
        view = placed(self.topology)
        return [self.nodes[id] for id in view.owners[view.partition(encode_key(key))]]

    def stand_ins(self, key: str) -> list[MemoryNode]:
        """Return the nodes that stand in for owners of ``key``, next on the ring first."""
        view = placed(self.topology)
        return [self.nodes[id] for id in view.stand_ins(view.partition(encode_key(key)))]

    def copies(self, key: str) -> dict[str, bytes]:
        """Return the record, or tombstone, that each node holds of ``key``."""
        name = encode_key(key)
        partition = placed(self.topology).partition(name)
        held = {id: node.store.peek(partition, name) for id, node in self.nodes.items()}
        return {id: record for id, record in held.items() if record is not None}

    def after(self, seconds: float, work: Callable[[], None]) -> None:
        """Do ``work`` in ``seconds`` of virtual time; what falls due together is done in the order of asking."""
        self._count += 1
        heapq.heappush(self._events, (self.now + max(seconds, 0.0), self._count, work))

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do what takes its time. Only nodes that live (``living``) have such work."""
        work.close()
        raise RuntimeError("nodes that do nothing by themselves answer at once")

    def run(self, *, until: Callable[[], bool] | None = None, seconds: float | None = None) -> None:
        """Let time pass: until a condition holds, for ``seconds``, or until nothing more happens."""
        end = None if seconds is None else self.now + seconds
        while self._events and not (until is not None and until()):
            if end is not None and self._events[0][0] > end:
                break
            self.now, _, work = heapq.heappop(self._events)
            work()
        if end is not None:
            self.now = max(self.now, end)
        if until is not None and not until():
            raise RuntimeError("nothing more happens, and what was waited for did not")

    def check(self) -> None:
        """Recount every store that holds anything."""
        for node in self.nodes.values():
            if len(node.store) or len(node.store.graves):
                node.store.check()

    def __repr__(self) -> str:
        return f"<MemoryNetwork seed={self.seed} now={self.now:.3f} {list(self.nodes.values())}>"
