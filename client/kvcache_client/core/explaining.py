"""Explaining: where one key lives, why there, what each place holds, and where a read would go.

Here lives the plan behind ``explain``. Never here: reading or routing themselves; what they go by is shown as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import Final

from kvcache_client.core.brain import Brain
from kvcache_client.core.effects import Outcome, Plan
from kvcache_client.core.reading import as_error
from kvcache_client.core.results import CopyReport, Explanation
from kvcache_client.core.routing import View
from kvcache_client.core.space import Space
from kvcache_client.core.trust import trusted_owners
from kvcache_client.protocol.codec import Key
from kvcache_client.protocol.record import NEVER, expiry_of, is_tombstone, version_of
from kvcache_client.protocol.verbs import Status, Verb

__all__ = ["explain"]

_STAND_INS: Final = 2
"""How many of those that would take over are asked."""


def explain(brain: Brain, space: Space, key: Key) -> Plan[Explanation]:
    """Return where the key lives and what each place holds, the first two stand-ins included."""
    name = space.name_of(key)
    view = brain.require_view()
    partition = view.partition(name)
    owners = view.owners[partition]
    movers = view.moving_to_or_from(partition)
    nodes = [*owners, *movers, *islice(view.stand_ins(partition), _STAND_INS)]
    roles = ["primary", *["owner"] * (len(owners) - 1), *["mover"] * len(movers), *["stand-in"] * len(nodes)]
    outcomes = yield [(node, [0, Verb.PEEK, name]) for node in nodes]
    copies = [
        _report(_place(brain, view, partition, node, role), outcome)
        for node, role, outcome in zip(nodes, roles, outcomes, strict=False)
    ]
    trusted = trusted_owners(brain, view, partition, name)
    move = view.topology.move
    return Explanation(
        key=name,
        partition=partition,
        epoch=view.epoch,
        copies=tuple(copies),
        cluster=view.topology.cluster,
        move=None if move is None else f"{move.stage} ({'concerns' if movers else 'does not concern'} this partition)",
        balancing=_policy(brain),
        read_from=brain.choose(trusted, brain.nodes) if trusted else None,
    )


def _policy(brain: Brain) -> str:
    chosen = brain.config.balancing
    return chosen if isinstance(chosen, str) else type(chosen).__name__


def _place(brain: Brain, view: View, partition: int, node: str, role: str) -> CopyReport:
    member = view.topology.member(node)
    last = brain.health.errors.get(node)
    return CopyReport(
        node=node,
        address=view.addresses.get(node, "?"),
        role=role,
        state=_state(brain, node),
        zone=member.zone if member else "",
        member=member.shown_state if member else "gone",
        why=_why(view, partition, node, role),
        last_error=None if last is None else f"{last[1]} ({brain.clock() - last[0]:.1f} s ago)",
    )


def _state(brain: Brain, node: str) -> str:
    down, opened = brain.down.get(node), brain.opened.get(node)
    return f"down: {down.reason}" if down else f"open: {opened.reason}" if opened else "up"


def _why(view: View, partition: int, node: str, role: str) -> str:
    """Return how the ring leads to this node, and past whom."""
    walk = list(view.routes.placement.walk(partition))
    if node not in walk:
        return "owns it in the other of the two placements of the move"
    place = walk.index(node)
    text = f"number {place + 1} on the ring"
    if role == "mover":
        return f"{text}, owner in one of the two placements of the move"
    if role == "stand-in":
        return f"{text}, first in line for owners out of reach" if _is_next(walk, view, partition, place) else text
    owners = view.owners[partition]
    passed = [other for other in walk[:place] if other not in owners]
    zones = {member.id: member.zone for member in view.topology.members}
    held = {zones.get(owner, "") for owner in owners}
    for other in passed:
        full = zones.get(other, "") in held and len(set(zones.values())) > 1
        text += f"; passed over {other}: {'its zone has its copies' if full else 'it holds its share already'}"
    return text


def _is_next(walk: Sequence[str], view: View, partition: int, place: int) -> bool:
    taken = {*view.owners[partition], *view.moving_to_or_from(partition)}
    return all(node in taken for node in walk[:place])


def _report(blank: CopyReport, outcome: Outcome) -> CopyReport:
    error = as_error(outcome, blank.node, Verb.PEEK)
    if error is not None:
        return replace(blank, error=f"{type(error).__name__}: {error}")
    if outcome[1] == Status.MISS:  # type: ignore[index]  # as_error let only messages through
        return blank
    record: bytes = outcome[2]  # type: ignore[index]
    expiry = expiry_of(record)
    return replace(
        blank,
        version=version_of(record),
        expiry_ms=None if expiry == NEVER else expiry,
        tombstone=is_tombstone(record),
        kept_for=tuple(owner for owner in outcome[3:] if isinstance(owner, str)),  # type: ignore[index]
    )
