"""Checks of the cluster itself: who is in it, by which document, and how evenly what it holds lies.

Here live functions from facts to signs. Never here: machines (``machines``) or Redis (``coordination``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from kvcache.cluster.doctor.facts import Facts, Severity, Sign, figure, listed
from kvcache_client.placement.ring import build_placement

__all__ = ["answers", "balance", "copies", "epochs", "forgotten", "hints", "states", "versions", "zones"]

UNEVEN: Final = 1.25
"""Largest over mean from which a share is worth a word; placement itself keeps within 1.06."""

RECORDS_EACH: Final = 1000
"""With fewer records a node, chance alone makes shares uneven."""


def answers(facts: Facts) -> Iterator[Sign]:
    """Members that are taken for alive and tell nothing."""
    down = {member.id for member in facts.topology.members if member.state == "down"}
    for id, node in facts.nodes.items():
        if node.silence and id not in down:
            yield Severity.ERROR, id, f"does not answer: {node.silence}"
        elif node.unexamined and id not in down:
            yield Severity.WARNING, id, f"tells nothing of its machine and its coordinator: {node.unexamined}"


def states(facts: Facts) -> Iterator[Sign]:
    """Members that are not up, and a move that goes on."""
    severities = {"down": Severity.ERROR, "syncing": Severity.WARNING}
    for member in facts.topology.members:
        if member.shown_state != "up":
            yield severities.get(member.state, Severity.NOTE), member.id, f"is {member.shown_state}"
    move = facts.topology.move
    if move is not None:
        yield Severity.NOTE, "", f"a move goes on: {move.reason}, stage {move.stage}"


def epochs(facts: Facts) -> Iterator[Sign]:
    """Nodes that go by an older document than others."""
    known = {id: node.report.epoch for id, node in facts.told() if node.report is not None}
    newest = max([facts.topology.epoch, *known.values()])
    for id, epoch in known.items():
        if epoch < newest:
            yield Severity.ERROR, id, f"goes by epoch {epoch}, others by {newest}"


def versions(facts: Facts) -> Iterator[Sign]:
    """Nodes of different versions of kvcache."""
    running: dict[str, list[str]] = {}
    for id, node in facts.told():
        running.setdefault(str(node.statistics.get("node", {}).get("version", "unknown")), []).append(id)
    if len(running) > 1:
        text = "; ".join(f"{version} on {listed(ids)}" for version, ids in sorted(running.items()))
        yield Severity.WARNING, "", f"nodes run different versions: {text}"


def copies(facts: Facts) -> Iterator[Sign]:
    """Fewer members than copies of each key."""
    wanted = facts.topology.replication_factor
    there = [member.id for member in facts.topology.members if member.state != "down"]
    if len(there) < wanted:
        standalone = len(facts.topology.members) == 1 and all(node.coordinator is None for _, node in facts.told())
        severity = Severity.NOTE if standalone else Severity.ERROR
        yield severity, "", f"{wanted} copies of each key are wanted, and there is a member for {len(there)}"
    elif wanted == 1 and len(there) > 1:
        yield Severity.WARNING, "", "each key has one copy: whatever a node holds is lost with it"


def zones(facts: Facts) -> Iterator[Sign]:
    """Fewer zones than copies."""
    wanted = facts.topology.replication_factor
    named = {member.zone for member in facts.topology.members if member.zone}
    unnamed = [member.id for member in facts.topology.members if not member.zone]
    if wanted < 2 or len(facts.topology.members) < 2:
        return
    if not named:
        yield Severity.NOTE, "", "no member has a zone, so copies may share a machine, a rack or a power line"
        return
    if len(named) < wanted:
        text = f"{len(named)} zones ({listed(named)}) for {wanted} copies of each key: some copies share a zone"
        yield Severity.WARNING, "", text
    if unnamed:
        yield Severity.WARNING, "", f"{listed(unnamed)} have no zone, and others do"


def balance(facts: Facts) -> Iterator[Sign]:
    """Shares of primaries, copies and records, each by weight."""
    placement = build_placement(facts.topology.spec())
    yield from _uneven("primaries", placement.primaries(), facts)
    yield from _uneven("copies", placement.copies(), facts)
    records = {id: figure(node.statistics, "store", "records") for id, node in facts.told()}
    counted = {id: count for id, count in records.items() if count is not None}
    if sum(counted.values()) >= RECORDS_EACH * max(1, len(counted)):
        yield from _uneven("records", counted, facts)


def _uneven(what: str, counts: Mapping[str, float], facts: Facts) -> Iterator[Sign]:
    weights = {member.id: member.weight for member in facts.topology.members if not member.leaving}
    shares = {id: counts[id] / weight for id, weight in weights.items() if id in counts}
    mean = sum(shares.values()) / len(shares) if shares else 0.0
    if mean and (most := max(shares, key=lambda id: shares[id])) and shares[most] > UNEVEN * mean:
        yield Severity.WARNING, most, f"holds {shares[most] / mean:.2f} times the mean of {what} for its weight"


def hints(facts: Facts) -> Iterator[Sign]:
    """What is held for members that missed it, and what could not be held."""
    for id, node in facts.told():
        for owner, count in (node.report.hints if node.report else {}).items():
            if count:
                yield Severity.WARNING, id, f"holds {count} records for {owner}"
        dropped = figure(node.statistics, "hints", "dropped")
        if dropped:
            yield Severity.WARNING, id, f"had no room for {dropped} records that others missed"


def forgotten(facts: Facts) -> Iterator[Sign]:
    """Deletes that were forgotten before their time, or soon may be."""
    for id, node in facts.told():
        store = node.statistics.get("store", {})
        dropped, used = figure(store, "tombstones_dropped"), figure(store, "tombstone_bytes")
        room = figure(store, "tombstone_budget_bytes")
        if dropped:
            yield Severity.WARNING, id, f"has forgotten {dropped} deletes before their time"
        elif used and room and used > 0.8 * room:
            yield Severity.WARNING, id, f"remembers deletes in {used / room:.0%} of the room for them"
