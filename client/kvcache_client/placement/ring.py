"""The ring: from the list of nodes to the owners of every partition.

Here lives the pure computation of a ``Placement`` from a ``PlacementSpec``. Never here: epochs, addresses, states
(``topology``), or who can be reached.

Every node puts ``weight x vnodes`` points on a ring of hashes; every partition has a fixed place on it, evenly
spaced. A partition walks clockwise and takes the first distinct nodes, in different zones while there are enough::

          0 = 2^64
        C .--*--. A        partition p, replication factor 2, C in the zone of A:
       .     |p    .         walk      A  A  C  B  ...
      B            A         taken     A  -  -  B        (A again; C in A's zone)
       .           .         owners    (A, B)
        A '.___.' C          stand-ins C, then nobody
              B

Then the loads are bounded (``bounded``): a node holds at most 1.05 times its fair share (``shares``) of copies,
so that the whole set of replicas is balanced. Last, primaries are spread in the same manner, because reads
go to the primary first. All of it is integers and fractions: any two machines get the same owners.

Sources: Karger et al., "Consistent Hashing and Random Trees" (STOC 1997); Mirrokni, Thorup, Zadimoghaddam,
"Consistent Hashing with Bounded Loads" (SODA 2018).
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Final

from mmh3 import mmh3_x64_128_digest

from kvcache_client.placement.bounded import Owners, bound_copies, bound_primaries
from kvcache_client.placement.partitions import PARTITIONS
from kvcache_client.placement.shares import fair_shares, point_gains, zone_quota
from kvcache_client.placement.spec import ALGORITHM, DEFAULT_VNODES, Node, PlacementSpec

__all__ = ["ALGORITHM", "DEFAULT_VNODES", "Node", "Placement", "PlacementSpec", "build_placement", "moved"]

_SLACK: Final = Fraction(21, 20)
"""How much of its fair share a node may hold. Less moves more copies when the cluster changes."""

_REACH: Final = 512
"""How many points are searched for a node that takes over a copy, before another partition gives one away instead."""

_DENSE: Final = 16
"""Points per partition that a ring needs. On a denser one, points far behind a partition's place are left out: hardly
a walk gets there, and sorting them would take most of the time for 1000 nodes."""

_NODE_BITS: Final = 16
"""The low bits of a point make room for the node that it belongs to, so that one list of integers is the ring."""

_NODE_MASK: Final = (1 << _NODE_BITS) - 1
_SPACING: Final = (1 << 64) // PARTITIONS
_OFFSET: Final = _SPACING - 1
"""The bits of a point that say how far it lies behind the place of a partition."""


class _Ring:
    """The points in clockwise order, as the places of their nodes in the list of nodes."""

    __slots__ = ("_holders", "_nodes", "_starts")

    def __init__(self, spec: PlacementSpec, points: Sequence[int]) -> None:
        ring: list[int] = []
        near = _SPACING * _DENSE * PARTITIONS // max(1, sum(points))
        for place, (node, count) in enumerate(zip(spec.nodes, points, strict=True)):
            part = _points(node.id, spec.seed, count)
            if near < _SPACING:
                part = [point for point in part if point & _OFFSET < near] or [min(part, key=_OFFSET.__and__)]
            ring += [point & ~_NODE_MASK | place for point in part]
        ring.sort()
        self._nodes = len(spec.nodes)
        self._holders = array("H", [point & _NODE_MASK for point in ring])
        size = max(1, len(ring))
        self._starts = array("L", [bisect_left(ring, place) % size for place in range(0, 1 << 64, _SPACING)])

    def walk(self, partition: int) -> Iterator[int]:
        """Yield each node once, clockwise from the place of ``partition``."""
        return self._distinct(partition, len(self._holders))

    def near(self, partition: int) -> Iterator[int]:
        """Yield the nodes that a walk meets soon; those with very few points may be missing."""
        return self._distinct(partition, min(_REACH, len(self._holders)))

    def _distinct(self, partition: int, points: int) -> Iterator[int]:
        holders = self._holders
        start = self._starts[partition]
        seen: set[int] = set()
        for index in range(start, start + points):
            node = holders[index % len(holders)]
            if node not in seen:
                seen.add(node)
                yield node
                if len(seen) == self._nodes:
                    return

    def choose(self, copies: int, zones: Sequence[str], quota: int, always: frozenset[int]) -> Owners:
        """Return for each partition the first ``copies`` nodes of its walk, at most ``quota`` of a zone.

        Nodes in ``always`` own every partition; the walk decides their order only.
        """
        owners: Owners = []
        chosen: tuple[int, ...] = ()
        last = -1
        for start in self._starts:
            if start != last:  # on small rings many partitions start their walk at the same point
                chosen = self._first(start, copies, zones, quota, always)
                last = start
            owners.append(chosen)
        return owners

    def _first(
        self, index: int, copies: int, zones: Sequence[str], quota: int, always: frozenset[int]
    ) -> tuple[int, ...]:
        holders = self._holders
        chosen: list[int] = []
        free = copies - len(always)
        taken = [zones[node] for node in always]
        while len(chosen) < copies:
            node = holders[index]
            index += 1
            if index == len(holders):
                index = 0
            if node in chosen:
                continue
            if node not in always:
                if not free or taken.count(zones[node]) >= quota:
                    continue
                free -= 1
                taken.append(zones[node])
            chosen.append(node)
            if not free and len(chosen) == copies - 1:  # the last one is known: do not look for its next point
                chosen += always.difference(chosen)
        return tuple(chosen)


def _points(id: str, seed: int, count: int) -> Sequence[int]:
    """Return ``count`` points of a node; one hash of 128 bits makes two. A longer list begins with the shorter."""
    name = id.encode()
    points = array("Q")
    points.frombytes(
        b"".join([mmh3_x64_128_digest(b"%b#%d" % (name, index), seed) for index in range((count + 1) // 2)])
    )
    if sys.byteorder == "big":
        points.byteswap()
    return points[:count]


class Placement:
    """The owners of every partition, immutable. ``owners[partition]`` are ids of nodes, the primary first."""

    __slots__ = ("_ring", "owners", "spec")

    def __init__(self, spec: PlacementSpec, owners: tuple[tuple[str, ...], ...], ring: _Ring) -> None:
        self.spec = spec
        self.owners = owners
        self._ring = ring

    def stand_ins(self, partition: int) -> Iterator[str]:
        """Yield the nodes that do not own ``partition``, clockwise: the first one replaces an owner out of reach."""
        owners = self.owners[partition]
        nodes = self.spec.nodes
        return (nodes[place].id for place in self._ring.walk(partition) if nodes[place].id not in owners)

    def walk(self, partition: int) -> Iterator[str]:
        """Yield all nodes once, clockwise from the place of ``partition``."""
        return (self.spec.nodes[place].id for place in self._ring.walk(partition))

    def copies(self) -> dict[str, int]:
        """Return how many partitions each node holds a copy of."""
        counts = {node.id: 0 for node in self.spec.nodes}
        for owners, times in Counter(self.owners).items():
            for id in owners:
                counts[id] += times
        return counts

    def primaries(self) -> dict[str, int]:
        """Return of how many partitions each node is the primary."""
        counts = {node.id: 0 for node in self.spec.nodes}
        for owners, times in Counter(self.owners).items():
            if owners:
                counts[owners[0]] += times
        return counts

    def __repr__(self) -> str:
        spec = self.spec
        copies = self.copies().values()
        held = f", {min(copies)}..{max(copies)} copies each" if copies else ""
        return (
            f"<Placement {spec.algorithm} seed={spec.seed} rf={spec.replication_factor} {len(spec.nodes)} nodes{held}>"
        )


def moved(a: Placement, b: Placement) -> int:
    """Return how many copies ``b`` has and ``a`` has not: what must travel when ``b`` follows ``a``."""
    return sum(len(set(after).difference(before)) for before, after in zip(a.owners, b.owners, strict=True))


def build_placement(spec: PlacementSpec) -> Placement:
    """Return the placement of ``spec``; for an equal spec the same object, as the last few are remembered.

    Takes some 20 ms for 3 nodes and about a second for 1000.
    """
    return _build(spec)


@lru_cache(maxsize=8)
def _build(spec: PlacementSpec) -> Placement:
    nodes = spec.nodes
    copies = min(spec.replication_factor, len(nodes))
    zones = [node.zone for node in nodes]
    quota = zone_quota(zones, copies)
    shares = fair_shares(nodes, copies, quota) if nodes else []
    always = frozenset(place for place, share in enumerate(shares) if share == 1)
    ring = _Ring(spec, _point_counts(spec, shares, copies - len(always)))
    if not copies:
        return Placement(spec, ((),) * PARTITIONS, ring)
    owners = ring.choose(copies, zones, quota, always)
    bound_copies(owners, [_limit(share * PARTITIONS) for share in shares], zones, quota, ring.near)
    bound_primaries(owners, [_limit(share * PARTITIONS / copies) for share in shares])
    named: dict[tuple[int, ...], tuple[str, ...]] = {}
    for chosen in owners:
        if chosen not in named:
            named[chosen] = tuple(nodes[place].id for place in chosen)
    return Placement(spec, tuple(named[chosen] for chosen in owners), ring)


def _limit(fair: Fraction) -> int:
    """Return the most that a node may hold when ``fair`` is its fair share, both in partitions."""
    return min(PARTITIONS, max(int(fair * _SLACK), -int(-fair // 1)))


def _point_counts(spec: PlacementSpec, shares: Sequence[Fraction], free: int) -> list[int]:
    """Return the ring points of each node; ``free`` is how many owners of a partition the walk decides.

    A node that owns every partition needs no more points than another: they only make the walks of others longer.
    With zones there are no gains: they would move more between the nodes of a zone than they balance.
    """
    partial = [place for place, share in enumerate(shares) if share < 1]
    heaviest = max((spec.nodes[place].weight for place in partial), default=1)
    counts = [spec.vnodes * min(node.weight, heaviest) for node in spec.nodes]
    if free > 1 and len({node.zone for node in spec.nodes}) == 1:
        gains = point_gains([shares[place] for place in partial])
        for place, gain in zip(partial, gains, strict=True):
            counts[place] = max(1, round(counts[place] * gain))
    return counts
