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
    "MAX_OPERATION",
    "PRESENT",
    "PROTOCOL_VERSION",
    "PUSH_ID",
    "VERBS",
    "Message",
    "Push",
    "Reason",
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
    SCAN = 14
    DIGEST = 15
    REPORT = 16
    ADOPT = 17
    DELIVER = 18
    RESYNC = 19
    REPAIR = 20
    RESTORE = 21
    CHANGE = 22
    LOCK = 23
    RENEW = 24
    UNLOCK = 25
    LOCKS = 26
    AUTH = 27
    LEASE = 28
    FILL = 29
    RELEASE = 30
    COPY = 31
    RECALL = 32
    EXAMINE = 33


class Status(IntEnum):
    """How it went. Codes from 16 on are errors (``errors.ERRORS``): ``[id, code, message, detail]``."""

    OK = 0
    MISS = 1
    SUPERSEDED = 2
    MISMATCH = 3
    CHALLENGE = 4
    GRANTED = 5


class Role(IntEnum):
    """Who speaks on a connection."""

    CLIENT = 0
    NODE = 1
    ADMIN = 2


class Reason(IntEnum):
    """Why a node has no live record of a key, as far as it remembers: what may follow MISS."""

    ABSENT = 0
    """Nothing is known of the key; the field may be left out."""
    EXPIRED = 1
    DELETED = 2
    EVICTED = 3


class Push(IntEnum):
    """What a node says unasked: ``[0, push, field...]``."""

    EPOCH = 0
    """``[0, EPOCH, epoch]``: there is a newer topology; ask for it when convenient."""


ABSENT: Final = 0
"""Condition of SWAP: the key must not exist (add)."""

PRESENT: Final = 1
"""Condition of SWAP: the key must exist in any version (replace). Every other number is the version it must have."""


MAX_OPERATION: Final = (1 << 64) - 1
"""The highest number of an operation; the lowest is 1, and 0 stands for none."""


_NODES: Final = frozenset({Role.NODE, Role.ADMIN})
_ADMINS: Final = frozenset({Role.ADMIN})


@dataclass(frozen=True, slots=True)
class VerbSpec:
    """One row of the table. A field that ends in ``...`` repeats; one in ``?`` may be nil."""

    verb: Verb
    fields: tuple[str, ...]
    replies: tuple[str, ...]
    meaning: str
    roles: frozenset[Role] = frozenset(Role)
    """Who may ask."""


VERBS: Final[Mapping[Verb, VerbSpec]] = {
    row.verb: row
    for row in (
        VerbSpec(
            Verb.HELLO,
            ("protocol", "cluster", "role", "nonce", "name"),
            ("OK protocol cluster node epoch now_ms value_limit", "CHALLENGE nonce"),
            "introduces a connection; must be its first message. An empty cluster name matches any",
        ),
        VerbSpec(Verb.PING, (), ("OK epoch now_ms",), "answers at once"),
        VerbSpec(Verb.TOPOLOGY, (), ("OK epoch document",), "the topology document, JSON in bytes"),
        VerbSpec(Verb.STATS, (), ("OK document",), "the node's counters, JSON in bytes"),
        VerbSpec(Verb.GET, ("key",), ("OK record", "MISS reason?"), "the live record of a key that the node owns"),
        VerbSpec(
            Verb.GET_MANY,
            ("key...",),
            ("OK (record | nil | reason | code)...",),
            "many keys; nil or a reason is a miss, a code the error of that key alone",
        ),
        VerbSpec(Verb.HEAD, ("key",), ("OK header", "MISS reason?"), "the 15-byte header of the live record"),
        VerbSpec(
            Verb.PEEK,
            ("key",),
            ("OK record (owner)...", "MISS"),
            "whatever copy this node holds, tombstones included, and the owners that it is kept for; counts no hit",
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
            ("epoch", "key", "condition", "record", "operation"),
            ("OK version", "MISMATCH version"),
            "keep the record if the condition holds (0 absent, 1 present, else that version); the node stamps it",
        ),
        VerbSpec(
            Verb.INCR,
            ("epoch", "key", "delta", "initial?", "expiry_ms", "operation"),
            ("OK record", "MISS"),
            "add to an integer; a missing key starts at initial with that expiry, or is a miss when initial is nil",
        ),
        VerbSpec(
            Verb.TOUCH,
            ("epoch", "key", "expiry_ms", "operation"),
            ("OK record", "MISS"),
            "give a live record another expiry",
        ),
        VerbSpec(
            Verb.SCAN,
            ("session", "partition", "after", "whole"),
            ("OK more (key record)...",),
            "the records of a partition whose keys follow, in order, tombstones included; only their headers unless whole",
            _NODES,
        ),
        VerbSpec(
            Verb.DIGEST,
            ("session", "partition..."),
            ("OK digest...",),
            "a number for each partition that is the same where the keys and versions in it are",
            _NODES,
        ),
        VerbSpec(Verb.REPORT, (), ("OK document",), "how far the node is with what is going on, JSON in bytes", _NODES),
        VerbSpec(Verb.ADOPT, ("document",), ("OK epoch",), "go by this topology document if it is newer", _NODES),
        VerbSpec(
            Verb.DELIVER,
            ("owner",),
            ("OK pending",),
            "hand over now what is held for that owner; how many records are still to go",
            _NODES,
        ),
        VerbSpec(
            Verb.RESYNC,
            ("partition...",),
            ("OK",),
            "pull these partitions from their other owners again: something in them may have been missed",
            _NODES,
        ),
        VerbSpec(
            Verb.REPAIR,
            ("fence", "partition..."),
            ("OK compared copied",),
            "compare these partitions with their other owners and copy what differs, both ways, under the lock job",
            _ADMINS,
        ),
        VerbSpec(
            Verb.RESTORE,
            ("fence", "epoch", "(key record)..."),
            ("OK (status | code)...",),
            "keep records of a snapshot, each unless a newer version is there, under the lock job",
            _ADMINS,
        ),
        VerbSpec(
            Verb.CHANGE,
            ("fence", "change"),
            ("OK epoch",),
            "change the topology as the JSON in bytes says, under the lock topology",
            _ADMINS,
        ),
        VerbSpec(
            Verb.LOCK,
            ("resource", "token", "lease_ms", "doing"),
            ("OK fence",),
            "take a lock for so long, or be told by AdminBusy who has it; the same token may ask again",
        ),
        VerbSpec(
            Verb.RENEW, ("resource", "token", "lease_ms"), ("OK", "MISS"), "hold a lock for longer; MISS: it is lost"
        ),
        VerbSpec(Verb.UNLOCK, ("resource", "token"), ("OK", "MISS"), "give a lock back; MISS: it was lost"),
        VerbSpec(Verb.LOCKS, (), ("OK document",), "the locks that are held, JSON in bytes"),
        VerbSpec(
            Verb.AUTH,
            ("proof",),
            ("OK protocol cluster node epoch now_ms value_limit proof",),
            "answers the challenge, and nothing else; the reply introduces the node and proves that it knows the secret too",
        ),
        VerbSpec(
            Verb.LEASE,
            ("epoch", "key", "operation", "lease_ms"),
            ("OK record", "GRANTED record?", "MISS"),
            "the record to use; or the task to compute it within so long, with what is past its soft expiry if there is that; "
            "waits while another has that task and there is no record; MISS: waited in vain",
        ),
        VerbSpec(
            Verb.FILL,
            ("epoch", "key", "operation", "record"),
            ("OK version", "MISMATCH version"),
            "keep what was computed under that lease, under the version of the grant, and answer all who wait for it; "
            "MISMATCH: the lease is over, or void because the key was written or deleted meanwhile",
        ),
        VerbSpec(
            Verb.RELEASE,
            ("key", "operation"),
            ("OK", "MISS"),
            "give a lease back, or stop waiting for one; MISS: there is none",
        ),
        VerbSpec(
            Verb.COPY,
            ("epoch", "key", "record", "operation"),
            ("OK", "MISS", "SUPERSEDED version"),
            "as PUT, of a record that another owner decided on: this one, too, then knows that the operation is done",
        ),
        VerbSpec(
            Verb.RECALL,
            ("epoch", "key", "operation"),
            ("OK outcome", "MISS"),
            "what came of an operation; MISS: this node does not know it",
        ),
        VerbSpec(
            Verb.EXAMINE,
            (),
            ("OK document",),
            "what this node sees of its machine and its coordinator, JSON in bytes",
            _ADMINS,
        ),
    )
}
