"""Operations: what has been decided lately, so that it can be asked again without being done again.

Here lives the window of one node: the outcome of each applied SWAP, INCR and TOUCH by the number that its client gave it, as
this node decided it or had it copied. Never here: deciding (``deciding``).

The window is bounded by entries and by age, and is in no stream between nodes: an operation that is older, or whose owners have
all been replaced since, is not recognised any more. (RIFL, Lee et al., SOSP 2015, keeps such records for ever and moves them with
the data; a cache need not.)
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from kvcache_client.protocol.record import FLAGS, HEADER_BYTES, PayloadType

__all__ = ["Operations"]

_ENTRIES: Final = 32_768
_AGE_MS: Final = 60_000
_INTEGER: Final = int(PayloadType.INTEGER)


class Operations:
    """The outcomes of recent operations, each with its key: numbers are unique for one key, not beyond. Times in ms."""

    __slots__ = ("_age_ms", "_entries", "_outcomes", "recognised")

    def __init__(self, entries: int = _ENTRIES, age_ms: int = _AGE_MS) -> None:
        self._entries = entries
        self._age_ms = age_ms
        self._outcomes: OrderedDict[tuple[bytes, int], tuple[int, bytes]] = OrderedDict()
        self.recognised = 0
        """Operations that were asked again and not done again."""

    def remember(self, key: bytes, operation: int, record: bytes, now_ms: int) -> None:
        """Note what came of an operation: of a counter the record, of anything else its header; 0 is not noted."""
        if operation:
            outcome = record if record[FLAGS] == _INTEGER else record[:HEADER_BYTES]
            self._outcomes[key, operation] = now_ms, outcome
            self._forget(now_ms)

    def outcome_of(self, key: bytes, operation: int, now_ms: int) -> bytes | None:
        """Return the record, or its header, that the operation made; None if it is not known to have been applied."""
        noted = self._outcomes.get((key, operation)) if operation else None
        if noted is None or noted[0] + self._age_ms < now_ms:
            return None
        self.recognised += 1
        return noted[1]

    def _forget(self, now_ms: int) -> None:
        outcomes = self._outcomes
        while len(outcomes) > self._entries or next(iter(outcomes.values()))[0] + self._age_ms < now_ms:
            outcomes.popitem(last=False)

    def __len__(self) -> int:
        return len(self._outcomes)

    def __repr__(self) -> str:
        return f"<Operations {len(self)} recognised={self.recognised}>"
