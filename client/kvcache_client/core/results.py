"""What the verbs return when a bare value is not enough.

Here live plain, immutable results. Never here: how they come about.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Generic, TypeVar

from kvcache_client.protocol.codec import Key, Value
from kvcache_client.protocol.errors import KvCacheError

__all__ = ["BatchResult", "CopyReport", "Entry", "Explanation"]

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Entry:
    """A value with what the cluster knows of it."""

    value: Value
    version: int
    """Pass it to ``cas`` to change the value only if nobody else did."""
    ttl: float | None
    """Seconds left, or None if it does not expire."""


class BatchResult(Mapping[Key, V], Generic[V]):
    """The outcome of a batch, key by key, under the keys as the caller wrote them.

    The mapping itself holds the successes: values of ``get_many``, versions of ``set_many``, True for each key that
    ``delete_many`` deleted. ``missing`` are the keys that were not there, ``failed`` says what went wrong for which key.
    """

    __slots__ = ("_found", "failed", "missing")

    def __init__(self, found: dict[Key, V], missing: frozenset[Key], failed: dict[Key, KvCacheError]) -> None:
        self._found = found
        self.missing = missing
        self.failed = failed

    def __getitem__(self, key: Key) -> V:
        return self._found[key]

    def __iter__(self) -> Iterator[Key]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def raise_failed(self) -> None:
        """Raise the first failure, if there is any."""
        for error in self.failed.values():
            raise error

    def __repr__(self) -> str:
        return f"<BatchResult found={len(self._found)} missing={len(self.missing)} failed={len(self.failed)}>"


@dataclass(frozen=True, slots=True)
class CopyReport:
    """What one node holds of a key."""

    node: str
    address: str
    role: str
    """primary, owner, mover (while data moves) or stand-in."""
    state: str
    """As this client sees it: up, down with the reason, or open (its breaker) with the reason."""
    version: int | None = None
    expiry_ms: int | None = None
    """Milliseconds since 1970; None if there is no copy or it does not expire."""
    tombstone: bool = False
    error: str | None = None
    """Why it did not tell what it holds."""
    zone: str = ""
    member: str = ""
    """As the topology has it: up, syncing, joining, leaving, down."""
    why: str = ""
    """How the ring leads to this node."""
    kept_for: tuple[str, ...] = ()
    """Owners that this node is still to hand the record to."""
    last_error: str | None = None
    """What this client last met there, and when."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where a key lives and what each place holds."""

    key: bytes
    partition: int
    epoch: int
    copies: tuple[CopyReport, ...]
    cluster: str = ""
    move: str | None = None
    """The stage of the move that goes on, if one does, and whether it concerns this partition."""
    balancing: str = ""
    """The policy that picks the owner for a read."""
    read_from: str | None = None
    """The owner that a read would ask now; None if none of them can be believed."""

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data, the key as text with escapes."""
        return {**asdict(self), "key": self.key.decode("utf-8", "backslashreplace")}
