"""Evictions: whether a value that is missing can have been evicted, or was lost.

Here lives that argument, from the nodes' counters. Never here: asking nodes, clocks, or the other reasons of a miss (``ledger``).

A node counts every live record that it throws out for want of memory, and we look at the counters again and again. Take a value
that is missing at M, whose last acknowledged write began at B, and for which the ledger knows no reason:

- To be evicted it had to be there, so some node threw it out between B and M. A counter has that at the first look after M, and
  at none before B: so it rose at a look after B. Rises before B explain nothing, however many there were; rises long before M do,
  as a value that nobody asks for is missed late.
- Each eviction throws out one record. So every missing value needs an eviction of its own: of more missing values than evictions
  that could have been theirs, the rest was lost. The earliest that will do is taken, which leaves to others whatever may still be
  theirs alone: a later miss can use any rise that an earlier one can, if its own write is no older.
- What was said of a value once stays so: it is missing only once, however often it is asked for.

It errs only in the cache's favour: which node held the value is not asked, as others stand in for owners that are away, nor whose
the evicted records were. And a node that has evicted and then does not tell, or counts from 0 again, has a time of which nobody
knows: values that were written before its end, and have no counted eviction, are *evicted or lost*. A node that has never evicted
is taken not to have begun in just that time.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping

from loadtests.users.ledger import Reason

__all__ = ["Evictions"]


class Evictions:
    """What the nodes' counters have told. Times are monotonic seconds; the first look is what later ones are compared with."""

    def __init__(self) -> None:
        self._counts: dict[str, int] | None = None
        self._evicting: set[str] = set()
        """Nodes whose counter has risen."""
        self._moments: list[float] = []
        """When a rise was seen, in order, of those that are not used up."""
        self._left: list[int] = []
        """The evictions of each that explain nothing yet."""
        self._blind_until = float("-inf")
        self._said: dict[str, tuple[int, Reason]] = {}
        """Key -> sequence of the write that is missing, and why."""

    def look(self, now: float, counts: Mapping[str, int]) -> None:
        """Note what each node that answers has counted; ``now`` is after the last answer."""
        if self._counts is None:
            self._counts = dict(counts)
            return
        risen = 0
        for node, count in counts.items():
            before = self._counts.get(node, 0)
            if count < before:
                before = 0
                self._blind_until = now if node in self._evicting else self._blind_until
            if count > before:
                self._evicting.add(node)
                risen += count - before
        if not self._evicting <= counts.keys():
            self._blind_until = now
        if risen:
            self._moments.append(now)
            self._left.append(risen)
        self._counts.update(counts)

    def reason(self, key: str, sequence: int, began: float) -> Reason:
        """Return why a value is missing that was seen to be so before the last look. ``began`` is when its write did."""
        said = self._said.get(key)
        if said is None or said[0] < sequence:
            said = self._said[key] = sequence, self._find(began)
        return said[1]

    def _find(self, began: float) -> Reason:
        place = bisect_left(self._moments, began)
        if place == len(self._moments):
            return Reason.UNEXPLAINED if began <= self._blind_until else Reason.LOST
        self._left[place] -= 1
        if not self._left[place]:
            del self._moments[place], self._left[place]
        return Reason.EVICTED

    def __repr__(self) -> str:
        return f"<Evictions {self._counts}, {sum(self._left)} explain nothing yet>"
