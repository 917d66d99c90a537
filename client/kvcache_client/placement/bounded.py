"""Bounded loads: takes from nodes that got too much and gives to the next on the ring that have room.

Here lives the second step of placement: owners that the ring alone chose, corrected until no node is over its
limit. Never here: hashing, or what the limits are (``ring``).

What a full node gives away are always the last partitions of one fixed order. When a node joins or leaves, natural
load and limit of a full node change in the same proportion, so it keeps nearly the same partitions and few copies
move for no reason. For the same reason copies that a node got from the ring never make way for others.
Source: Mirrokni, Thorup, Zadimoghaddam, "Consistent Hashing with Bounded Loads" (SODA 2018); the fixed order and
the correction after the walk, in place of skipping full nodes during it, are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final, TypeAlias

from kvcache_client.placement.partitions import PARTITIONS

__all__ = ["Owners", "bound_copies", "bound_primaries"]

Owners: TypeAlias = list[tuple[int, ...]]
"""The owners of each partition, as places in the list of nodes, in the order of the walk."""

_STRIDE: Final = 10125
"""Odd, near the golden section of 16384: any run of the order below lies evenly spread over the ring."""

_SEARCH: Final = 64
"""How many nodes are tried as a new owner of one copy before another partition is tried instead."""


def _last_first() -> Iterator[int]:
    return (rank * _STRIDE % PARTITIONS for rank in range(PARTITIONS - 1, -1, -1))


def bound_copies(
    owners: Owners,
    limits: Sequence[int],
    zones: Sequence[str],
    quota: int,
    walk: Callable[[int], Iterable[int]],
) -> None:
    """Move copies in ``owners`` until no node holds more than its limit.

    ``zones`` has the zone of each node and ``quota`` the copies of a partition that a zone may hold; ``walk`` gives
    the nodes clockwise from a partition. A copy that no node may take over stays where it is.
    """
    loads = [0] * len(limits)
    for chosen in owners:
        for node in chosen:
            loads[node] += 1
    over = {node for node, load in enumerate(loads) if load > limits[node]}
    for partition in _last_first():
        if not over:
            return
        chosen = owners[partition]
        if over.isdisjoint(chosen):
            continue
        for node in chosen:
            if node not in over:
                continue
            kept = [other for other in owners[partition] if other != node]
            kept_zones = [zones[other] for other in kept]
            for taker in islice(walk(partition), _SEARCH):
                if (
                    loads[taker] < limits[taker]
                    and taker != node
                    and taker not in kept
                    and kept_zones.count(zones[taker]) < quota
                ):
                    owners[partition] = (*kept, taker)
                    loads[taker] += 1
                    loads[node] -= 1
                    if loads[node] <= limits[node]:
                        over.discard(node)
                    break


def bound_primaries(owners: Owners, limits: Sequence[int]) -> None:
    """Let other owners of a partition come first until no node is the primary of more than its limit.

    No copy moves. A primary whose co-owners are all at their limits stays.
    """
    loads = [0] * len(limits)
    for chosen in owners:
        loads[chosen[0]] += 1
    over = {node for node, load in enumerate(loads) if load > limits[node]}
    for partition in _last_first():
        if not over:
            return
        chosen = owners[partition]
        node = chosen[0]
        if node not in over:
            continue
        for taker in chosen[1:]:
            if loads[taker] < limits[taker]:
                owners[partition] = (taker, *(other for other in chosen if other != taker))
                loads[taker] += 1
                loads[node] -= 1
                if loads[node] <= limits[node]:
                    over.discard(node)
                break
