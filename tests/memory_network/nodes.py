"""Nodes without sockets: real services and stores that can die, be cut off or fall silent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from kvcache.service.assembly import assemble
from kvcache.service.deputy import Deputy
from kvcache.service.later import Fields
from kvcache.service.ownership import Ownership
from kvcache.service.service import Identity
from kvcache.store.config import StoreConfig
from kvcache.store.store import Store
from kvcache_client.placement.topology import Topology
from kvcache_client.protocol.errors import KvCacheError
from kvcache_client.protocol.limits import VALUE_BYTES
from kvcache_client.protocol.verbs import Message, Verb
from kvcache_client.protocol.version import WRITERS, HybridClock
from memory_network.world import World, placed

__all__ = ["MemoryNode", "as_reply"]

_NODE_MEMORY: Final = 16 << 20


def as_reply(message: Message, reply: Fields | KvCacheError) -> Message:
    """Return a reply, or an error in its place, as it is sent."""
    if isinstance(reply, KvCacheError):
        return message[0], reply.code, str(reply), reply.detail if isinstance(reply.detail, int | bytes) else None
    return message[0], *reply


@lru_cache(maxsize=256)
def _first_ownership(node: str, topology: Topology) -> Ownership:
    return Ownership(node, topology, placed(topology).routes)


class MemoryNode:
    """A node without a socket. It can die (and lose its memory), be cut off (and keep it), or fall silent for a while."""

    def __init__(self, network: World, id: str) -> None:
        self.id = id
        self.skew_ms = 0
        self.asked: Counter[Verb] = Counter()
        """Requests that were executed, by verb."""
        self.reachable = True
        self.silent = False
        self._network = network
        self._backlog: list[Callable[[], None]] = []
        self._start()

    def _start(self) -> None:
        network = self._network
        clock = HybridClock(self.wall_ms, network.random.randrange(WRITERS))
        self.store = Store(StoreConfig(_NODE_MEMORY), self.wall_ms())
        self.service = assemble(Identity(self.id, "test", VALUE_BYTES), self.store, clock, dict, self._deputy())
        self.service.leases.go_by(network.after)

    def _deputy(self) -> Deputy | None:
        return None

    def wall_ms(self) -> int:
        """Return this node's own time in ms since 1970."""
        return self._network.wall_ms() + self.skew_ms

    def adopt(self, topology: Topology) -> None:
        """Answer by ``topology`` from now on."""
        before = self.service.ownership
        if before is None:
            self.service.adopt(_first_ownership(self.id, topology))
        else:
            self.service.adopt(Ownership(self.id, topology, placed(topology).routes, before))

    def disown(self) -> None:
        """Answer for nothing any more, whatever the topology says."""
        topology = self._network.topology
        self.service.ownership = Ownership("nobody", topology, placed(topology).routes)
        self.service.readable = bytearray(len(self.service.readable))

    def kill(self) -> None:
        """Die: connections break, memory is lost."""
        self.cut()
        self._start()

    def restart(self) -> None:
        """Come back after ``kill``, empty, knowing the network's topology."""
        self.adopt(self._network.topology)
        self.heal()

    def cut(self) -> None:
        """Become unreachable: connections break, new ones are refused, memory is kept."""
        self.reachable = False
        self._backlog.clear()
        self._network.break_wires(self.id)

    def heal(self) -> None:
        """Become reachable again."""
        self.reachable = True

    def pause(self) -> None:
        """Fall silent: connections stay, what arrives is done later."""
        self.silent = True

    def resume(self) -> None:
        """Speak again, beginning with what arrived meanwhile."""
        self.silent = False
        backlog, self._backlog = self._backlog, []
        for work in backlog:
            work()

    def when_awake(self, work: Callable[[], None]) -> None:
        """Do ``work`` now, or once the node speaks again."""
        if self.silent:
            self._backlog.append(work)
        else:
            work()

    def answer(self, message: Message) -> Message:
        """Return the reply to one message, as a connection of a real node would pack it. Raises ``Held`` for one that waits."""
        self.service.tick()
        self.asked[Verb(message[1])] += 1
        try:
            return self.service.handlers[message[1]](message)
        except KvCacheError as error:
            return as_reply(message, error)

    def __repr__(self) -> str:
        state = "unreachable" if not self.reachable else "silent" if self.silent else "up"
        return f"<MemoryNode {self.id} {state} {self.store!r}>"
