"""Ownership: what one node may answer for, as it follows from the topology.

Here lives the step from a topology to "mine or not mine". Replaced as a whole when the topology changes, never altered.
Never here: whether the node holds completely what it owns (``loading``).
"""

from __future__ import annotations

from kvcache_client.placement.partitions import PARTITIONS
from kvcache_client.placement.routes import Routes
from kvcache_client.placement.topology import Topology

__all__ = ["Ownership"]


class Ownership:
    """The partitions of one node. All flags are one byte for each partition.

    ``readable``: it answers reads. ``writable``: it takes writes. ``decides``: it may carry out cas, incr and touch
    without asking those who decided before.
    ``changed_at`` and ``decided_at`` are the epochs since which a partition has the writers, and the first owner, that it
    has now: a request that was routed by an older topology may have gone to others.
    """

    __slots__ = (
        "changed_at",
        "decided_at",
        "decides",
        "document",
        "epoch",
        "node",
        "readable",
        "routes",
        "seed",
        "topology",
        "writable",
    )

    def __init__(self, node: str, topology: Topology, routes: Routes, before: Ownership | None = None) -> None:
        self.node = node
        self.topology = topology
        self.document = topology.to_json()
        self.epoch = topology.epoch
        self.seed = topology.seed
        self.routes = routes
        self.readable = bytes(node in owners for owners in routes.readers)
        self.writable = bytes(node in owners for owners in routes.writers)
        undecided = routes.undecided
        self.decides = (
            self.readable
            if undecided is None
            else bytes(mine and not open_ for mine, open_ in zip(self.readable, undecided, strict=True))
        )
        if before is None:  # nobody has routed to this node by anything older
            self.changed_at = self.decided_at = [0] * PARTITIONS
        else:
            self.changed_at = [
                since if mine == others else topology.epoch
                for since, mine, others in zip(before.changed_at, before.routes.writers, routes.writers, strict=True)
            ]
            self.decided_at = [
                since if mine[:1] == others[:1] else topology.epoch
                for since, mine, others in zip(before.decided_at, before.routes.readers, routes.readers, strict=True)
            ]

    @property
    def moving(self) -> list[int]:
        """The partitions that this node takes writes for and does not answer yet: it receives them, or is about to drop them."""
        return [
            at for at, (reads, writes) in enumerate(zip(self.readable, self.writable, strict=True)) if writes > reads
        ]

    def __repr__(self) -> str:
        return f"<Ownership epoch={self.epoch} reads={sum(self.readable)} writes={sum(self.writable)}>"
