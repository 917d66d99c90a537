"""Routing: one topology and everything that follows from it, as an immutable view.

Here lives the step from a key to nodes. Never here: whether those nodes are well (``health``), or talking to them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mmh3 import mmh3_x64_128_utupledigest

from kvcache_client.placement.partitions import PARTITION_SHIFT, partition_of
from kvcache_client.placement.ring import build_placement
from kvcache_client.placement.topology import Topology
from kvcache_client.protocol.errors import TopologyError

__all__ = ["View"]


class View:
    """A topology, its placement, and the few values that the hot path reads from them. Replaced as a whole, never changed."""

    __slots__ = ("addresses", "epoch", "owners", "placement", "seed", "topology")

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self.placement = build_placement(topology.spec())  # remembered, so that a process builds each one once
        if not self.placement.owners[0]:
            raise TopologyError(f"no member of {topology!r} owns anything")
        self.epoch = topology.epoch
        self.seed = topology.seed
        self.owners: Sequence[tuple[str, ...]] = self.placement.owners
        self.addresses = {member.id: member.address for member in topology.members}

    def partition(self, name: bytes) -> int:
        """Return the partition of a key."""
        return partition_of(name, self.seed)

    def owners_of(self, name: bytes) -> tuple[str, ...]:
        """Return the owners of a key, primary first; ``owners[partition(name)]`` without the calls in between."""
        return self.owners[mmh3_x64_128_utupledigest(name, self.seed)[0] >> PARTITION_SHIFT]

    def stand_ins(self, partition: int) -> Iterator[str]:
        """Yield the nodes that take over for unreachable owners of ``partition``, next on the ring first."""
        return self.placement.stand_ins(partition)

    def __repr__(self) -> str:
        return f"<View epoch={self.epoch} nodes={list(self.addresses)}>"
