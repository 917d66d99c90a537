"""What an epoch brought, as events: the difference between two documents in words.

Here lives a pure comparison. Never here: saying it (``events``), or acting by it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

from kvcache_client.placement.topology import Topology

__all__ = ["Happened", "what_happened"]

Happened: TypeAlias = tuple[str, dict[str, Any]]
"""The name of an event, and its fields."""

_STATES = {"up": "member_up", "down": "member_down", "syncing": "member_syncing", "leaving": "member_leaving"}


def what_happened(before: Topology, now: Topology) -> Iterator[Happened]:
    """Yield the events that lead from one document to a later one."""
    yield from _members(before, now)
    yield from _move(before, now)
    if before.replication_factor != now.replication_factor:
        yield "replicas_changed", {"copies": now.replication_factor, "epoch": now.epoch}
    for prefix, _ in sorted(set(now.generations) - set(before.generations)):
        yield "purged", {"prefix": ascii(prefix), "epoch": now.epoch}


def _members(before: Topology, now: Topology) -> Iterator[Happened]:
    known = {member.id: member for member in before.members}
    for member in now.members:
        old = known.pop(member.id, None)
        if old is None:
            yield "member_joined", {"member": member.id, "address": member.address, "epoch": now.epoch}
        if (old is None or old.shown_state != member.shown_state) and member.shown_state in _STATES:
            yield _STATES[member.shown_state], {"member": member.id, "epoch": now.epoch}
    for id in known:
        yield "member_left", {"member": id, "epoch": now.epoch}


def _move(before: Topology, now: Topology) -> Iterator[Happened]:
    old, new = before.move, now.move
    if old is not None and (new is None or new.id != old.id):
        yield "move_finished", {"move": old.id, "reason": old.reason, "epoch": now.epoch}
    if new is not None and (old is None or new.id != old.id):
        yield "move_started", {"move": new.id, "reason": new.reason, "epoch": now.epoch}
    elif new is not None and old is not None and new.stage != old.stage:
        yield "move_stage", {"move": new.id, "stage": new.stage, "reason": new.reason, "epoch": now.epoch}
