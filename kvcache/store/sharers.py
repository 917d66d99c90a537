"""Partitions that share a table, and which of its keys belong to which.

Here lives telling them apart. Never here: how many share a table (``config``), or the table (``table``).
"""

from __future__ import annotations

from collections.abc import Callable

from kvcache.store.graves import Graves
from kvcache.store.live import LiveRecords
from kvcache.store.table import Table

__all__ = ["Sharers"]


class Sharers:
    """``sharing`` partitions have one table; ``partition_of`` tells the partition of a key, None where each has its own."""

    __slots__ = ("partition_of", "sharing")

    def __init__(self, sharing: int, partition_of: Callable[[bytes], int] | None) -> None:
        self.sharing = sharing
        self.partition_of = partition_of

    def belongs(self, partition: int) -> Callable[[bytes], bool] | None:
        """Return what says whether a key is of this partition; None where all keys of its table are."""
        partition_of = self.partition_of
        if partition_of is None or self.sharing == 1:
            return None
        return lambda key: partition_of(key) == partition

    def drop(self, partition: int, table: Table, live: LiveRecords, graves: Graves) -> int:
        """Forget all keys of a partition, tombstones included; return how many values went."""
        mine = self.belongs(partition) or bool
        for key in [key for key in table.graves if mine(key)]:
            graves.supersede(table, key)
        values = [key for home in (table.main, table.small) for key in home if mine(key)]
        for key in values:
            live.take(table, key)
        return len(values)

    def __repr__(self) -> str:
        return f"<Sharers {self.sharing} to a table>"
