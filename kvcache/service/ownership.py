"""Ownership: what one node may answer for, as it follows from the topology.

Here lives the step from a topology to "mine or not mine". Replaced as a whole when the topology changes, never altered.
"""

from __future__ import annotations

from kvcache_client.placement.partitions import PARTITIONS
from kvcache_client.placement.ring import Placement
from kvcache_client.placement.topology import Topology

__all__ = ["Ownership"]


class Ownership:
    """The partitions of one node. ``changed_at`` is the epoch since which a partition has the owners that it has now."""

    __slots__ = ("changed_at", "document", "epoch", "owned", "owners", "seed", "topology")

    def __init__(self, node: str, topology: Topology, placement: Placement, before: Ownership | None = None) -> None:
        self.topology = topology
        self.document = topology.to_json()
        self.epoch = topology.epoch
        self.seed = topology.seed
        self.owners = placement.owners
        self.owned = bytes(node in owners for owners in placement.owners)
        if before is None:
            self.changed_at = [0] * PARTITIONS  # nobody has routed to this node by anything older
        else:
            self.changed_at = [
                since if mine == others else topology.epoch
                for since, mine, others in zip(before.changed_at, before.owners, self.owners, strict=True)
            ]

    def __repr__(self) -> str:
        return f"<Ownership epoch={self.epoch} partitions={sum(self.owned)}>"
