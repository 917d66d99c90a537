"""Verbs and statuses: what can be asked of a node, as one table that code, documentation and tests read.

Here lives the meaning of each message's fields. Never here: how a message is turned into bytes (``framing``), or done.

A request is the flat array ``[id, verb, field...]``; a reply is ``[id, status, field...]``. Id 0 is never a request: it
marks a push from the node.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, TypeAlias

__all__ = [
    "ABSENT",
    "PRESENT",
    "PROTOCOL_VERSION",
    "PUSH_ID",
    "VERBS",
    "Message",
    "Push",
    "Request",
    "Role",
    "Status",
    "Verb",
    "VerbSpec",
]

PROTOCOL_VERSION: Final = 1
PUSH_ID: Final = 0

Message: TypeAlias = tuple[Any, ...]
"""A message as it was read: ``(id, verb or status, field...)``. Its fields are untrusted until checked."""

Request: TypeAlias = list[Any]
"""A request to be sent: ``[0, verb, field...]``. The link writes the id into place 0, so one list serves many nodes."""


class Verb(IntEnum):
    """What can be asked."""

    HELLO = 0
    PING = 1
    TOPOLOGY = 2
    STATS = 3
    GET = 4
    GET_MANY = 5
    HEAD = 6
    PEEK = 7
    PUT = 8
    PUT_MANY = 9
    HINT = 10
    SWAP = 11
    INCR = 12
    TOUCH = 13


class Status(IntEnum):
    """How it went. Codes from 16 on are errors (``errors.ERRORS``): ``[id, code, message, detail]``."""

    OK = 0
    MISS = 1
    SUPERSEDED = 2
    MISMATCH = 3


class Role(IntEnum):
    """Who speaks on a connection."""

    CLIENT = 0
    NODE = 1
    ADMIN = 2


class Push(IntEnum):
    """What a node says unasked: ``[0, push, field...]``."""

    EPOCH = 0
    """``[0, EPOCH, epoch]``: there is a newer topology; ask for it when convenient."""


ABSENT: Final = 0
"""Condition of SWAP: the key must not exist (add)."""

PRESENT: Final = 1
"""Condition of SWAP: the key must exist in any version (replace). Every other number is the version it must have."""


@dataclass(frozen=True, slots=True)
class VerbSpec:
    """One row of the table. A field that ends in ``...`` repeats; one in ``?`` may be nil."""

    verb: Verb
    fields: tuple[str, ...]
    replies: tuple[str, ...]
    meaning: str


VERBS: Final[Mapping[Verb, VerbSpec]] = {
    row.verb: row
    for row in (
        VerbSpec(
            Verb.HELLO,
            ("protocol", "cluster", "role", "credential", "name"),
            ("OK protocol cluster node epoch now_ms value_limit",),
            "introduces a connection; must be its first message. An empty cluster name matches any",
        ),
        VerbSpec(Verb.PING, (), ("OK epoch now_ms",), "answers at once"),
        VerbSpec(Verb.TOPOLOGY, (), ("OK epoch document",), "the topology document, JSON in bytes"),
        VerbSpec(Verb.STATS, (), ("OK document",), "the node's counters, JSON in bytes"),
        VerbSpec(Verb.GET, ("key",), ("OK record", "MISS"), "the live record of a key that the node owns"),
        VerbSpec(
            Verb.GET_MANY,
            ("key...",),
            ("OK (record | nil | code)...",),
            "many keys; nil is a miss, a code the error of that key alone",
        ),
        VerbSpec(Verb.HEAD, ("key",), ("OK header", "MISS"), "the 15-byte header of the live record"),
        VerbSpec(
            Verb.PEEK,
            ("key",),
            ("OK record", "MISS"),
            "whatever copy this node holds, owner or stand-in, tombstones included; counts no hit",
        ),
        VerbSpec(
            Verb.PUT,
            ("epoch", "key", "record"),
            ("OK", "MISS", "SUPERSEDED version"),
            "keep the record unless a newer version is there; MISS: a tombstone found nothing live to delete",
        ),
        VerbSpec(
            Verb.PUT_MANY,
            ("epoch", "(key record)..."),
            ("OK (status | code)...",),
            "many records, each with its own status",
        ),
        VerbSpec(
            Verb.HINT,
            ("owner", "key", "record"),
            ("OK", "MISS", "SUPERSEDED version"),
            "as PUT, at a stand-in: hold the record for an owner that cannot be reached",
        ),
        VerbSpec(
            Verb.SWAP,
            ("epoch", "key", "condition", "record"),
            ("OK version", "MISMATCH version"),
            "keep the record if the condition holds (0 absent, 1 present, else that version); the node stamps it",
        ),
        VerbSpec(
            Verb.INCR,
            ("epoch", "key", "delta", "initial?", "expiry_ms"),
            ("OK record", "MISS"),
            "add to an integer; a missing key starts at initial with that expiry, or is a miss when initial is nil",
        ),
        VerbSpec(
            Verb.TOUCH,
            ("epoch", "key", "expiry_ms"),
            ("OK record", "MISS"),
            "give a live record another expiry",
        ),
    )
}
