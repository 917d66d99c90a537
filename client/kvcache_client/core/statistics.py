"""Statistics: what one client has seen of its nodes and of its keys, at this moment.

Here lives the snapshot that ``stats()`` returns. Never here: counting, which happens where things happen, or what nodes count
(``inspecting.node_statistics``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from kvcache_client.core.brain import Brain
from kvcache_client.core.lookups import Lookups, MissReason

__all__ = ["ClientStats", "NamespaceStats", "NodeStats", "client_stats"]


@dataclass(frozen=True, slots=True)
class NodeStats:
    """One node as this client sees it. Times are seconds."""

    node: str
    address: str
    """host:port, or empty for a node that is not a member any more."""
    zone: str
    state: str
    """``up``; ``open``: its breaker is, reads go elsewhere; ``down``: nothing is sent there."""
    reason: str
    """Why it is not up."""
    retry_in: float | None
    """Until a node that is not up is tried again."""
    ewma: float
    """Average latency of late; it rises at once and falls with time."""
    p50: float
    p95: float
    """Of the last batches of replies; 0 until there are enough."""
    hedge_after: float
    """A read that is not answered by then asks another owner too."""
    in_flight: int
    """Requests that have no reply yet."""
    replies: int


@dataclass(frozen=True, slots=True)
class NamespaceStats:
    """What reads under one prefix have found. Keys looked up = hits + the sum of misses + those that raised."""

    prefix: str
    hits: int
    misses: Mapping[str, int]
    """Reason -> count: absent, expired, deleted, evicted, node_down, timeout."""

    @property
    def hit_ratio(self) -> float:
        """Hits per key looked up, 0.0 to 1.0; 0.0 if there was none."""
        lookups = self.hits + sum(self.misses.values())
        return self.hits / lookups if lookups else 0.0


@dataclass(frozen=True, slots=True)
class ClientStats:
    """What a client has seen since it was made; namespaces of a client share it."""

    cluster: str
    """Its name; empty before the first call."""
    epoch: int
    """Of the topology in use; 0 before the first call."""
    nodes: Mapping[str, NodeStats]
    namespaces: Mapping[str, NamespaceStats]
    """Prefix -> what was found; the keys of no namespace are under the empty one."""
    counters: Mapping[str, int]
    """What happened beside the happy path, as ``kvcache_client.core.brain.Counters`` describes it."""

    @property
    def hits(self) -> int:
        """Hits of all namespaces."""
        return sum(space.hits for space in self.namespaces.values())

    @property
    def retries(self) -> int:
        """Requests that were sent again because one before had failed."""
        return self.counters["retries"]

    @property
    def hedges(self) -> int:
        """Reads that a second owner was asked for because the first was slow."""
        return self.counters["hedged_reads"]

    @property
    def misses(self) -> Mapping[str, int]:
        """Misses of all namespaces, by reason."""
        spaces = self.namespaces.values()
        return {name: sum(space.misses[name] for space in spaces) for name in map(_name, MissReason)}

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data, fit for JSON."""
        return asdict(self)


def client_stats(brain: Brain) -> ClientStats:
    """Return the snapshot of this moment. Sends nothing."""
    view = brain.view
    addresses = view.addresses if view else {}
    known = {*addresses, *list(brain.nodes)}
    return ClientStats(
        cluster=view.topology.cluster if view else "",
        epoch=view.epoch if view else 0,
        nodes={node: _node_stats(brain, node, addresses.get(node, "")) for node in sorted(known)},
        namespaces={
            prefix.decode(errors="backslashreplace"): _namespace_stats(prefix, lookups)
            for prefix, lookups in list(brain.spaces.lookups.items())
        },
        counters=asdict(brain.counters),
    )


def _node_stats(brain: Brain, node: str, address: str) -> NodeStats:
    measured = brain.nodes[node]
    down, opened = brain.down.get(node), brain.opened.get(node)
    trouble = down or opened
    return NodeStats(
        node=node,
        address=address,
        zone=measured.zone,
        state="down" if down else "open" if opened else "up",
        reason=str(trouble.reason) if trouble else "",
        retry_in=max(0.0, trouble.retry_at - brain.clock()) if trouble else None,
        ewma=measured.ewma,
        p50=measured.median(),
        p95=measured.p95,
        hedge_after=measured.hedge_after,
        in_flight=measured.in_flight,
        replies=measured.replies,
    )


def _namespace_stats(prefix: bytes, lookups: Lookups) -> NamespaceStats:
    misses = {_name(reason): lookups.misses[reason] for reason in MissReason}
    return NamespaceStats(prefix.decode(errors="backslashreplace"), lookups.hits, misses)


def _name(reason: MissReason) -> str:
    return reason.name.lower()
