"""The brain: what one client knows, shared by all its plans.

Here lives the client's state: its view of the cluster, its clock, whom it avoids, what it has counted. Never here: how a
verb goes (the plans), or anything that touches a socket (the bodies).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from kvcache_client.core.health import Down, Health
from kvcache_client.core.retry import Backoff
from kvcache_client.core.routing import View
from kvcache_client.core.space import Spaces
from kvcache_client.placement.topology import Topology
from kvcache_client.protocol.errors import InvalidOption, NotReady, TopologyError
from kvcache_client.protocol.limits import VALUE_BYTES, VALUE_BYTES_CAP
from kvcache_client.protocol.verbs import Role
from kvcache_client.protocol.version import WRITERS, HybridClock

__all__ = ["Brain", "ClientConfig", "Counters", "Surroundings"]


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """What a caller may set; times in seconds, sizes in bytes."""

    timeout: float = 0.25
    """What one call may take in all, fail-over included."""
    connect_timeout: float = 0.5
    """What reaching the first seed or a node may take."""
    acks: int = 2
    """Live processes that must hold a write before it is acknowledged, as far as the replication factor goes."""
    cluster: str = ""
    """The name that the cluster must have; empty takes any."""
    value_limit: int = VALUE_BYTES
    """Largest payload that is sent."""
    role: Role = Role.CLIENT
    name: str = ""
    """How this client introduces itself to nodes."""
    backoff: Backoff = field(default_factory=Backoff)

    def __post_init__(self) -> None:
        for option, seconds in (("timeout", self.timeout), ("connect_timeout", self.connect_timeout)):
            if not 0 < seconds < 3600:  # also false for NaN
                raise InvalidOption(f"{option}={seconds!r}: must be over 0 and below 3600 seconds")
        if not 1 <= self.acks <= 8:
            raise InvalidOption(f"acks={self.acks!r}: must be 1 to 8")
        if not 0 < self.value_limit <= VALUE_BYTES_CAP:
            raise InvalidOption(f"value_limit={self.value_limit!r}: must be 1 to {VALUE_BYTES_CAP} bytes")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a brain takes from outside, so that tests can give it theirs."""

    monotonic: Callable[[], float]
    """Seconds that only grow; deadlines are measured by it."""
    wall_ms: Callable[[], int]
    """Milliseconds since 1970; versions and expiries start from it."""
    random: Callable[[], float]
    """Draws from [0, 1)."""


@dataclass(slots=True)
class Counters:
    """What happened beside the happy path. asked = answered + late + failed, where only the last two are counted here."""

    late_replies: int = 0
    """Replies whose call had been cancelled or given up; they were dropped."""
    failed_over_reads: int = 0
    """Reads that an owner did not answer and another node had to."""
    stand_in_writes: int = 0
    """Copies that went to a stand-in because an owner could not be reached."""
    restamped_writes: int = 0
    """Writes that met a newer version or a clock ahead of ours and were stamped again."""
    repaired_copies: int = 0
    """Copies that were behind when several were read, and were brought up to date."""
    refreshes: int = 0
    """Topologies asked for."""


def _draw_writer(random: Callable[[], float]) -> int:
    return int(random() * WRITERS)


class Brain:
    """The state of one client."""

    __slots__ = ("_random", "attempt", "clock", "config", "counters", "down", "health", "hlc", "spaces", "view")

    def __init__(self, config: ClientConfig, around: Surroundings) -> None:
        self.config = config
        self.clock = around.monotonic
        self._random = around.random
        self.hlc = HybridClock(around.wall_ms, _draw_writer(around.random))
        self.health = Health(around.monotonic, around.random, config.backoff)
        self.down: dict[str, Down] = self.health.down
        self.counters = Counters()
        self.spaces = Spaces()
        self.view: View | None = None
        self.attempt = config.timeout

    def require_view(self) -> View:
        """Return the view; bodies learn one before they run the first plan."""
        if self.view is None:
            raise NotReady("the client knows no topology yet")
        return self.view

    def knows(self, topology: Topology) -> bool:
        """Say whether ``topology`` is no news. Raises ``TopologyError`` if it belongs to another cluster."""
        if self.view is None:
            return False
        mine = self.view.topology
        if topology.cluster_id != mine.cluster_id:
            raise TopologyError(
                f"this client belongs to cluster {mine.cluster_id}, the document to {topology.cluster_id}"
            )
        return topology.epoch <= mine.epoch

    def adopt(self, view: View) -> None:
        """Route by ``view`` from now on; an older one than the one in use is ignored."""
        if self.knows(view.topology):
            return
        before, self.view = self.view, view
        # One attempt leaves time for a second owner and a stand-in; where there is nobody else, it gets it all.
        self.attempt = self.config.timeout * (0.4 if len(view.addresses) > 1 else 1.0)
        # What was learnt of a process that has been replaced says nothing about the new one.
        lives = before.lives if before else view.lives
        self.health.forget({node for node, life in view.lives.items() if lives.get(node) == life})

    def start_over(self) -> None:
        """Become another client that knows the same: after a fork, two may have come of one."""
        self.down.clear()
        self.hlc.become(_draw_writer(self._random))

    def draw(self) -> float:
        """Return a number in [0, 1) by chance."""
        return self._random()

    def needed_acks(self, owners: int) -> int:
        """Return how many copies make a write of a partition with that many owners acknowledged."""
        return min(self.config.acks, owners)

    def __repr__(self) -> str:
        return f"<Brain {self.view!r} {self.health!r} {self.counters!r}>"
