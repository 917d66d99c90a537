"""Decisions: what the controller makes of what it sees.

Here lives the step from a document and the nodes' reports to the next document, as one pure function. Never here: seeing,
or carrying it out (``controller``). A controller may die between any two steps: everything that the next one needs is in
the document.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from kvcache.cluster.changes import advance_move, begin_move, forget, marked
from kvcache_client.placement.topology import Topology

__all__ = ["Report", "Sight", "decide", "waiting_for"]


@dataclass(frozen=True, slots=True)
class Report:
    """How far a node is, in its own words; all of it is checked on the way in."""

    epoch: int = 0
    incarnation: str = ""
    session: str = ""
    """The move that it receives data for."""
    left: int = 0
    """Partitions that it has still to pull."""
    total: int = 0
    """Partitions that the move gives it."""
    hints: Mapping[str, int] = field(default_factory=dict)
    """How many records it holds for others."""
    fences: Mapping[str, int] = field(default_factory=dict)
    records: int = 0
    """Records pulled for this move so far."""
    bytes: int = 0

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Report:
        """Return the report in a JSON object; what is missing or of a wrong type counts as nothing said."""
        numbers = {name: _number(fields.get(name)) for name in ("epoch", "left", "total", "records", "bytes")}
        texts = {name: str(fields.get(name) or "") for name in ("incarnation", "session")}
        maps = {name: _counts(fields.get(name)) for name in ("hints", "fences")}
        return cls(**numbers, **texts, **maps)  # type: ignore[arg-type]  # each name has the type of its field


def _number(value: object) -> int:
    return value if isinstance(value, int) and value >= 0 else 0


def _counts(value: object) -> dict[str, int]:
    return {str(name): _number(count) for name, count in value.items()} if isinstance(value, dict) else {}


@dataclass(frozen=True, slots=True)
class Sight:
    """What the controller sees: since how many seconds each member was not seen alive, and the reports that came in."""

    missing: Mapping[str, float]
    reports: Mapping[str, Report]


def decide(topology: Topology, sight: Sight, *, now_ms: int, new_id: str, down_after: float) -> Topology:
    """Return the next document, or the present one if nothing is to be done yet.

    ``down_after`` is how many seconds a member may be missing. ``new_id`` names a move that may begin.
    """
    lost = [m.id for m in topology.members if m.state != "down" and sight.missing.get(m.id, 0.0) > down_after]
    if lost and 2 * len(lost) <= len(topology.members):  # if most are missing, it is rather we who are alone
        return marked(topology, lost, "down")
    if topology.move is None:
        return _tidy(topology) or _begin(topology, sight, now_ms, new_id)
    newcomers = topology.move.target.ids - topology.layout.ids
    if topology.move.stage != "switch" and any(m.id in newcomers and m.state == "down" for m in topology.members):
        return _given_up(topology)
    return topology if waiting_for(topology, sight) else advance_move(topology)


def _tidy(topology: Topology) -> Topology | None:
    """Let members go that were to leave and own nothing any more."""
    for member in topology.members:
        if member.leaving and member.id not in topology.layout.ids:
            return forget(topology, member.id)
    return None


def _begin(topology: Topology, sight: Sight, now_ms: int, new_id: str) -> Topology:
    wanted = topology.wanted()
    if wanted == topology.layout or not topology.layout.nodes:
        return topology
    if any(id not in sight.reports for id in wanted.ids - topology.layout.ids):
        return topology  # a newcomer that does not answer yet can't receive anything
    return begin_move(topology, new_id, now_ms, _reason(topology))


def _reason(topology: Topology) -> str:
    before, after = topology.layout, topology.wanted()
    weights = {node.id: node.weight for node in before.nodes}
    parts = [f"join {id}" for id in sorted(after.ids - before.ids)]
    parts += [f"leave {id}" for id in sorted(before.ids - after.ids)]
    parts += [
        f"reweight {node.id} {weights[node.id]} to {node.weight}"
        for node in after.nodes
        if weights.get(node.id, node.weight) != node.weight
    ]
    if before.replication_factor != after.replication_factor:
        parts.append(f"copies {before.replication_factor} to {after.replication_factor}")
    return ", ".join(parts or ["zones"])[:200]


def _given_up(topology: Topology) -> Topology:
    """Drop a move whose receiver has died; what is still wanted begins anew without it."""
    return replace(topology, epoch=topology.epoch + 1, move=None)


def waiting_for(topology: Topology, sight: Sight) -> list[str]:
    """Return what the present stage of the move still waits for, in words; nothing means that it may advance."""
    move = topology.move
    if move is None:
        return []
    waits: list[str] = []
    # What is kept for a member that is down waits for its return, or for its removal; a move must not wait for either.
    takers = move.target.ids - {member.id for member in topology.members if member.state == "down"}
    for member in topology.members:
        if member.state == "down":
            continue
        report = sight.reports.get(member.id)
        if report is None:
            waits.append(f"{member.id} does not answer")
        elif report.incarnation != member.incarnation:
            waits.append(f"{member.id} has restarted")
        elif report.epoch < topology.epoch:
            waits.append(f"{member.id} is at epoch {report.epoch} of {topology.epoch}")
        elif move.stage == "prepare":
            continue
        elif member.id in move.target.ids and (report.left or (move.stage == "stream" and report.session != move.id)):
            waits.append(f"{member.id} has {report.left} partitions to receive")
        elif move.stage == "stream" and (held := sum(report.hints.get(id, 0) for id in takers)):
            waits.append(f"{member.id} holds {held} records for others")
    return waits
