"""The brain: what one client knows, shared by all its plans.

Here lives the client's state: its view of the cluster, its clock, whom it avoids, what it has counted. Never here: how a
verb goes (the plans), or anything that touches a socket (the bodies).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from itertools import count
from typing import Any, Final, TypeAlias

from kvcache_client.core.avoided import Avoided
from kvcache_client.core.balancing import Balancing, make_balancing
from kvcache_client.core.breaker import Breaker
from kvcache_client.core.budget import hedge_budget, refusal_budget, retry_budget
from kvcache_client.core.config import ClientConfig
from kvcache_client.core.consistency import Acks, check_acks, needed_acks
from kvcache_client.core.health import Down, Health
from kvcache_client.core.lagging import Lagging
from kvcache_client.core.nodes import Nodes, NodeState
from kvcache_client.core.routing import View
from kvcache_client.core.shedding import Shedding
from kvcache_client.core.space import Spaces
from kvcache_client.placement.topology import Topology
from kvcache_client.protocol.errors import NotReady, TopologyError
from kvcache_client.protocol.verbs import MAX_OPERATION
from kvcache_client.protocol.version import WRITERS, HybridClock

_FAIR: Final = 0.9
"""The share of an attempt that is as good as a whole one."""

_DOUBTS: Final = 1000
"""Operations in doubt that a client remembers; one that is older may be applied twice if it is asked again."""

Life: TypeAlias = tuple[str, Any]
"""A node and what changes when another process takes its place."""

__all__ = ["Brain", "Counters", "Life", "Surroundings"]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a brain takes from outside, so that tests can give it theirs."""

    monotonic: Callable[[], float]
    """Seconds that only grow; deadlines are measured by it."""
    wall_ms: Callable[[], int]
    """Milliseconds since 1970; versions and expiries start from it."""
    random: Callable[[], float]
    """Draws from [0, 1)."""
    mutex: Callable[[], AbstractContextManager[object]] = nullcontext
    """Makes what keeps threads apart; where there are none, nothing does."""


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
    superseded_writes: int = 0
    """Writes that met a newer version again: one written at the same time has won."""
    repaired_copies: int = 0
    """Copies that were behind when several were read, and were brought up to date."""
    retries: int = 0
    """Requests that were sent again, to the same node or another, because one before had failed."""
    hedged_reads: int = 0
    """Reads that a second owner was asked for because the first was slow."""
    hedges_won: int = 0
    """Those of them that the second owner answered first."""
    failed_open_reads: int = 0
    """Reads that were answered by a miss because no node could (``fail_open``)."""
    failed_open_writes: int = 0
    """Writes that were given up without an error (``fail_open``)."""
    asked_again: int = 0
    """Operations whose answer was lost and that were asked again."""
    computations: int = 0
    """Values that were computed for ``get_or_compute``."""
    computed_alone: int = 0
    """Those of them that were computed without a lease, because no node could give one in time."""
    failed_computations: int = 0
    """Computations that raised."""
    waits: int = 0
    """Calls that got a value for which another call of this process, or another process, was asked."""
    stale_served: int = 0
    """Values past their soft expiry that were returned, while another call refreshed them or because that failed."""
    void_fills: int = 0
    """Computed values that were not kept: the key was changed meanwhile, the lease was over, or no node took it."""
    refreshes: int = 0
    """Topologies asked for."""


def _draw_writer(random: Callable[[], float]) -> int:
    return int(random() * WRITERS)


class Brain:
    """The state of one client."""

    __slots__ = (
        *(
            "_operations",
            "_policies",
            "_random",
            "attempt",
            "avoided",
            "behind",
            "breaker",
            "choose",
            "clock",
            "config",
        ),
        *(
            "counters",
            "doubts",
            "down",
            "flights",
            "health",
            "hedges",
            "hlc",
            "lagging",
            "level",
            "nodes",
            "opened",
            "refusals",
            "retries",
        ),
        *("shedding", "spaces", "view"),
    )

    def __init__(self, config: ClientConfig, around: Surroundings) -> None:
        self.config = config
        self.clock = around.monotonic
        self._random = around.random
        self.hlc = HybridClock(around.wall_ms, _draw_writer(around.random))
        self.health = Health(around.monotonic, around.random, config.backoff)
        self.down: dict[str, Down] = self.health.down
        self.counters = Counters()
        self.nodes = Nodes()
        self.spaces = Spaces(config.value_form())
        self.breaker = Breaker(around.monotonic, around.random, self.nodes)
        self.opened = self.breaker.opened
        self.avoided = Avoided(self.down, self.opened)
        self.retries = retry_budget(around.monotonic)
        self.refusals = refusal_budget(around.monotonic)
        self.hedges = hedge_budget(around.monotonic)
        self.shedding = Shedding(around.monotonic)
        self.lagging = Lagging(around.monotonic, around.mutex)
        self.behind = self.lagging.marks
        self._policies: dict[str, Balancing] = {}
        self.choose = self.policy(config.balancing).choose
        """Picks one of the owners of a key; the policy of calls that name none."""
        self.level = None if config.consistency == "one" else config.consistency
        """The consistency of reads that name none, unless one copy is enough."""
        self.flights: dict[bytes, Any] = {}
        """Key -> the computation of its value that is under way in this process; whoever writes the key takes it out."""
        self.doubts: dict[int, frozenset[Life]] = {}
        """Operation that is in doubt -> the node processes that may have heard of it."""
        self._operations = self._numbers()
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
        same = {node for node, life in view.lives.items() if lives.get(node) == life}
        self.health.forget(same)
        for node in lives.keys() - same:
            self.breaker.close(node)
            self.nodes.pop(node, None)
        self.lagging.replaced(lives.keys() - same)
        self.shedding.forget(lives.keys() - same)
        self.nodes.adopt(view.topology.members)

    def start_over(self) -> None:
        """Become another client that knows the same: after a fork, two may have come of one."""
        self.health.start_over()
        self.breaker.start_over()
        self.lagging.start_over()
        self.flights.clear()
        self._operations = self._numbers()
        self.hlc.become(_draw_writer(self._random))

    def _numbers(self) -> Iterator[int]:
        return count(int(self._random() * (1 << 40)) << 24 | 1)

    def operation(self) -> int:
        """Return a number for one call, which no other call on the same key has: 40 bits by chance, 24 counted."""
        return next(self._operations) & MAX_OPERATION or self.operation()

    def remember_doubt(self, operation: int, heard: frozenset[Life]) -> None:
        """Note who may have heard of an operation that is in doubt, for when it is asked again."""
        self.doubts[operation] = heard
        while len(self.doubts) > _DOUBTS:
            with suppress(KeyError, StopIteration, RuntimeError):  # another thread was at it too
                del self.doubts[next(iter(self.doubts))]

    def draw(self) -> float:
        """Return a number in [0, 1) by chance."""
        return self._random()

    def sent(self, requests: int) -> None:
        """Note that so many requests have left: a share of them may be repeated, or hedged."""
        self.retries.earn(requests)
        self.refusals.earn(requests)
        self.hedges.earn(requests)

    def heard(self, node: NodeState, seconds: float, now: float, replies: int = 1) -> None:
        """Note how long (seconds) the answer to a batch of requests took; called once for each batch that arrives."""
        node.observe(seconds, now, replies)
        if self.nodes.is_time_to_decay(now):
            self.breaker.watch(now)

    def tells_silence(self, seconds: float) -> bool:
        """Say whether no answer within so many seconds says anything about a node: not where it had less than an attempt."""
        return seconds >= _FAIR * self.attempt

    def retry(self, requests: int = 1, *, refused: bool = False) -> bool:
        """Say whether so many requests may be sent again, and count them; ``refused`` if for want of time at a node."""
        if (refused and not self.refusals.take(requests)) or not self.retries.take(requests):
            return False
        self.counters.retries += requests
        return True

    def may_hedge(self, requests: int = 1) -> bool:
        """Say whether second nodes may be asked for a read, and count it. Where much is repeated already, they may not."""
        if self.retries.tokens < 1.0 or not self.hedges.take(requests):
            return False
        self.retries.take(requests)
        self.counters.hedged_reads += requests
        return True

    def policy(self, balancing: str | Balancing) -> Balancing:
        """Return the policy of that name, the same each time, or a caller's own. Raises ``InvalidOption``."""
        held = self._policies.get(balancing) if isinstance(balancing, str) else None
        if held is None:
            held = make_balancing(balancing, self._random, self.config.zone)
            if isinstance(balancing, str):
                self._policies[balancing] = held
        return held

    def needed_acks(self, owners: int, acks: Acks | None = None) -> int:
        """Return how many copies make a write of a partition with that many owners acknowledged.

        ``acks`` is what the call asked for. Raises ``InvalidOption`` if that can't be.
        """
        if acks is None:
            return needed_acks(self.config.acks, owners)
        return needed_acks(check_acks(acks), owners, asked_for=True)

    def __repr__(self) -> str:
        return f"<Brain {self.view!r} {self.health!r} {self.counters!r}>"
