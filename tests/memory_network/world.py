"""World: what nodes and clients of a simulated network share: topologies, views of them, and the time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from random import Random
from typing import Final, Protocol

from kvcache_client.core.routing import View
from kvcache_client.placement.topology import Member, Topology

__all__ = ["START_MS", "World", "cluster_of", "placed"]

START_MS: Final = 1_790_000_000_000
"""The wall time at which virtual time begins, in ms since 1970."""


class World(Protocol):
    """What a node sees of its network."""

    random: Random
    topology: Topology
    now: float
    """Virtual seconds since the beginning."""

    def wall_ms(self) -> int:
        """Return the true time in ms since 1970."""

    def after(self, seconds: float, work: Callable[[], None]) -> None:
        """Do ``work`` in ``seconds`` of virtual time."""

    def break_wires(self, node: str) -> None:
        """Break every connection to ``node``."""


def cluster_of(nodes: int, replication_factor: int, *, zones: Sequence[str] = ("",)) -> Topology:
    """Return the topology of nodes n1, n2, ... in ``zones``, taken in turn."""
    topology = Topology.found("test", cluster_id="00c0ffee", seed=4711, replication_factor=replication_factor)
    for number in range(1, nodes + 1):
        zone = zones[number % len(zones)]
        topology = topology.with_member(Member(f"n{number}", f"10.0.0.{number}:7700", zone))
    return topology.settled()


@lru_cache(maxsize=64)
def placed(topology: Topology) -> View:
    """Return the view of ``topology``; computing placements is most of what a small test would do otherwise."""
    return View(topology)
