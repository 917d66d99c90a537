"""History: what clients asked for, when, and what came of it; an append-only log.

Here live operations and the unique values that say which key, client and write they belong to. Never here: whether what
happened was right (``checkers``), or how fast it was (``figures``).

Times are monotonic seconds. On one machine all processes share that clock, so the log of a load process and the marks of the
scenario that broke the cluster meanwhile can be laid on top of each other.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass, replace
from enum import StrEnum
from typing import Any, Final

import msgpack

__all__ = ["ERASERS", "FOREVER", "WRITES", "History", "Operation", "Outcome", "Verb", "read_value", "unique_value"]

FOREVER: Final = float("inf")


class Verb(StrEnum):
    """What was asked for."""

    GET = "get"
    SET = "set"
    DELETE = "delete"
    INCR = "incr"
    FLUSH = "flush"
    """``key`` is the prefix, empty for everything."""


ERASERS: Final = frozenset({Verb.DELETE, Verb.FLUSH})
WRITES: Final = ERASERS | {Verb.SET, Verb.INCR}


class Outcome(StrEnum):
    """What came of it."""

    PENDING = "pending"
    """No answer so far: it may have been applied."""
    OK = "ok"
    HIT = "hit"
    MISS = "miss"
    FAILED = "failed"
    """A read that was not answered, or a write that was certainly not applied."""
    IN_DOUBT = "in_doubt"


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of one client. A read has the value and version that it saw."""

    id: int
    client: str
    verb: Verb
    key: str
    value: Any
    """What was written or read; for INCR the amount."""
    due: float
    """When it was to begin: latency counts from here, so that a client that was held up hides nothing."""
    invoked: float
    returned: float = FOREVER
    outcome: Outcome = Outcome.PENDING
    version: int | None = None
    """The version that was written or read, where the client learns it."""
    ttl: float | None = None
    """Seconds that a written value lives."""
    fence: int | None = None
    """The fence under which it was written, if any."""
    error: str = ""

    @property
    def acknowledged(self) -> bool:
        """Whether a write was said to be done."""
        return self.outcome is Outcome.OK

    @property
    def possible(self) -> bool:
        """Whether a write may have taken effect."""
        return self.outcome in (Outcome.OK, Outcome.IN_DOUBT, Outcome.PENDING)

    def __str__(self) -> str:
        version = "" if self.version is None else f" version={self.version:#x}"
        what = f"#{self.id} {self.client} {self.verb} {self.key!r} {self.value!r}{version}"
        return f"{what} {self.invoked:.4f}..{self.returned:.4f} {self.outcome}{': ' + self.error if self.error else ''}"


class History:
    """The log. An operation is noted when it is invoked and once more when it has returned; nothing is ever taken back."""

    def __init__(self, operations: Iterable[Operation] = ()) -> None:
        self._operations = {operation.id: operation for operation in operations}

    def invoke(self, operation: Operation) -> None:
        """Note that an operation begins."""
        if operation.id in self._operations:
            raise ValueError(f"operation {operation.id} is in the history already")
        self._operations[operation.id] = operation

    def settle(self, id: int, returned: float, outcome: Outcome, **seen: Any) -> None:
        """Note what came of an operation; ``seen`` are further fields of it."""
        begun = self._operations[id]
        if begun.outcome is not Outcome.PENDING:
            raise ValueError(f"operation {id} has ended already: {begun}")
        self._operations[id] = replace(begun, returned=returned, outcome=outcome, **seen)

    def until(self, moment: float) -> History:
        """Return what had been invoked before ``moment``."""
        return History(operation for operation in self if operation.invoked < moment)

    def by_key(self) -> dict[str, list[Operation]]:
        """Return the operations of each key in the order in which they began; a FLUSH belongs to none."""
        keys: dict[str, list[Operation]] = {}
        for operation in sorted(self, key=lambda operation: operation.invoked):
            if operation.verb is not Verb.FLUSH:
                keys.setdefault(operation.key, []).append(operation)
        return keys

    def to_bytes(self) -> bytes:
        """Return the log in a form for a file or another process."""
        data: bytes = msgpack.packb([astuple(operation) for operation in self])
        return data

    @classmethod
    def from_bytes(cls, data: bytes) -> History:
        """Return the log that ``to_bytes`` gave."""
        rows = msgpack.unpackb(data)
        return cls(Operation(*row[:2], Verb(row[2]), *row[3:8], Outcome(row[8]), *row[9:]) for row in rows)

    def __add__(self, other: History) -> History:
        return History([*self, *other])

    def __iter__(self) -> Iterator[Operation]:
        return iter(list(self._operations.values()))

    def __len__(self) -> int:
        return len(self._operations)

    def __repr__(self) -> str:
        return f"<History of {len(self)} operations>"


def unique_value(key: str, client: str, sequence: int, padding: int = 0) -> str:
    """Return a value that nobody else writes and that says where it belongs: ``key|client|sequence|padding|checksum``."""
    body = f"{key}|{client}|{sequence}|{'.' * padding}"
    return f"{body}|{zlib.crc32(body.encode()):08x}"


def read_value(value: Any) -> str | None:
    """Return the key that a value was written to, None if it is not one of ours or was changed on its way."""
    if not isinstance(value, str):
        return None
    body, _, checksum = value.rpartition("|")
    if checksum != f"{zlib.crc32(body.encode()):08x}" or body.count("|") < 3:
        return None
    return body.rsplit("|", 3)[0]
