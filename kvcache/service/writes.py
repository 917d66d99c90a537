"""Compiled writes: runs of PUTs that put a newer value over a value, without Python in between.

Here lives which writes go there, and the types of what does them (``kvcache.compiled``). Never here: what a write is: that say
``Service.keep`` and ``Store.put``, which also take all that is not plainly one value over another: keys without one, tombstones,
marked and superseded records, evictions.
"""

from __future__ import annotations

from typing import Final, Protocol

from kvcache.compiled import native
from kvcache.store.store import Store
from kvcache_client.protocol.record import MARKED, TOMBSTONE
from kvcache_client.protocol.verbs import Message, Status, Verb

__all__ = ["PLAIN_FLAGS", "Writes", "compiled_writes"]

PLAIN_FLAGS: Final = bytes(flags < TOMBSTONE and flags not in MARKED for flags in range(256))
"""Flags -> whether a record with them is a value that nothing need be asked about."""


class Writes(Protocol):
    """What answers writes of one node."""

    def answer_for(self, writable: bytes, changed_at: list[int], seed: int, /) -> None:
        """Take writes of the partitions that ``writable`` marks, which the hash with ``seed`` gives; none before.

        Those that were routed by an epoch before that of ``changed_at`` are for somebody else.
        """

    def answer(
        self, messages: list[Message], start: int, now6: bytes, floor: bytes, horizon: bytes, room: int, /
    ) -> tuple[bytes, int, int] | None:
        """Answer the PUTs from ``start`` on, up to the first message that is for somebody else.

        ``now6`` is the store's: what expires then or before is over. Versions (eight bytes) up to ``floor`` and from ``horizon``
        on are for somebody else, and so is what would have records grow by more than ``room`` bytes in all.

        Returns the packed replies, the index of that message, and by how many bytes records have grown; None if that is the
        first one. Raises only where nothing was changed.
        """


def compiled_writes(store: Store, record_limit: int) -> Writes | None:
    """Return what writes to ``store`` records of at most so many bytes; None where nothing is compiled."""
    if native is None:
        return None
    numbers = {"put": int(Verb.PUT), "ok": int(Status.OK)}
    writes: Writes = native.Writes(store.tables, store.live.expires, limit=record_limit, plain=PLAIN_FLAGS, **numbers)
    return writes
