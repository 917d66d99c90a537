"""Routing: one topology and everything that follows from it, as an immutable view.

Here lives the step from a key to nodes. Never here: whether those nodes are well (``health``), or talking to them.
"""

from __future__ import annotations

from collections.abc import Iterator

from mmh3 import mmh3_x64_128_utupledigest

from kvcache_client.placement.partitions import PARTITION_SHIFT, partition_of
from kvcache_client.placement.routes import Owners, Routes
from kvcache_client.placement.topology import Topology
from kvcache_client.protocol.errors import TopologyError

__all__ = ["View"]


class View:
    """A topology, its routes, and the few values that the hot path reads from them. Replaced as a whole, never changed.

    ``owners`` answer reads; a write goes to all ``writers``, which are more while data moves.
    """

    __slots__ = ("addresses", "epoch", "lives", "owners", "routes", "seed", "topology", "writers")

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self.routes = Routes(topology)
        self.epoch = topology.epoch
        self.seed = topology.seed
        self.owners: Owners = self.routes.readers
        self.writers: Owners = self.routes.writers
        if not self.owners[0]:
            raise TopologyError(f"no member of {topology!r} owns anything")
        self.addresses = {member.id: member.address for member in topology.members}
        self.lives = {member.id: (member.address, member.incarnation) for member in topology.members}
        """Node -> what changes when another process takes its place."""

    def writers_of(self, name: bytes) -> tuple[str, ...]:
        """Return the nodes that a write of a key goes to."""
        return self.writers[mmh3_x64_128_utupledigest(name, self.seed)[0] >> PARTITION_SHIFT]

    def moving_to_or_from(self, partition: int) -> tuple[str, ...]:
        """Return the nodes that must get writes though nobody reads from them: those that still load, or are about to drop it."""
        readers, writers = self.owners[partition], self.writers[partition]
        return () if len(readers) == len(writers) else tuple(node for node in writers if node not in readers)

    def partition(self, name: bytes) -> int:
        """Return the partition of a key."""
        return partition_of(name, self.seed)

    def owners_of(self, name: bytes) -> tuple[str, ...]:
        """Return the owners of a key, primary first; ``owners[partition(name)]`` without the calls in between."""
        return self.owners[mmh3_x64_128_utupledigest(name, self.seed)[0] >> PARTITION_SHIFT]

    def stand_ins(self, partition: int) -> Iterator[str]:
        """Yield the nodes that take over for unreachable owners of ``partition``, next on the ring first."""
        return self.routes.stand_ins(partition)

    def __repr__(self) -> str:
        return f"<View epoch={self.epoch} nodes={list(self.addresses)}>"
