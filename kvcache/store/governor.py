"""From the memory that a process really has to the budget that its store should work with.

Here lives the control loop between resident memory and budget. Never here: reading the process's memory (it is told), or evicting.

The ledger counts what objects take, not the holes between them: an allocator keeps a page resident while one object in it lives.
With values of steady sizes that is some percent; when the sizes shift it can be much more, and only the operating
system's figure knows. So the node tells that figure a few times a second, and the budget gives way while it is too high.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["Advice", "MemoryGovernor"]

_CEILING: Final = 1.05  # of the budget; beyond it the store has to give way. The promise is 1.10
_RELAXED: Final = 1.04  # below it the store may have more again
_GAIN: Final = 0.15  # of the excess, per observation
_RECOVERY: Final = 100  # the part of the budget that may come back per observation
_FLOOR: Final = 8  # the part of the budget that is never taken
_IMPROVING: Final = 0.97  # an excess that shrinks this much per observation is left to shrink by itself


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do now: ``Store.resize(budget_bytes)``; and, if ``trim``, ask the C library to return free pages first."""

    budget_bytes: int
    trim: bool


class MemoryGovernor:
    """Keeps ``base_bytes`` (the empty process) plus about 1.05 budgets; all sizes are bytes."""

    __slots__ = ("_base", "_budget", "_effective", "_excess", "_least")

    def __init__(self, budget_bytes: int, base_bytes: int, least_bytes: int) -> None:
        self._budget = budget_bytes
        self._base = base_bytes
        self._least = max(least_bytes, budget_bytes // _FLOOR)
        self._effective = budget_bytes
        self._excess = 0

    def observe(self, resident_bytes: int, used_bytes: int) -> Advice:
        """Take in the resident memory of the process and the used bytes of the store; return what to do."""
        resident = resident_bytes - self._base
        last, self._excess = self._excess, max(0, resident - int(self._budget * _CEILING))
        if not self._excess:
            if resident < self._budget * _RELAXED:
                self._effective = min(self._budget, self._effective + self._budget // _RECOVERY)
        elif last * _IMPROVING < self._excess and last and used_bytes <= self._effective:
            # Trimming alone, at the first sight of an excess, did not help.
            self._effective = max(self._least, self._effective - int(self._excess * _GAIN))
        return Advice(self._effective, trim=self._excess > 0)

    def __repr__(self) -> str:
        return f"<MemoryGovernor effective={self._effective}/{self._budget} B excess={self._excess} B>"
