"""How much a store may hold.

Here lives the configuration and its limits. Never here: anything that changes while a node runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["MIN_BUDGET_BYTES", "StoreConfig"]

MIN_BUDGET_BYTES: Final = 1024 * 1024
"""The least budget: with less, the tables of the partitions leave no room for the hundred records an eviction policy needs."""

_PARTITIONS_LIMIT: Final = 1 << 16
_TABLE_BYTES: Final = 8 * 1024
"""With less for each, the tables and the room that their dicts leave free take much of the memory; with more, holes do."""
_TOMBSTONE_SHARE: Final = 16


@dataclass(frozen=True, slots=True)
class StoreConfig:
    """Budgets in bytes of real memory. The tombstone budget lies within the whole one; by default it is 1/16 of it."""

    budget_bytes: int
    tombstone_budget_bytes: int | None = None
    partitions: int = 16384

    def __post_init__(self) -> None:
        check_budget(self.budget_bytes)
        if not 1 <= self.partitions <= _PARTITIONS_LIMIT:
            raise ValueError(f"partitions is {self.partitions}; it must be 1 to {_PARTITIONS_LIMIT}")
        tombstones = self.tombstone_budget_bytes
        if tombstones is not None and not 0 <= tombstones <= self.budget_bytes:
            raise ValueError(f"tombstone_budget_bytes is {tombstones}; it must be 0 to the budget, {self.budget_bytes}")

    def partitions_per_table(self) -> int:
        """Return how many neighbouring partitions should share a table: a power of two, 1 unless the budget is small."""
        sharing = 1
        while sharing < self.partitions and self.budget_bytes * sharing < _TABLE_BYTES * self.partitions:
            sharing *= 2
        return sharing

    def tombstone_budget(self, budget_bytes: int) -> int:
        """Return the bytes that tombstones may take within ``budget_bytes``."""
        if self.tombstone_budget_bytes is None:
            return budget_bytes // _TOMBSTONE_SHARE
        return min(self.tombstone_budget_bytes, budget_bytes)


def check_budget(budget_bytes: int) -> None:
    """Raise ``ValueError`` for a budget that no store can work with."""
    if budget_bytes < MIN_BUDGET_BYTES:
        raise ValueError(f"the memory budget is {budget_bytes} bytes; the least is {MIN_BUDGET_BYTES}")
