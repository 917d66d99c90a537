"""From the memory that a process really has to the budget that its store should work with.

Here lives the control loop between resident memory and budget. Never here: reading the process's memory, or evicting.

The ledger counts what objects take, not the holes between them: an allocator keeps a page resident while one object in it
lives. With values of steady sizes that is some percent; when the sizes shift it can be much more, and only the operating
system's figure knows. So the node tells that figure a few times a second, and the budget gives way while it is too high.

How much it has to give way is up to the allocator. Python's own keeps each page for one size of object; the C library's
lets memory that one size gave up serve another, and a store keeps 0.9 of its budget or more there where the former leaves 0.3
to 0.7, at the same speed. So a node runs with it (``kvcache.memory``). Compiled records lie in memory of their own, which gives
back what they leave, so there little has to give way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from kvcache.compiled import native

__all__ = ["GAIN", "Advice", "MemoryGovernor"]

_FREE_SHARE: Final = 0.07  # holes of this part of the budget cost nothing; values of mixed sizes leave about as much
GAIN: Final = 32 if native is None else 8
"""Bytes of budget given up for each byte resident beyond that."""
_FLOOR: Final = 8  # the part of the budget that is never taken


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do now: ``Store.resize(budget_bytes)``; and, if ``trim``, ask the C library to return free pages first."""

    budget_bytes: int
    trim: bool


class MemoryGovernor:
    """Holds the empty process (``base_bytes``) plus 1.07 to 1.10 budgets; all sizes are bytes.

    The answer is in proportion to the excess and has no memory. What an allocator has taken often does not come back however
    much is evicted: pressing on until it does would empty the store for nothing. It is enough that no more is taken.
    """

    __slots__ = ("_base", "_budget", "_least")

    def __init__(self, budget_bytes: int, base_bytes: int, least_bytes: int) -> None:
        self._budget = budget_bytes
        self._base = base_bytes
        self._least = max(least_bytes, budget_bytes // _FLOOR)

    def observe(self, resident_bytes: int) -> Advice:
        """Take in the resident memory of the process; return what to do."""
        excess = resident_bytes - self._base - int(self._budget * (1 + _FREE_SHARE))
        if excess <= 0:
            return Advice(self._budget, trim=False)
        return Advice(max(self._least, self._budget - GAIN * excess), trim=True)

    def __repr__(self) -> str:
        return f"<MemoryGovernor budget={self._budget} B base={self._base} B>"
