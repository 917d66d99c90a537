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

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Final, TypeAlias

from kvcache_client.placement.partitions import PARTITIONS

__all__ = ["Owners", "bound_copies", "bound_primaries"]

Owners: TypeAlias = list[tuple[int, ...]]
"""The owners of each partition, as places in the list of nodes, in the order of the walk."""

_STRIDE: Final = 10125
"""Odd, near the golden section of 16384: any run of the order below lies evenly spread over the ring."""


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
    the nodes clockwise from a partition. A copy that none of these may take stays, and another one moves.
    """
    loads = _count(chain.from_iterable(owners), len(limits))

    def taker(partition: int, kept: Sequence[int]) -> int | None:
        full = [zones[node] for node in kept]
        for node in walk(partition):
            if loads[node] < limits[node] and node not in kept and full.count(zones[node]) < quota:
                return node
        return None

    over = {node for node, load in enumerate(loads) if load > limits[node]}
    for partition in _last_first():
        if not over:
            return
        for giver in owners[partition]:
            if giver in over:
                kept = [node for node in owners[partition] if node != giver]
                found = taker(partition, kept)
                if found is not None:
                    owners[partition] = (*kept, found)
                    _pass_on(giver, found, loads, limits, over)


def bound_primaries(owners: Owners, limits: Sequence[int]) -> None:
    """Let other owners of a partition come first until no node is the primary of more than its limit.

    No copy moves. A primary whose co-owners are all at their limits stays.
    """
    loads = _count((chosen[0] for chosen in owners), len(limits))
    over = {node for node, load in enumerate(loads) if load > limits[node]}
    for partition in _last_first():
        if not over:
            return
        giver, *others = owners[partition]
        if giver in over:
            found = next((node for node in others if loads[node] < limits[node]), None)
            if found is not None:
                owners[partition] = (found, *(node for node in owners[partition] if node != found))
                _pass_on(giver, found, loads, limits, over)


def _count(nodes: Iterable[int], number: int) -> list[int]:
    counts = Counter(nodes)
    return [counts[node] for node in range(number)]


def _pass_on(giver: int, taker: int, loads: list[int], limits: Sequence[int], over: set[int]) -> None:
    loads[giver] -= 1
    loads[taker] += 1
    if loads[giver] <= limits[giver]:
        over.discard(giver)
