"""The spec: everything that placement depends on, as small hashable values.

Here lives what a node is to placement, and the limits that keep the computation bounded. Never here: the
computation (``ring``), or where a spec comes from (``topology``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from kvcache_client.protocol.errors import TopologyError

__all__ = ["ALGORITHM", "DEFAULT_VNODES", "MAX_POINTS", "Node", "PlacementSpec"]

ALGORITHM: Final = "ring-1"
"""The name of the computation in ``ring``. Whatever changes a single owner needs another name."""

DEFAULT_VNODES: Final = 512
"""Ring points per unit of weight. Fewer unbalance the ring before its loads are bounded, so that more keys move
when a node joins; more only cost build time."""

MAX_POINTS: Final = 1 << 21
"""Most points on a ring (vnodes times the sum of the weights): what 1024 nodes of weight 4 need by default."""


@dataclass(frozen=True, slots=True)
class Node:
    """A node as placement sees it: a stable id, a zone (equal names are one zone), a weight from 1 up."""

    id: str
    zone: str = ""
    weight: int = 1


@dataclass(frozen=True, slots=True)
class PlacementSpec:
    """The input of placement. Equal specs give equal placements in every process and on every machine.

    ``nodes`` are sorted by id. ``replication_factor`` may be larger than their number. Raises ``TopologyError``.
    """

    algorithm: str
    seed: int
    vnodes: int
    replication_factor: int
    nodes: tuple[Node, ...]

    def __post_init__(self) -> None:
        if self.algorithm != ALGORITHM:
            raise TopologyError(f"placement algorithm {self.algorithm!r:.100} is not known here, only {ALGORITHM!r}")
        for name in ("vnodes", "replication_factor"):
            if getattr(self, name) < 1:
                raise TopologyError(f"{name} is {getattr(self, name)}; it must be at least 1")
        ids = [node.id for node in self.nodes]
        if ids != sorted(set(ids)):
            raise TopologyError("the nodes of a placement must be sorted by id, and no id may occur twice")
        if any(node.weight < 1 for node in self.nodes):
            raise TopologyError("the weight of a node must be at least 1")
        points = self.vnodes * sum(node.weight for node in self.nodes)
        if points > MAX_POINTS:
            raise TopologyError(
                f"vnodes times the sum of the weights is {points}, the limit is {MAX_POINTS}; "
                "weights are relative, so divide them all"
            )
