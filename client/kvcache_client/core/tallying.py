"""Tallying: what nodes answered to one record, and whether that makes the write acknowledged.

Here lives who holds the record, who failed and how, and what follows from both at the end of a write. Never here: whom to ask
(``writing``, ``standing_in``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from kvcache_client.core.answers import as_error, blame, time_left, too_late, why_unavailable
from kvcache_client.core.brain import Brain
from kvcache_client.core.consistency import Acks
from kvcache_client.core.effects import Ask, Outcome, Plan, Within
from kvcache_client.core.routing import View
from kvcache_client.protocol.errors import ClockSkew, InDoubt, KvCacheError, NotApplied
from kvcache_client.protocol.record import version_of
from kvcache_client.protocol.verbs import Status, Verb

__all__ = ["Tally", "held_and_needed", "not_enough", "remember_who_lacks_it", "send"]

_OK: Final = int(Status.OK)


@dataclass(slots=True)
class Tally:
    """What the nodes answered to one record so far."""

    acked: set[str] = field(default_factory=set)
    failures: dict[str, KvCacheError] = field(default_factory=dict)
    existed: bool = False
    maybe_applied: bool = False
    newer: int = 0
    """The newest version that stood in the way."""
    cluster_ms: int = 0
    """The time of a node that found our version too far ahead."""
    batched: bool = False
    """Whether it is one of many that nodes are asked at a time: they are not to blame for each."""

    def note(self, brain: Brain, node: str, outcome: Outcome, seconds: float = math.inf) -> None:
        """Take note of what a node answered, which had so many ``seconds`` for it."""
        error = as_error(outcome, node, Verb.PUT)
        if error is not None:
            self.failures[node] = error
            blame(brain, node, error, 0.0 if self.batched else seconds)
            self.maybe_applied |= isinstance(error, InDoubt)
            if isinstance(error, ClockSkew) and isinstance(error.detail, int):
                self.cluster_ms = error.detail
            return
        self.acked.add(node)
        self.existed |= outcome[1] == _OK  # type: ignore[index]  # as_error let only messages through
        if outcome[1] == Status.SUPERSEDED:  # type: ignore[index]
            self.newer = max(self.newer, outcome[2])  # type: ignore[index]

    def leave_alone(self, brain: Brain, nodes: Iterable[str]) -> None:
        """Take those of ``nodes`` at their word that want to be left alone: they are not asked again."""
        for node in nodes if brain.shedding.refusals else ():
            refusal = brain.shedding.refusal(node)
            if refusal is not None and node not in self.acked:
                self.failures[node] = refusal

    def fails_by(self, kinds: type[KvCacheError] | tuple[type[KvCacheError], ...]) -> bool:
        """Say whether some node failed in one of these ways."""
        return any(isinstance(error, kinds) for error in self.failures.values())

    def forget(self, kinds: type[KvCacheError] | tuple[type[KvCacheError], ...]) -> None:
        """Forget failures of these kinds, so that their nodes are asked again."""
        for node in [node for node, error in self.failures.items() if isinstance(error, kinds)]:
            del self.failures[node]


def send(brain: Brain, asks: list[Ask], tally: Tally, deadline: float) -> Plan[None]:
    """Send requests together, and take note of what comes back; once it is too late, of that."""
    if not asks:
        return
    late = too_late(brain, deadline)
    if late is not None:
        tally.failures.update({node: late for node, _ in asks})
        return
    seconds = time_left(brain, deadline)
    outcomes = yield Within(asks, seconds)
    for (node, _), outcome in zip(asks, outcomes, strict=True):
        tally.note(brain, node, outcome, seconds)


def held_and_needed(brain: Brain, view: View, partition: int, tally: Tally, acks: Acks | None) -> tuple[int, int]:
    """Return how many copies count, and how many are needed. Where a level is asked for, only owners count."""
    owners = view.owners[partition]
    needed = brain.needed_acks(len(owners), acks)
    if isinstance(brain.config.acks if acks is None else acks, str):
        return len(tally.acked.intersection(owners)), needed
    return len(tally.acked.difference(view.moving_to_or_from(partition))), needed


def remember_who_lacks_it(brain: Brain, view: View, partition: int, name: bytes, record: bytes, tally: Tally) -> None:
    """This client's reads of the key leave out those that may not have the record, until they are known to have it."""
    absent = [node for node in view.writers[partition] if node not in tally.acked]
    if absent:
        brain.lagging.missed(partition, name, version_of(record), absent)
    if brain.lagging.marks:
        brain.lagging.caught_up(name, version_of(record), tally.acked)


def not_enough(brain: Brain, view: View, partition: int, tally: Tally, held: int, needed: int) -> KvCacheError:
    """Return the error of a write that too few nodes hold."""
    refusals = [error for error in tally.failures.values() if not isinstance(error, NotApplied | InDoubt)]
    if refusals and not tally.acked:
        return refusals[0]
    cause = why_unavailable(brain, view, partition, tally.failures)
    if not tally.acked and not tally.maybe_applied:
        return cause
    return InDoubt(f"held by {held} of {needed} nodes, the rest is not known: {cause}", detail=partition)
