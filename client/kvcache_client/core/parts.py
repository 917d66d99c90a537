"""Parts: what a batch reads of each node, and who is asked in the place of one that is slow or has too much to do.

Here lives dividing keys among nodes and asking for the parts. Never here: what becomes of a key (``batches``), or of one that no
frame has settled (``reading``). ::

    part of n1 --OK----------------------> answered
    part of n2 --slow--> its keys, of their other owners, beside it: whoever has answered all of it first is believed
    part of n3 --too much to do--> its keys, of their other owners; else once more, when n3 said

What is sent beyond the parts is paid for by the frame, from the same budgets as for single keys.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from mmh3 import mmh3_x64_128_utupledigest

from kvcache_client.core.answers import before_rerouting, blame, has_attempt, may_reroute, refusal_of, time_left, within
from kvcache_client.core.balancing import Owners, States
from kvcache_client.core.brain import Brain
from kvcache_client.core.effects import Ask, Outcome, Plan, Race, Round, Slow, Watched, Within
from kvcache_client.core.hedging import is_answer
from kvcache_client.core.routing import View
from kvcache_client.core.trust import trusted_owners
from kvcache_client.placement.partitions import PARTITION_SHIFT
from kvcache_client.protocol.codec import Key
from kvcache_client.protocol.limits import KEYS_PER_FRAME
from kvcache_client.protocol.verbs import Verb

__all__ = ["Part", "ReadBatch"]

Part: TypeAlias = tuple[str, list[Key]]
"""A node and the keys that it is asked for, as many as one frame may have."""

# A plain int: packing an IntEnum member takes twice as long.
_GET_MANY: Final = int(Verb.GET_MANY)

Answered: TypeAlias = tuple[Part, Outcome]


@dataclass(frozen=True, slots=True)
class ReadBatch:
    """One batch on its way: its keys with their names, and how an owner is chosen."""

    brain: Brain
    view: View
    names: Mapping[Key, bytes]
    choose: Callable[[Owners, States], str]

    def divide(self) -> tuple[list[Part], list[Key]]:
        """Return the parts of the batch, and the keys that none of the owners can be asked for."""
        brain, view, choose, nodes = self.brain, self.view, self.choose, self.brain.nodes
        if brain.avoided or brain.behind:
            return self._divide_warily()
        by_node: defaultdict[str, list[Key]] = defaultdict(list)
        owners_of, seed = view.owners, view.seed
        for key, name in self.names.items():
            # What ``view.owners_of`` does, without a call that would cost as much.
            owners = owners_of[mmh3_x64_128_utupledigest(name, seed)[0] >> PARTITION_SHIFT]
            by_node[choose(owners, nodes) if len(owners) > 1 else owners[0]].append(key)
        return _framed(by_node), []

    def _divide_warily(self) -> tuple[list[Part], list[Key]]:
        """Divide while some nodes are avoided or behind. One key goes to a node that is due to be tried again."""
        brain, view = self.brain, self.view
        by_node: defaultdict[str, list[Key]] = defaultdict(list)
        careful: list[Key] = []
        probed = self._due_for_a_probe()
        for key, name in self.names.items():
            owners = trusted_owners(brain, view, view.partition(name), name)
            if not owners or name in brain.behind:  # those are healed on the careful way
                careful.append(key)
            elif probed is not None and not brain.behind and probed in view.owners_of(name):
                by_node[probed].append(key)
                probed = None
            else:
                by_node[self.choose(owners, brain.nodes)].append(key)
        return _framed(by_node), careful

    def _due_for_a_probe(self) -> str | None:
        """Return a node that reads avoid and one key may be asked of now, to see how it is."""
        opened = self.brain.breaker.opened
        probed = self.brain.breaker.due(list(opened)) if opened else None
        return None if probed in self.brain.down else probed

    def ask(self, parts: Sequence[Part], deadline: float) -> Plan[list[Answered]]:
        """Ask for all parts at once. What comes back may name other nodes, but has each key once."""
        asks = self._asks(parts)
        brain = self.brain
        began = brain.clock()
        # Who is slow is told only where there is time for that, and somebody else to ask.
        watched = brain.config.hedging and len(brain.nodes) > 1 and has_attempt(brain, deadline, began)
        outcomes = yield (Watched(asks) if watched else within(brain, asks, deadline))
        for (node, _), outcome in zip(parts, outcomes, strict=True) if brain.breaker.opened else ():
            if node in brain.breaker.opened and is_answer(outcome):
                brain.breaker.probed(node, brain.clock() - began)
        answered = list(zip(parts, outcomes, strict=True))
        if Slow in map(type, outcomes):
            answered = yield from self._race(answered)
        if any(refusal_of(part[0], outcome) for part, outcome in answered):
            answered = yield from self._ask_again(answered, deadline)
        return answered

    def _race(self, answered: list[tuple[Part, Outcome | Slow]]) -> Plan[list[Answered]]:
        """Go on waiting for the slow parts, beside the other owners of their keys if the budget allows."""
        brain = self.brain
        parts = [part for part, outcome in answered if isinstance(outcome, Slow)]
        slow = [outcome for _, outcome in answered if isinstance(outcome, Slow)]
        settled = [(part, outcome) for part, outcome in answered if not isinstance(outcome, Slow)]
        hedges = [] if brain.shedding.any_of(brain.nodes) else self._elsewhere(parts)
        if not hedges or not brain.may_hedge(len(hedges)):
            return [*settled, *zip(parts, (yield Race(slow, [])), strict=True)]
        outcomes = yield Race(slow, self._asks(hedges))
        firsts, seconds = outcomes[: len(slow)], outcomes[len(slow) :]
        if all(map(is_answer, firsts)) or not all(map(is_answer, seconds)):
            return [*settled, *zip(parts, firsts, strict=True)]
        brain.counters.hedges_won += len(hedges)
        return [*settled, *zip(hedges, seconds, strict=True)]

    def _ask_again(self, answered: list[Answered], deadline: float) -> Plan[list[Answered]]:
        """Ask for the refused parts once more: of other owners at once, else of the same when they said, else not at all."""
        brain = self.brain
        refused = {part[0]: error for part, outcome in answered if (error := refusal_of(part[0], outcome))}
        for node, error in refused.items():
            blame(brain, node, error)
        parts = [part for part, outcome in answered if refusal_of(part[0], outcome)]
        settled = [(part, outcome) for part, outcome in answered if not refusal_of(part[0], outcome)]
        others = self._elsewhere(parts)
        if others and brain.retry(len(others), refused=True):
            brain.counters.failed_over_reads += len(others)
            parts = others
        elif may_reroute(brain, deadline, refused):
            yield from before_rerouting(brain, deadline, refused)
            if brain.shedding.any_of(refused):
                return answered
        else:
            return answered
        outcomes = yield Within(self._asks(parts), time_left(brain, deadline))
        return [*settled, *zip(parts, outcomes, strict=True)]

    def _elsewhere(self, parts: Iterable[Part]) -> list[Part]:
        """Divide the keys of ``parts`` among their other owners, those that are well; nothing if one key has none."""
        brain, view = self.brain, self.view
        by_node: dict[str, list[Key]] = {}
        for node, keys in parts:
            for key in keys:
                name = self.names[key]
                owners = trusted_owners(brain, view, view.partition(name), name)
                others = [
                    it for it in owners if it != node and it not in brain.avoided and not brain.shedding.any_of((it,))
                ]
                if not others:
                    return []
                by_node.setdefault(self.choose(tuple(others), brain.nodes), []).append(key)
        return _framed(by_node)

    def _asks(self, parts: Iterable[Part]) -> Round:
        return [self._ask(part) for part in parts]

    def _ask(self, part: Part) -> Ask:
        node, keys = part
        names = self.names
        return node, [0, _GET_MANY, *map(names.__getitem__, keys)]


def _framed(by_node: Mapping[str, list[Key]]) -> list[Part]:
    """Return the parts of nodes, cut where a frame is full."""
    return [
        (node, keys[start : start + KEYS_PER_FRAME])
        for node, keys in by_node.items()
        for start in range(0, len(keys), KEYS_PER_FRAME)
    ]
