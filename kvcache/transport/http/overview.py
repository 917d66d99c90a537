"""Overview: the whole cluster at one moment, as the dashboard shows it.

Here lives what is made of the topology and of the counters that the nodes tell: rates, ratios, quantiles. Never here: asking
them (``event_stream``), or how it looks (``dashboard/``). Pure: two samples in, plain data out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, TypeAlias

from kvcache_client.core.routing import View
from kvcache_client.placement.partitions import PARTITIONS
from kvcache_client.placement.topology import Topology
from kvcache_client.protocol.errors import KvCacheError

__all__ = ["Sample", "Told", "overview", "quantile"]

Told: TypeAlias = Mapping[str, Mapping[str, Any] | KvCacheError]
"""Node id -> its counters (``/v1/stats``), or why it did not tell."""

_SLOTS: Final = 360
"""Pieces of the ring that are told apart: what a screen can show."""

_COPIES: Final = 3
_EVENTS: Final = 60
_TIMED: Final = ("GET", "PUT")


@dataclass(frozen=True, slots=True)
class Sample:
    """What was told at a monotonic time in seconds. Two of them make rates."""

    at: float
    told: Told = field(default_factory=dict)

    def number(self, node: str, *place: str) -> float:
        """Return a number that a node told, 0 if it did not."""
        value: Any = self.told.get(node)
        for name in place:
            value = value.get(name) if isinstance(value, Mapping) else None
        return value if isinstance(value, int | float) else 0.0

    def life(self, node: str) -> object:
        """Return what names the process of a node; counters of two lives must not be compared."""
        told = self.told.get(node)
        return told.get("node", {}).get("incarnation") if isinstance(told, Mapping) else None


def overview(view: View, before: Sample, now: Sample) -> dict[str, Any]:
    """Return everything that the dashboard shows, as plain data."""
    topology = view.topology
    ids = [member.id for member in topology.members]
    copies, primaries, ring = _shares(view)
    nodes = [_node(topology, id, before, now) | {"partitions": copies[id], "primaries": primaries[id]} for id in ids]
    return {
        "cluster": topology.cluster,
        "epoch": topology.epoch,
        "copies": topology.replication_factor,
        "nodes": nodes,
        "ring": ring,
        "move": _move(topology, now),
        "latency": {verb.lower(): _latency(verb, ids, before, now) for verb in _TIMED},
        "events": _events(ids, now),
    }


def _node(topology: Topology, id: str, before: Sample, now: Sample) -> dict[str, Any]:
    member = topology.member(id)
    told = now.told.get(id)
    answers = isinstance(told, Mapping)
    rate = _Rates(id, before, now)
    return {
        "id": id,
        "address": member.address if member else "",
        "zone": member.zone if member else "",
        "weight": member.weight if member else 0,
        "state": member.shown_state if member else "",
        "answers": answers,
        "error": None if answers or told is None else f"{type(told).__name__}: {told}"[:200],
        "controlling": bool(now.number(id, "node", "controlling")),
        "records": now.number(id, "store", "records"),
        "used_bytes": now.number(id, "store", "used_bytes"),
        "budget_bytes": now.number(id, "store", "budget_bytes"),
        "connections": now.number(id, "stream", "connections"),
        "lag_seconds": now.number(id, "loop", "lag_largest_seconds"),
        "left": now.number(id, "loading", "left"),
        "hints": now.number(id, "hints", "held"),
        "requests_per_second": rate.of("stream", "requests"),
        "hits_per_second": rate.of("store", "hits"),
        "misses_per_second": rate.of("store", "misses"),
        "evictions_per_second": rate.of("store", "evictions"),
        "expirations_per_second": rate.of("store", "expirations"),
    }


class _Rates:
    """How fast the counters of one node rose; None when there is nothing to compare."""

    def __init__(self, node: str, before: Sample, now: Sample) -> None:
        self._node, self._before, self._now = node, before, now
        self._same = now.life(node) is not None and before.life(node) == now.life(node) and now.at > before.at

    def of(self, *place: str) -> float | None:
        if not self._same:
            return None
        risen = self._now.number(self._node, *place) - self._before.number(self._node, *place)
        return round(max(risen, 0.0) / (self._now.at - self._before.at), 2)


@lru_cache(maxsize=1)
def _shares(view: View) -> tuple[Counter[str], Counter[str], list[list[int]]]:
    """Return how many partitions each node has, of how many it is the first owner, and who is where on the ring.

    The ring has, for each copy, the node at each of so many places, by its place among the members; -1 is nobody. All of it
    is the same until the next epoch, and takes milliseconds.
    """
    place = {member.id: at for at, member in enumerate(view.topology.members)}
    copies = Counter(id for owners in view.owners for id in owners)
    primaries = Counter(owners[0] for owners in view.owners if owners)
    shown = [view.owners[slot * PARTITIONS // _SLOTS] for slot in range(_SLOTS)]
    count = min(max(map(len, shown), default=0), _COPIES)
    ring = [[place.get(who[copy], -1) if copy < len(who) else -1 for who in shown] for copy in range(count)]
    return copies, primaries, ring


def _move(topology: Topology, now: Sample) -> dict[str, Any] | None:
    move = topology.move
    if move is None:
        return None
    ids = [member.id for member in topology.members]
    left = sum(now.number(id, "move", "partitions_left") for id in ids)
    total = sum(now.number(id, "move", "partitions_promised") for id in ids)
    return {
        "reason": move.reason,
        "stage": move.stage,
        "began_ms": move.began_ms,
        "rate": move.rate,
        "left": left,
        "total": total,
        "records": sum(now.number(id, "loading", "records") for id in ids),
    }


def _latency(verb: str, ids: Iterable[str], before: Sample, now: Sample) -> dict[str, float | None]:
    """Return quantiles of the time that the nodes took over a verb since the last sample, or else since their start."""
    recent: dict[str, float] = {}
    ever: dict[str, float] = {}
    for id in ids:
        told = now.told.get(id)
        times = told.get("requests", {}).get("handling_seconds", {}).get(verb) if isinstance(told, Mapping) else None
        for bound, count in (times or {}).get("buckets", {}).items():
            same = before.life(id) == now.life(id)
            earlier = before.number(id, "requests", "handling_seconds", verb, "buckets", bound) if same else 0
            recent[bound] = recent.get(bound, 0) + count - earlier
            ever[bound] = ever.get(bound, 0) + count
    buckets = recent if recent.get("+Inf", 0) >= 20 else ever
    return {"p50": quantile(buckets, 0.5), "p99": quantile(buckets, 0.99)}


def quantile(buckets: Mapping[str, float], part: float) -> float | None:
    """Return the value below which ``part`` of a cumulative histogram lies, or None if it is empty.

    Linear between two bounds, as PromQL's ``histogram_quantile``; what lies above the last bound counts as the last bound.
    """
    wanted = buckets.get("+Inf", 0) * part
    if not wanted:
        return None
    low, below = 0.0, 0.0
    for bound, up_to in buckets.items():
        if bound == "+Inf":
            break
        high = float(bound)
        if up_to >= wanted:
            return low + (high - low) * (wanted - below) / (up_to - below)
        low, below = high, up_to
    return low


def _events(ids: Iterable[str], now: Sample) -> list[dict[str, Any]]:
    """Return what the nodes have said lately, the newest first; what all of them say of an epoch counts once."""
    found: dict[object, dict[str, Any]] = {}
    for id in ids:
        told = now.told.get(id)
        for event in told.get("events", {}).get("recent", ()) if isinstance(told, Mapping) else ():
            epoch = event.get("epoch")
            same = (event.get("event"), event.get("text"), epoch) if epoch is not None else event.get("id")
            known = found.get(same)
            if known is None or event["at"] < known["at"]:
                found[same] = {**event, "node": "" if epoch is not None else id}
    return sorted(found.values(), key=lambda event: -event["at"])[:_EVENTS]
