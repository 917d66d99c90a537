"""Nodes: what this client has measured of each node.

Here lives one small record per node: how long it takes, how much it is asked at this moment, where it is. Never here: whether
it is avoided (``health``, ``breaker``), or which node is asked (``balancing``).

Bodies measure once for each batch of replies that arrives, not once for each call: the time since the newest of the answered
requests was sent. Times are seconds of the client's monotonic clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import exp
from typing import Final

from kvcache_client.placement.topology import Member

__all__ = ["HEDGE_FLOOR", "NodeState", "Nodes"]

HEDGE_FLOOR: Final = 0.005
"""Seconds below which no answer is called slow: shorter waits are noise of the machines."""

_HEDGE_UNKNOWN_SECONDS: Final = 0.02

_UNKNOWN_SECONDS: Final = 0.001
"""What a node is taken to need before it has answered once."""

_LEAST_SECONDS: Final = 0.00002
"""An average decays no further: below it, differences are noise."""

_MEMORY_SECONDS: Final = 1.0
"""The time constant of the average: a peak counts for 37 % a second later."""

_DECAY_SECONDS: Final = 0.1
"""How often the averages of nodes that are not heard of are let down."""

_SAMPLES: Final = 128
_SORT_EVERY: Final = 32


class NodeState:
    """One node: ``ewma`` and ``p95`` are seconds, ``in_flight`` are requests without a reply.

    ``ewma`` is a peak-sensitive average: it rises at once to a slower sample and comes down with time (the cost of Finagle's
    ``p2c`` peak EWMA balancer, Twitter 2015).
    """

    __slots__ = (
        *("_heard_at", "_next", "_samples", "batch", "ewma", "hedge_after", "in_flight", "node", "p95", "replies"),
        *("weight", "zone"),
    )

    def __init__(self, node: str, zone: str = "", weight: int = 1) -> None:
        self.node = node
        self.zone = zone
        self.weight = weight
        self.in_flight = 0
        """As the body last saw it, and what a policy has added since."""
        self.replies = 0
        """How many it has sent so far."""
        self.batch = 0
        """How many of them came together, last."""
        self.forget()

    def forget(self) -> None:
        """Know nothing of its speed any more: another process, or one that has recovered."""
        self.ewma = _UNKNOWN_SECONDS
        self.p95 = 0.0
        """0 until there are enough samples."""
        self.hedge_after = _HEDGE_UNKNOWN_SECONDS
        """Seconds after which a read that is not answered is worth asking another node too."""
        self._samples: list[float] = []
        self._next = 0
        self._heard_at = 0.0

    def observe(self, seconds: float, now: float, replies: int = 1) -> None:
        """Note how long the answer to a batch of requests took."""
        self.replies += replies
        self.batch = replies
        if seconds >= self.ewma:
            self.ewma = seconds
        else:
            weight = exp((self._heard_at - now) / _MEMORY_SECONDS)
            self.ewma = max(seconds + (self.ewma - seconds) * weight, _LEAST_SECONDS)
        self._heard_at = now
        samples = self._samples
        if len(samples) < _SAMPLES:
            samples.append(seconds)
        else:
            samples[self._next % _SAMPLES] = seconds
        self._next += 1
        if self._next % _SORT_EVERY == 0:
            self.p95 = sorted(samples)[len(samples) * 95 // 100]

    def median(self) -> float:
        """Return the median of the samples, 0 if there is none."""
        samples = sorted(self._samples)
        return samples[len(samples) // 2] if samples else 0.0

    def still_waiting(self, seconds: float) -> None:
        """Note that an answer takes at least so long: no need to wait for it to know that the node is slow."""
        self.ewma = max(self.ewma, seconds)

    def decay(self, now: float, seconds: float) -> None:
        """Let the average of a node that was not heard of down, so that it is tried again some time."""
        if now - self._heard_at > seconds:
            self.ewma = max(self.ewma * exp(-seconds / _MEMORY_SECONDS), _LEAST_SECONDS)

    def __repr__(self) -> str:
        return f"<NodeState {self.node} ewma={self.ewma * 1000:.2f} ms p95={self.p95 * 1000:.2f} ms in_flight={self.in_flight}>"


class Nodes(dict[str, NodeState]):
    """All nodes by id. One that is not known yet is made when it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self._decayed_at = 0.0

    def __missing__(self, node: str) -> NodeState:
        return self.setdefault(node, NodeState(node))  # another thread may have made it meanwhile

    def adopt(self, members: Iterable[Member]) -> None:
        """Know where each member is and what it weighs."""
        for member in members:
            state = self[member.id]
            state.zone, state.weight = member.zone, member.weight

    def is_time_to_decay(self, now: float) -> bool:
        """Let averages down now and then; returns whether it was time to, so that others may tie what they do to it."""
        if now - self._decayed_at < _DECAY_SECONDS:
            return False
        self._decayed_at = now
        for state in list(self.values()):
            state.decay(now, _DECAY_SECONDS)
        return True
