"""Standing in: who keeps a record for owners that can't be reached.

Here lives the choice of stand-ins and what they are asked. Never here: the owners themselves (``writing``), or what a stand-in
does with what it keeps (that is the node's).
"""

from __future__ import annotations

from kvcache_client.core.answers import is_refused, time_left
from kvcache_client.core.brain import Brain
from kvcache_client.core.effects import Ask, Plan, Within
from kvcache_client.core.routing import View
from kvcache_client.core.tallying import Tally, send
from kvcache_client.protocol.verbs import Verb

__all__ = ["hint", "may_hint"]


def may_hint(tally: Tally) -> bool:
    """Say whether stand-ins may be asked. Not where all owners have too much to do and none has applied anything.

    Then the whole write is refused, and others are not burdened with it.
    """
    return bool(tally.acked or tally.maybe_applied or not is_refused(tally.failures))


def hint(
    brain: Brain, view: View, partition: int, name: bytes, record: bytes, tally: Tally, deadline: float
) -> Plan[None]:
    """Replace every owner that does not answer by the next live node on the ring, until one takes the record or none is left."""
    absent = [node for node in view.owners[partition] if node not in tally.acked]
    yield from _note_for_movers(brain, view, partition, name, record, tally, deadline)
    candidates = (it for it in view.stand_ins(partition) if it not in brain.down and not brain.shedding.any_of((it,)))
    while absent:
        asks: list[Ask] = [
            (stand_in, [0, Verb.HINT, owner, name, record]) for owner, stand_in in zip(absent, candidates, strict=False)
        ]
        if not asks or brain.clock() >= deadline:
            return
        brain.counters.stand_in_writes += len(asks)
        yield from send(brain, asks, tally, deadline)
        failed = sum(1 for node, _ in asks if node not in tally.acked)
        absent = absent[:failed]


def _note_for_movers(
    brain: Brain, view: View, partition: int, name: bytes, record: bytes, tally: Tally, deadline: float
) -> Plan[None]:
    """Have an owner that took the record hand it to those that take part in a move and did not."""
    absent = [node for node in view.moving_to_or_from(partition) if node not in tally.acked]
    holder = next((node for node in view.owners[partition] if node in tally.acked), None)
    if absent and holder is not None and brain.clock() < deadline:
        asks: list[Ask] = [(holder, [0, Verb.HINT, node, name, record]) for node in absent]
        yield Within(asks, time_left(brain, deadline))
