"""The ledger: what this process has written, and so what an answer may be.

Here lives judging one answer by what was acknowledged before the question. Never here: asking, clocks, counting.

Every process writes keys of its own, and never two values of one key at the same time. So the writes of a key are a line of
sequence numbers, and these rules need no guess:

- a hit must carry a sequence that is not older than the last acknowledged before the read began, and not one that was never
  sent or was surely refused;
- a miss needs a reason: never written, deleted, expired, or a write on its way that may have done either. Without one the
  value was evicted or lost; which of the two, only the nodes' counters tell (``evictions``).

Where an outcome is in doubt, both are right. Times are monotonic seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Final, NamedTuple
from zlib import crc32

from loadtests.users.values import read_value

__all__ = ["CLOCK_GRACE", "Known", "Ledger", "Reason", "State", "Verdict"]

CLOCK_GRACE: Final = 1.0
"""Seconds by which a node's clock may differ from ours before an expiry is called wrong."""

_NEVER: Final = float("inf")


class Verdict(StrEnum):
    """What an answer was."""

    HIT = "hit"
    STALE_HIT = "stale hit"
    """Older than its time to live, where the caller had allowed that."""
    MISS = "miss"
    OLD = "old"
    """A value older than one that was acknowledged before the read began: what no cache may answer."""
    WRONG = "wrong"
    """Another key's value, a damaged one, or one that nobody can have written."""


class Reason(StrEnum):
    """Why a read missed."""

    UNWRITTEN = "never written"
    DELETED = "deleted"
    EXPIRED = "expired"
    EVICTED = "evicted"
    LOST = "lost"
    UNEXPLAINED = "evicted or lost"
    """Not known yet which, or not to be known from this cache."""


class State(NamedTuple):
    """What is known for certain of a key: the last acknowledged write."""

    sequence: int
    gone: bool
    """It was a delete."""
    expires_from: float
    """From here on it may have expired."""
    expired_by: float
    """From here on it must have."""
    checksum: int = -1
    """CRC-32 of the whole value: an answer that has it is that value, and nothing more need be looked at."""
    began: float = 0.0
    """When the write did: before that, nothing can have happened to what it wrote."""


_NOTHING: Final = State(0, True, _NEVER, _NEVER)


class Known:
    """One key. ``state`` is replaced, never changed: a reader keeps the one from before its question."""

    __slots__ = ("busy", "deleted", "doubtful_expiry", "refused", "sequence", "state")

    def __init__(self) -> None:
        self.state = _NOTHING
        self.sequence = 0
        self.busy = False
        self.refused: set[int] | None = None
        self.deleted = 0
        """The last delete that was sent: a read that began before it is over may see it, whatever was written after."""
        self.doubtful_expiry = _NEVER
        """From here on what a write that is on its way or in doubt has put there may have expired."""

    def begin_touch(self, now: float, ttl: float | None) -> None:
        """Note that what is there is about to get another time to live."""
        self.busy = True
        if ttl is not None:
            self.doubtful_expiry = min(self.doubtful_expiry, now + ttl)

    def begin(self, now: float, ttl: float | None, *, delete: bool = False) -> int:
        """Note that a write begins and return its sequence. The caller has seen that the key is not ``busy``."""
        self.busy = True
        self.sequence += 1
        if delete:
            self.deleted = self.sequence
        elif ttl is not None:
            self.doubtful_expiry = min(self.doubtful_expiry, now + ttl)
        return self.sequence

    def acknowledge(
        self, began: float, now: float, ttl: float | None, value: bytes | None = None, *, delete: bool = False
    ) -> None:
        """Note that the write (of ``value``) was acknowledged: nothing older may be seen any more."""
        self.busy = False
        expires_from = began + ttl if ttl is not None else _NEVER
        expired_by = now + ttl if ttl is not None else _NEVER
        checksum = crc32(value) if value is not None else -1
        self.state = State(self.sequence, delete, expires_from, expired_by, checksum, began)
        self.doubtful_expiry = _NEVER

    def touched(self, began: float, now: float, ttl: float | None) -> None:
        """Note that the value that is there got another time to live, which begins anew."""
        self.busy = False
        state = self.state
        expires_from = began + ttl if ttl is not None else _NEVER
        expired_by = now + ttl if ttl is not None else _NEVER
        self.state = state._replace(expires_from=expires_from, expired_by=expired_by)
        self.doubtful_expiry = _NEVER

    def refuse(self) -> None:
        """Note that the write was surely not applied. What it might have done stays excused: that only spares the cache."""
        self.busy = False
        if self.refused is None:
            self.refused = set()
        self.refused.add(self.sequence)

    def doubt(self) -> None:
        """Note that nobody knows whether the write was applied."""
        self.busy = False

    def doubt_expiry(self) -> None:
        """Note that the time to live of what is there is not known, so that it may be as good as never over, or over."""
        self.busy = False
        self.state = self.state._replace(expired_by=_NEVER)

    def reason(self, before: State, now: float) -> Reason:
        """Return why a read that ended at ``now`` missed."""
        if before.sequence == 0:
            return Reason.UNWRITTEN
        if before.gone or self.deleted > before.sequence:
            return Reason.DELETED
        if now + CLOCK_GRACE >= min(before.expires_from, self.doubtful_expiry, self.state.expires_from):
            return Reason.EXPIRED
        return Reason.UNEXPLAINED


class Ledger:
    """All keys that this process has written."""

    def __init__(self, run: str) -> None:
        self.run = run
        self._run = run.encode()
        self._keys: dict[str, Known] = {}

    def known(self, key: str) -> Known:
        """Return what is known of a key."""
        found = self._keys.get(key)
        if found is None:
            found = self._keys[key] = Known()
        return found

    def judge(self, key: str, known: Known, before: State, value: object, asked: float) -> Verdict:
        """Judge the value that a read which began at ``asked`` got; ``before`` was the key's ``state`` at that moment.

        The value of an earlier run is a hit until this run has written the key.
        """
        if value is None:
            return Verdict.MISS
        if value.__class__ is bytes and crc32(value) == before.checksum and asked <= before.expired_by:
            return Verdict.HIT
        stamp = read_value(value)
        if stamp is None or stamp.key != key.encode():
            return Verdict.WRONG
        if stamp.run != self._run:
            return Verdict.OLD if before.sequence else Verdict.HIT
        sequence = stamp.sequence
        if sequence > known.sequence or (known.refused is not None and sequence in known.refused):
            return Verdict.WRONG
        late = sequence == before.sequence and (before.gone or asked > before.expired_by + CLOCK_GRACE)
        return Verdict.OLD if late or sequence < before.sequence else Verdict.HIT

    def written(self) -> Iterator[tuple[str, Known]]:
        """Return the keys of which an acknowledged value should still be there, as far as is known."""
        return ((key, it) for key, it in self._keys.items() if it.state.sequence and not it.state.gone)

    def __len__(self) -> int:
        return len(self._keys)

    def __repr__(self) -> str:
        return f"<Ledger of run {self.run}, {len(self)} keys>"
