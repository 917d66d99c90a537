"""Pulling: how a node gets what it lacks of a partition from another that has it.

Here live the plans between nodes: compare, read through, hand over. Never here: when that is needed, or the store (both are
the caller's). They are plans like those of the verbs, so a test drives them over a simulated network.

A receiver asks for one piece after the other, so it is never sent more than it can take. Pieces are put by version, so one
that comes twice, or after a newer write, does no harm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from kvcache_client.core.effects import Plan, Within
from kvcache_client.core.reading import as_error
from kvcache_client.protocol.errors import MalformedFrame
from kvcache_client.protocol.record import HEADER_BYTES
from kvcache_client.protocol.verbs import Message, Request, Verb

__all__ = ["ANYTHING", "PIECE_SECONDS", "Row", "ask", "digests", "peek_all", "put_all", "rows"]

Row = tuple[bytes, bytes]
"""A key and its record, or the header of that."""

ANYTHING: Final = "*"
"""The session of who takes what there is, complete or not: when no owner is complete, what each has is put together."""

PIECE_SECONDS: Final = 2.0
"""What one request between nodes may take: they carry up to a mebibyte, and the node may be busy."""


def ask(node: str, request: Request, seconds: float = PIECE_SECONDS) -> Plan[Message]:
    """Ask one node and return its reply. Raises the error that came instead."""
    (outcome,) = yield Within([(node, request)], seconds)
    error = as_error(outcome, node, request[1])
    if error is not None:
        raise error
    reply: Message = outcome
    return reply


def digests(node: str, partitions: Sequence[int], *, session: str = "") -> Plan[list[int]]:
    """Return the digests of ``partitions`` at ``node``."""
    reply = yield from ask(node, [0, Verb.DIGEST, session, *partitions])
    fields = list(reply[2:])
    if len(fields) != len(partitions) or not all(isinstance(field, int) for field in fields):
        raise MalformedFrame(f"not a reply to DIGEST of {len(partitions)} partitions", node=node)
    return fields


def rows(
    node: str, partition: int, keep: Callable[[list[Row]], None], *, session: str = "", whole: bool = True
) -> Plan[int]:
    """Read through ``partition`` at ``node`` and hand its records to ``keep``, piece by piece; returns how many there were.

    ``session`` is the move that this belongs to; the node refuses one that is not going on.
    """
    after = b""
    count = 0
    more = True
    while more:
        reply = yield from ask(node, [0, Verb.SCAN, session, partition, after, whole])
        more, piece = _piece(node, reply)
        if piece:
            keep(piece)
            after = piece[-1][0]
            count += len(piece)
        elif more:
            raise MalformedFrame("SCAN says that there is more and sends nothing", node=node)
    return count


def _piece(node: str, reply: Message) -> tuple[bool, list[Row]]:
    more, *fields = reply[2:] or (None,)
    keys, records = fields[::2], fields[1::2]
    whole = all(isinstance(key, bytes) and key for key in keys)
    whole = whole and all(isinstance(record, bytes) and len(record) >= HEADER_BYTES for record in records)
    if not isinstance(more, bool) or len(keys) != len(records) or not whole:
        raise MalformedFrame("not a reply to SCAN", node=node)
    return more, list(zip(keys, records, strict=True))


def peek_all(node: str, keys: Sequence[bytes]) -> Plan[list[Row]]:
    """Return what ``node`` holds of ``keys``, those that it has; all are asked for at once."""
    outcomes = yield Within([(node, [0, Verb.PEEK, key]) for key in keys], PIECE_SECONDS)
    found: list[Row] = []
    for key, outcome in zip(keys, outcomes, strict=True):
        error = as_error(outcome, node, Verb.PEEK)
        if error is not None:
            raise error
        found += [(key, outcome[2])] if len(outcome) > 2 else []
    return found


def put_all(node: str, epoch: int, pairs: Iterable[Row]) -> Plan[list[Any]]:
    """Put records at ``node``; returns a status or an error's code for each."""
    fields = [field for pair in pairs for field in pair]
    reply = yield from ask(node, [0, Verb.PUT_MANY, epoch, *fields])
    statuses = list(reply[2:])
    if len(statuses) * 2 != len(fields):
        raise MalformedFrame("not a reply to PUT_MANY", node=node)
    return statuses
