"""The contract between users and the cache under load.

Here lives what an adapter must offer. Never here: an implementation.

A user calls the adapter, catches ``errors``, and asks ``in_doubt`` what the error means. An adapter may hold the client's own
bound methods, so that a measured call passes through nothing of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

__all__ = ["BatchAnswer", "CacheAdapter", "NoSuchCall", "NodeFigures", "OpenAdapter"]


class NoSuchCall(Exception):
    """The cache under load has no such operation; the message names both."""


@dataclass(frozen=True, slots=True)
class BatchAnswer:
    """What became of a batch. A key that is in neither was not there."""

    found: Mapping[str, Any]
    failed: Mapping[str, Exception] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NodeFigures:
    """What a node tells: memory of its records and the most it may be, in bytes; records; values evicted so far."""

    used_bytes: int
    budget_bytes: int
    records: int
    evictions: int


class CacheAdapter(Protocol):
    """One open client, shared by all users of a process, who are greenlets. TTLs and timeouts are seconds."""

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """What a call may raise. Anything else is a bug and ends the user."""

    def in_doubt(self, error: Exception) -> bool:
        """Say whether a write that ended with this error may have been applied."""

    def answered_by(self) -> str:
        """Return the node that answered the last call of this greenlet, empty if that can't be known."""

    def get(self, key: str) -> Any:
        """Return the value as bytes, or None."""

    def set(self, key: str, value: bytes, ttl: float | None) -> Any:
        """Store a value."""

    def delete(self, key: str) -> Any:
        """Delete a key."""

    def touch(self, key: str, ttl: float | None) -> bool:
        """Give the key another time to live; returns whether it is there."""

    def incr(self, key: str, by: int) -> int:
        """Add to a number, which starts at 0 where there is none; returns the new one."""

    def get_many(self, keys: Sequence[str]) -> BatchAnswer:
        """Return the values of the keys that are there."""

    def set_many(self, values: Mapping[str, bytes], ttl: float | None) -> BatchAnswer:
        """Store all values; the stored keys are ``found``."""

    def get_or_compute(self, key: str, load: Callable[[], bytes], ttl: float, stale: float) -> Any:
        """Return the value; if there is none, ``load`` it once for all callers. A value may be served ``stale`` s too old."""

    def node_figures(self) -> Mapping[str, NodeFigures] | None:
        """Return what each node that answers tells of itself, None if this cache does not tell."""

    def close(self) -> None:
        """Close all connections."""


class OpenAdapter(Protocol):
    """Opens an adapter. Raises ``CannotRun`` with one line when nothing answers at ``address``."""

    def __call__(self, address: str, timeout: float) -> CacheAdapter:
        """``timeout`` is what one call may take, in seconds."""
