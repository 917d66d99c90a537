"""Hedging: asking a second owner when the first takes longer than it usually does.

Here lives whether and whom, and what to make of the two answers. Never here: how long "usually" is (``nodes``, ``breaker``), or
noticing that the time has come (the bodies, once for each batch of requests).

Dean and Barroso, "The Tail at Scale" (CACM 2013): waiting for the 95th percentile before asking again cuts the tail at the price
of a few percent more requests, which a budget bounds here (``budget.hedge_budget``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from kvcache_client.core.brain import Brain
from kvcache_client.core.effects import Outcome, Plan, Race, Slow
from kvcache_client.core.routing import View
from kvcache_client.core.trust import trusted_owners
from kvcache_client.protocol.verbs import Status, Verb

__all__ = ["is_answer", "is_over", "race"]

_GET: Final = int(Verb.GET)


def is_answer(outcome: Outcome | None) -> bool:
    """Say whether an outcome ends a race: a hit or a miss, not an error that another node may not have."""
    return outcome.__class__ is tuple and len(outcome) > 1 and outcome[1] in (Status.OK, Status.MISS)


def is_over(slow: Sequence[Outcome | None], others: Sequence[Outcome | None]) -> bool:
    """Say whether a race is over: one side has answered in full, or nobody is left who could."""
    if all(map(is_answer, slow)) or (others and all(map(is_answer, others))):
        return True
    return None not in slow and None not in others


def race(brain: Brain, view: View, partition: int, name: bytes, slow: Slow) -> Plan[list[tuple[str, Outcome]]]:
    """Go on waiting for ``slow``, beside another owner if there is one and the budget allows; returns who said what.

    Nobody else is asked while an owner sheds: then the others carry its share, or have too much to do as well.
    """
    others = [node for node in trusted_owners(brain, view, partition, name) if node != slow.node]
    others = [node for node in others if node not in brain.avoided]
    if not others or brain.shedding.any_of(view.owners[partition]) or not brain.may_hedge():
        (outcome,) = yield Race([slow], [])
        return [(slow.node, outcome)]
    other = brain.choose(tuple(others), brain.nodes)
    outcomes = yield Race([slow], [(other, [0, _GET, name])])
    if is_answer(outcomes[1]) and outcomes[0] is None:
        brain.counters.hedges_won += 1
    asked = zip((slow.node, other), outcomes, strict=True)
    return sorted(
        ((node, outcome) for node, outcome in asked if outcome is not None), key=lambda it: not is_answer(it[1])
    )
