"""Routes: who is asked for a partition, and who must hear of a change to it, in the present state of the cluster.

Here lives the step from a document to the owners that count right now; nodes and clients compute the same. Never here: how
owners are found on the ring (``ring``), or which node this client can reach (``core.health``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from kvcache_client.placement.ring import Placement, build_placement
from kvcache_client.placement.topology import STATES, Topology

__all__ = ["Owners", "Routes"]

Owners = Sequence[tuple[str, ...]]
"""Partition -> ids of nodes."""


class Routes:
    """The owners of every partition by what is asked of them, immutable.

    ``readers[partition]`` answer reads, those that are well first; the first of them decides cas, incr and touch. In
    partitions that are ``undecided`` the decider is just changing: it decides nothing without the ``former`` readers.
    ``writers[partition]`` must all be told of a write: during a move these are the owners before and after it.
    """

    __slots__ = ("former", "placement", "readers", "undecided", "writers")

    def __init__(self, topology: Topology) -> None:
        before = build_placement(topology.spec())  # remembered, so that a process builds each one once
        after = build_placement(topology.spec_of(topology.move.target)) if topology.move else before
        switched = topology.move is not None and topology.move.stage == "switch"
        self.placement: Placement = after if switched else before
        rank = {member.id: STATES[member.state] for member in topology.members}
        self.readers = _healthy_first(self.placement.owners, rank)
        self.writers = before.owners if after is before else _joined(before.owners, after.owners)
        self.undecided: bytes | None = None
        """A flag for each partition, or None when all are decided."""
        self.former: Owners = self.readers
        """Who answered reads, and decided, before the switch; once all nodes know of it, the same as ``readers``."""
        if switched:
            self.former = _healthy_first(before.owners, rank)
            self.undecided = bytes(a[:1] != b[:1] for a, b in zip(self.former, self.readers, strict=True))

    def stand_ins(self, partition: int) -> Iterator[str]:
        """Yield the nodes that take over for owners out of reach, next on the ring first."""
        writers = self.writers[partition]
        return (node for node in self.placement.stand_ins(partition) if node not in writers)

    def __repr__(self) -> str:
        return f"<Routes {self.placement!r} moving={self.writers is not self.placement.owners}>"


def _healthy_first(owners: Owners, rank: Mapping[str, int]) -> Owners:
    if not any(rank.values()):
        return owners
    ordered: dict[tuple[str, ...], tuple[str, ...]] = {}
    for nodes in owners:
        if nodes not in ordered:
            ordered[nodes] = tuple(sorted(nodes, key=rank.__getitem__))
    return tuple([ordered[nodes] for nodes in owners])


def _joined(before: Owners, after: Owners) -> Owners:
    joined: dict[tuple[tuple[str, ...], tuple[str, ...]], tuple[str, ...]] = {}
    pairs = list(zip(before, after, strict=True))
    for pair in pairs:
        if pair not in joined:
            joined[pair] = tuple(dict.fromkeys(pair[0] + pair[1]))
    return tuple([joined[pair] for pair in pairs])
