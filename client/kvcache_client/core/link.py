"""Link: the conversation with one node, without the socket.

Here lives which request a reply belongs to, and the introduction. Never here: connecting, timers, back-off.

Every request carries an id of its own and every reply repeats it, so answers may come in any order, and a reply whose
caller was cancelled or gave up finds nobody and is dropped: it can't reach another caller. ::

    plan --ask--> enqueue --output()--> socket ... node ... socket --receive()--> waiter.set_result --> plan
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import takewhile
from typing import Any, Final, Protocol

import msgpack

from kvcache_client.core.effects import Outcome, Slow
from kvcache_client.protocol.errors import KvCacheError, MalformedFrame, error_from_wire
from kvcache_client.protocol.framing import CLIENT_FRAME_LIMIT, FrameReader
from kvcache_client.protocol.record import HEADER_BYTES
from kvcache_client.protocol.verbs import PUSH_ID, VERBS, Message, Push, Request, Status, Verb

__all__ = ["Link", "Waiter", "error_of"]

_ID_MASK: Final = 0xFFFFFFFF
"""The highest id; the next is 1 again, for 0 is never a request."""


class Waiter(Protocol):
    """Who waits for a reply; asyncio's Future is one."""

    def done(self) -> bool:
        """Say whether nobody waits any more."""

    def set_result(self, result: Any, /) -> object:
        """Take the outcome."""


def _is_integer(field: Any) -> bool:
    return field.__class__ is int


def _is_bytes(field: Any) -> bool:
    return isinstance(field, bytes)


def _is_record(field: Any) -> bool:
    return isinstance(field, bytes) and len(field) >= HEADER_BYTES


_CHECKS: Final[Mapping[str, Callable[[Any], bool]]] = {
    "record": _is_record,
    "header": _is_record,
    "outcome": _is_record,
    "document": _is_bytes,
    "version": _is_integer,
    "epoch": _is_integer,
    "now_ms": _is_integer,
    "fence": _is_integer,
    "pending": _is_integer,
    "compared": _is_integer,
    "copied": _is_integer,
}

_PROMISED: Final[Mapping[tuple[int, int], tuple[Callable[[Any], bool], ...]]] = {
    (spec.verb, Status[status]): tuple(_CHECKS[name] for name in takewhile(_CHECKS.__contains__, names))
    for spec in VERBS.values()
    for status, *names in (reply.split() for reply in spec.replies)
}
"""(verb, status) -> a check for each field that such a reply carries, as the table of verbs promises it.

The fields that repeat, and those of the greeting, are left to the functions that read them.
"""


def error_of(reply: Message, node: str | None = None, verb: Verb | None = None) -> KvCacheError | None:
    """Return the error that a reply carries, or None. With ``verb``, a reply that is not one to it is an error too."""
    if len(reply) < 2 or reply[1].__class__ is not int:
        return MalformedFrame(f"not a reply: {reply!r:.100}", node=node)
    status = reply[1]
    if status <= Status.GRANTED:
        checks = () if verb is None else _PROMISED.get((verb, status))
        fields = reply[2:]
        # A longer reply is one from the future; what it has more is ignored.
        if checks is None or len(fields) < len(checks) or not all(map(_holds, checks, fields)):
            return MalformedFrame(f"not a reply to {verb!r}: {reply!r:.100}", node=node)
        return None
    message = reply[2] if len(reply) > 2 and isinstance(reply[2], str) else ""
    return error_from_wire(status, message, node=node, detail=reply[3] if len(reply) > 3 else None)


def _holds(check: Callable[[Any], bool], field: Any) -> bool:
    return check(field)


class Link:
    """Requests out, replies in, each to whoever asked."""

    __slots__ = (
        "_id",
        "_packer",
        "_patient",
        "_pending",
        "_reader",
        "answered",
        "heard",
        "late",
        "node",
        "on_epoch",
        "received",
    )

    def __init__(self, node: str, on_epoch: Callable[[int], None]) -> None:
        self.node = node
        self.on_epoch = on_epoch
        self.heard = False
        """Set by every arrival; whoever watches for silence clears it."""
        self.late = 0
        self.answered = 0
        """The id of the reply that came last."""
        self.received = 0
        """Messages that came so far."""
        self._id = 0
        self._pending: dict[int, Waiter] = {}
        self._patient: dict[int, Waiter] = {}
        self._packer = msgpack.Packer(autoreset=False)
        self._reader = FrameReader(CLIENT_FRAME_LIMIT)

    def enqueue(self, request: Request, waiter: Waiter) -> int:
        """Take a request whose reply goes to ``waiter``; it leaves with the next ``output``. Returns its id."""
        self._id = request[0] = number = self._id % _ID_MASK + 1
        self._pending[number] = waiter
        self._packer.pack(request)
        return number

    def output(self) -> bytes:
        """Return all that was enqueued since the last call."""
        data: bytes = self._packer.bytes()
        self._packer.reset()
        return data

    def receive(self, data: bytes) -> KvCacheError | None:
        """Hand replies to their waiters. Returns what broke the conversation, if anything did; then it must be closed."""
        self.heard = True
        reader = self._reader
        pending = self._pending
        take = pending.pop
        try:
            messages = reader.feed(data)
            for message in messages:
                waiter = take(message[0], None)
                if waiter is None:
                    self._unexpected(message)
                elif waiter.done():
                    self.late += 1
                else:
                    waiter.set_result(message)
            if messages:
                self.received += len(messages)
                last = messages[-1][0]
                self.answered = last if last.__class__ is int else 0
        except (TypeError, IndexError):
            return MalformedFrame("a message that is not an array with an id", node=self.node)
        return reader.broken

    def _unexpected(self, message: Message) -> None:
        waiter = self._patient.pop(message[0], None)
        if waiter is not None and not waiter.done():
            waiter.set_result(message)
        elif message[0] == PUSH_ID and len(message) > 2 and message[1] == Push.EPOCH and isinstance(message[2], int):
            self.on_epoch(message[2])
        else:
            self.late += 1

    @property
    def newest(self) -> int:
        """The id of the request enqueued last."""
        return self._id

    @property
    def waiting(self) -> int:
        """How many requests have no reply yet."""
        return len(self._pending)

    def forget(self, waiter: Waiter) -> None:
        """Nobody waits for that answer any more; when it comes it is dropped."""
        for number, held in list(self._pending.items()):
            if held is waiter:
                del self._pending[number]

    def give_up(self, number: int, outcome: Outcome) -> None:
        """Give ``outcome`` to the request ``number`` if it still waits."""
        waiter = self._pending.pop(number, None) or self._patient.pop(number, None)
        if waiter is not None and not waiter.done():
            waiter.set_result(outcome)

    def set_aside(self, number: int) -> None:
        """Have the request ``number`` wait for as long as its caller does: ``expire`` passes it over from now on."""
        self._patient = {other: waiter for other, waiter in self._patient.items() if not waiter.done()}
        self._patient[number] = self._pending.pop(number)

    def suspect(self, newest: int, kind: type[object], waited: float) -> None:
        """Tell those that wait for a request up to the id ``newest`` that it is slow; it goes on waiting by itself.

        Only waiters of that ``kind`` are told. Each is told once.
        """
        slow = []
        for number, waiter in self._pending.items():  # in the order of asking
            if (newest - number) % _ID_MASK >= 1 << 31:
                break
            if waiter.__class__ is kind and not waiter.done():
                slow.append((number, waiter))
        for number, waiter in slow:
            self._pending[number] = parked = Slow(self.node, waited)
            waiter.set_result(parked)

    def expire(self, newest: int, outcome: Callable[[], KvCacheError]) -> int:
        """Give up every request up to the id ``newest``; returns how many there were.

        Those whose caller had left count too: that nobody waits does not mean that the node has answered.
        """
        stale = []
        for number in self._pending:  # in the order of asking
            # Ids wrap at 2^32: "up to" is a distance, not a comparison (RFC 1982).
            if (newest - number) % _ID_MASK >= 1 << 31:
                break
            stale.append(number)
        waiters = [self._pending.pop(number) for number in stale]
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(outcome())
        return len(waiters)

    def fail(self, outcome: Callable[[], KvCacheError]) -> None:
        """Give up everything: the connection is gone."""
        waiters = [*self._pending.values(), *self._patient.values()]
        self._pending, self._patient = {}, {}
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(outcome())

    def __repr__(self) -> str:
        return f"<Link {self.node} waiting={self.waiting} patient={len(self._patient)} late={self.late}>"
