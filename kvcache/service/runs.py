"""Runs: plain reads and writes that follow each other, answered in C.

Here lives when they may be: ``Service`` says of what it answers, and what stands in the way. Never here: what a read or a write
is (``reads``, ``writes``), or anything that is refused: the handlers of ``service`` do that, for each message by itself.
"""

from __future__ import annotations

from collections.abc import Callable

from kvcache.events import journal
from kvcache.service.leases import Leases
from kvcache.service.ownership import Ownership
from kvcache.service.reads import compiled_reads
from kvcache.service.writes import Writes, compiled_writes
from kvcache.store.store import Store
from kvcache_client.protocol.verbs import Message, Verb

__all__ = ["Runs"]

_OLDEST = bytes(8)


class Runs:
    """What answers runs of one node; nothing where nothing is compiled."""

    def __init__(self, store: Store, record_limit: int, leases: Leases) -> None:
        self._store = store
        self._leases = leases
        self._reads = compiled_reads(store)
        self._writes = compiled_writes(store, record_limit)
        self.reads = self._reads
        """Answers plain reads; None where nothing is compiled, and while something hidden may still lie in the store."""
        self.floor = _OLDEST
        """The highest version (eight bytes) that a flush hides: records above it are surely seen."""
        self.horizon = _OLDEST
        """The first version that is too far ahead of this node's clock."""

    @property
    def writes(self) -> Writes | None:
        """Takes plain writes; None where nothing is compiled, and while a lease is held: whoever holds one hears of writes."""
        return None if self._leases.held else self._writes

    def answer_for(self, readable: bytearray, ownership: Ownership) -> None:
        """Answer reads of the partitions that ``readable`` marks, and writes of those that ``ownership`` does."""
        if self._reads is not None:
            self._reads.answer_for(readable, ownership.seed)
        if self._writes is not None:
            self._writes.answer_for(ownership.writable, ownership.changed_at, ownership.seed)

    def read_by_handlers(self, hidden: bool) -> None:
        """Leave reads to Python as long as something hidden may lie in the store."""
        self.reads = None if hidden else self._reads

    def answer(self, messages: list[Message], at: int, reply: Callable[[bytes], None]) -> int:
        """Answer plain messages from an index on, with ``reply``; returns the index behind them."""
        verb = Verb.GET
        try:
            after = self._read(messages, at, reply)
            if not after:
                verb = Verb.PUT
                after = self._write(messages, at, reply)
        except Exception as error:  # noqa: BLE001  # the handlers say of each message what became of it
            journal.say("request_bug", verb=verb.name, error_info=error)
            return at
        return after or at

    def _read(self, messages: list[Message], at: int, reply: Callable[[bytes], None]) -> int:
        reads, store = self.reads, self._store
        answered = reads.answer(messages, at, store.now6) if reads is not None else None
        if answered is None:
            return 0
        replies, after, hits = answered
        store.hits += hits
        reply(replies)
        return after

    def _write(self, messages: list[Message], at: int, reply: Callable[[bytes], None]) -> int:
        writes, store = self.writes, self._store
        if writes is None:
            return 0
        answered = writes.answer(messages, at, store.now6, self.floor, self.horizon, store.room)
        if answered is None:
            return 0
        replies, after, grown = answered
        store.live.ledger.used += grown
        reply(replies)
        return after

    def __repr__(self) -> str:
        return f"<Runs reads={self.reads!r} writes={self.writes!r}>"
