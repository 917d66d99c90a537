"""A first-in-first-out queue over all partitions, at two bytes per record.

Here lives the global order in which records came. Never here: keys, records, or what happens to them.

An entry is only the number of a partition. It means "the oldest record of that partition's dict", since a dict keeps its
own order: the n-th entry of a partition belongs to the n-th record inserted into it. A record that leaves early (deleted,
expired) leaves a *spare* entry, which is skipped when it comes up; the records of that partition behind it are then reached
one entry of theirs later, which is as good an order. So nothing is ever searched for, and no key is held twice.
"""

from __future__ import annotations

from array import array
from collections import Counter, deque
from typing import Final

from kvcache.store.sizes import Ledger

__all__ = ["Fifo"]

_CHUNK: Final = 4096
_CHUNK_BYTES: Final = 2 * _CHUNK + 512  # array.append over-allocates by an eighth, and there is the object itself
_COMPACT_EVERY: Final = 1024


class Fifo:
    """Partition numbers in the order of arrival."""

    __slots__ = ("_chunks", "_cursor", "_head", "_ledger", "_spare_count", "_spares", "_tail", "records")

    def __init__(self, partitions: int, ledger: Ledger) -> None:
        self._ledger = ledger
        self._spares = array("I", bytes(4 * partitions))
        self._spare_count = 0
        self.records = 0
        """How many records stand behind the entries, which is how many entries are no spares."""
        self._head = 0  # entries of the first chunk that are used up
        self._cursor = 0  # the chunk to be compacted next
        self._tail = array("H")
        self._chunks = deque([self._tail])
        ledger.used += self.cost()

    def push(self, partition: int) -> None:
        """Append an entry for a record just inserted at the end of the partition's dict."""
        tail = self._tail
        if len(tail) >= _CHUNK:
            self._tail = tail = array("H")
            self._chunks.append(tail)
            self._ledger.used += _CHUNK_BYTES
        tail.append(partition)
        self.records += 1

    def pop(self) -> int:
        """Return the partition whose oldest record is next. Raises ``IndexError`` when no record is left."""
        while True:
            chunk = self._chunks[0]
            if self._head >= len(chunk):
                self._next_chunk()
                continue
            partition = chunk[self._head]
            self._head += 1
            if not self._spares[partition]:
                self.records -= 1
                return partition
            self._spares[partition] -= 1
            self._spare_count -= 1

    def spare(self, partition: int, count: int = 1) -> None:
        """Note that ``count`` records of the partition have left without being popped."""
        self._spares[partition] += count
        self.records -= count
        before = self._spare_count
        self._spare_count += count
        if before // _COMPACT_EVERY != self._spare_count // _COMPACT_EVERY and self._spare_count > self.records:
            self._compact()

    def _next_chunk(self) -> None:
        if len(self._chunks) == 1:
            raise IndexError("the queue is empty")
        self._chunks.popleft()
        self._ledger.used -= _CHUNK_BYTES
        self._head = 0
        self._cursor = max(0, self._cursor - 1)

    def _compact(self) -> None:
        # One chunk at a time (some 0.3 ms), as often as chunks become worth it; the queue never holds mostly spares for long.
        chunks = self._chunks
        for _ in range(2):
            at = self._cursor if self._cursor < len(chunks) else 0
            kept = self._without_spares(chunks[at][self._head :] if at == 0 else chunks[at])
            if at == 0:
                self._head = 0
            chunks[at] = kept
            self._cursor = at + 1
            if at > 1 and len(chunks[at - 1]) + len(kept) <= _CHUNK:
                chunks[at - 1].extend(kept)
                del chunks[at]
                self._cursor = at
                self._ledger.used -= _CHUNK_BYTES
            self._tail = chunks[-1]

    def _without_spares(self, chunk: array[int]) -> array[int]:
        spares = self._spares
        kept = array("H")
        for partition in chunk:
            if spares[partition]:
                spares[partition] -= 1
                self._spare_count -= 1
            else:
                kept.append(partition)
        return kept

    def recount(self) -> Counter[int]:
        """Recount how many records of each partition stand behind the entries; for ``audit``."""
        counts: Counter[int] = Counter()
        for index, chunk in enumerate(self._chunks):
            counts.update(chunk[self._head :] if index == 0 else chunk)
        for partition, spare in enumerate(self._spares):
            if spare:
                counts[partition] -= spare
        return counts

    def cost(self) -> int:
        """Return the bytes that the queue takes."""
        return len(self._chunks) * _CHUNK_BYTES + len(self._spares) * 4

    def __repr__(self) -> str:
        return f"<Fifo records={self.records} spares={self._spare_count} chunks={len(self._chunks)}>"
