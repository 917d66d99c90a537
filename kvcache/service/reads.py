"""Compiled reads: runs of GETs, and the keys of GET_MANY, without Python in between.

Here lives which reads go there, and the types of what does them (``kvcache.compiled``). Never here: what a read is: that say
``Service`` and ``Store.get``, which also take all that is not plainly a read of a partition of this node's own.
"""

from __future__ import annotations

from typing import Any, Protocol

from kvcache.compiled import native
from kvcache.store.store import Store
from kvcache_client.protocol.verbs import Message, Status, Verb

__all__ = ["Reads", "compiled_reads"]


class Reads(Protocol):
    """What answers reads of one node. ``now6`` is the store's: what expires then or before is over."""

    def answer_for(self, readable: bytearray, seed: int, /) -> None:
        """Answer reads of the partitions that ``readable`` marks, which the hash with ``seed`` gives; none before."""

    def answer(self, messages: list[Message], start: int, now6: bytes, /) -> tuple[bytes, int, int] | None:
        """Answer the GETs from ``start`` on, up to the first message that is for somebody else.

        Returns the packed replies, the index of that message, and how many had a record; None if that is the first one.
        """

    def find_many(self, keys: Message, start: int, now6: bytes, room: int, /) -> tuple[list[Any], int]:
        """Return the records (bytes) of keys from ``start`` on, and how many there are.

        None stands for a key without one, for what is refused, and for all from where records have filled ``room`` bytes.
        """


def compiled_reads(store: Store) -> Reads | None:
    """Return what reads ``store``; None where nothing is compiled."""
    if native is None:
        return None
    numbers = {"get": int(Verb.GET), "ok": int(Status.OK), "miss": int(Status.MISS)}
    reads: Reads = native.Reads(store.tables, store.missed, **numbers)
    return reads
