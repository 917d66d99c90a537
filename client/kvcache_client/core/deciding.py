"""Operations that depend on what is there: cas, add, replace, incr, touch.

Here lives how one owner decides and the others get the result. Never here: plain writes, which need no decision.

The first owner that can be reached decides, atomically for the key, and gives the outcome a version; the resulting record
(never the operation) is then copied to the other owners, so copies can't diverge and may arrive in any order. Each operation has
a number, by which the owner and its copies know it again, so it can be asked again and is still applied once. ::

    owner 1 --reply--> copy to the others --> done
       |the connection broke: again, on a new one
       |gone, or silent for so long that it counts as down
       v
    owner 2, which is asked to decide if owner 1 has certainly heard nothing; else only whether it knows the operation:
    what owner 1 made of it may be part of what others have copied since, and to do it here too would be to do it twice
       `does not know it --> InDoubt, with the number
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from kvcache_client.core.answers import (
    REROUTE,
    REROUTE_PAUSE,
    as_error,
    before_rerouting,
    blame,
    may_reroute,
    why_unavailable,
)
from kvcache_client.core.brain import Brain, Life
from kvcache_client.core.consistency import Acks
from kvcache_client.core.effects import Pause, Plan, Within
from kvcache_client.core.routing import View
from kvcache_client.core.writing import check_reachable, copy
from kvcache_client.protocol.errors import ConnectFailed, InDoubt, InvalidOption, KvCacheError, Overloaded
from kvcache_client.protocol.record import HEADER_BYTES, make_record, restamp, version_of
from kvcache_client.protocol.shown import shown
from kvcache_client.protocol.verbs import MAX_OPERATION, Message, Request, Status, Verb
from kvcache_client.protocol.version import writer_of

__all__ = ["Decision", "decide", "increment", "swap", "touch"]


def swap(
    brain: Brain,
    name: bytes,
    condition: int,
    flags: int,
    payload: bytes,
    expiry_ms: int,
    acks: Acks | None = None,
    operation: int | None = None,
) -> Plan[tuple[bool, int]]:
    """Write if ``condition`` holds (``verbs.ABSENT``, ``PRESENT`` or a version).

    Returns (applied, version): the version now there, 0 if the key is absent.
    """
    number = _begin(brain, name, acks, operation)
    record = make_record(0, expiry_ms, flags, payload)  # the decider stamps it
    began = brain.clock()
    decided = yield from decide(
        brain, name, lambda view: [0, Verb.SWAP, view.epoch, name, condition, record, number], number
    )
    version: int = version_of(decided.reply[2]) if decided.recalled else decided.reply[2]
    if decided.reply[1] == Status.MISMATCH:
        return False, version
    yield from _copy(brain, name, restamp(record, version), decided.node, began, acks, number)
    return True, version


def increment(
    brain: Brain,
    name: bytes,
    delta: int,
    initial: int | None,
    expiry_ms: int,
    acks: Acks | None = None,
    operation: int | None = None,
) -> Plan[bytes | None]:
    """Add ``delta`` to an integer and return its record; None if it is absent and ``initial`` is None."""
    number = _begin(brain, name, acks, operation)

    def request(view: View) -> Request:
        return [0, Verb.INCR, view.epoch, name, delta, initial, expiry_ms, number]

    return (yield from _decide_record(brain, name, request, acks, number))


def touch(
    brain: Brain, name: bytes, expiry_ms: int, acks: Acks | None = None, operation: int | None = None
) -> Plan[bytes | None]:
    """Give the live record another expiry and return it; None if it is absent."""
    number = _begin(brain, name, acks, operation)

    def request(view: View) -> Request:
        return [0, Verb.TOUCH, view.epoch, name, expiry_ms, number]

    return (yield from _decide_record(brain, name, request, acks, number))


def _begin(brain: Brain, name: bytes, acks: Acks | None, operation: int | None) -> int:
    """Return the number of a call: a new one, or that of the call that is asked again. Raises what is wrong with it."""
    check_reachable(brain, name, acks)
    if brain.flights:
        brain.flights.pop(name, None)
    if operation is None:
        return brain.operation()
    if type(operation) is not int or not 0 < operation <= MAX_OPERATION:
        raise InvalidOption(
            f"operation={shown(operation, 40)}: must be the operation of an InDoubt, from 1 to 2^64 - 1"
        )
    return operation


def _decide_record(
    brain: Brain, name: bytes, request: Callable[[View], Request], acks: Acks | None, number: int
) -> Plan[bytes | None]:
    began = brain.clock()
    decided = yield from decide(brain, name, request, number)
    if decided.reply[1] == Status.MISS:
        return None
    record: bytes = decided.reply[2]
    if not (decided.recalled and len(record) == HEADER_BYTES):  # of what was touched, only the header is recalled
        yield from _copy(brain, name, record, decided.node, began, acks, number)
    return record


def _copy(
    brain: Brain, name: bytes, record: bytes, decider: str, began: float, acks: Acks | None, number: int
) -> Plan[None]:
    """Bring what ``decider`` has made to the other owners, so that they know the operation too."""
    life = decider, brain.require_view().lives.get(decider)
    try:
        written = yield from copy(brain, name, record, decider, brain.clock() - began, acks, number)
        if written.superseded and writer_of(written.superseded) != writer_of(written.version):
            yield from _confirm(brain, name, decider, number, began + brain.config.timeout)
    except InDoubt as error:
        brain.remember_doubt(number, frozenset({life}))
        error.operation = number
        raise


def _confirm(brain: Brain, name: bytes, decider: str, number: int, deadline: float) -> Plan[None]:
    """Raise ``InDoubt`` unless the decider still knows the operation.

    Another node has stamped a newer version: a client wrote the key since, or an owner that never had this copy decides now
    because the decider has died, with its last answers still on their way. Then what it made of the key is lost.
    """
    request: Request = [0, Verb.RECALL, brain.require_view().epoch, name, number]
    outcome = yield from _ask(brain, decider, request, deadline, 0.0)
    error = as_error(outcome, decider, Verb.RECALL)
    if error is not None or outcome[1] == Status.MISS:
        reason = error or "it does not know the operation any more"
        raise InDoubt(f"{decider} decided, then another node did; and now {reason}", node=decider) from error


class Decision(NamedTuple):
    """Who answered what; ``recalled`` if it was not decided now but known from before, by a node that did not decide it."""

    node: str
    reply: Message
    recalled: bool = False


def decide(
    brain: Brain,
    name: bytes,
    request: Callable[[View], Request],
    number: int,
    *,
    repeatable: bool = False,
    patience: float = 0.0,
) -> Plan[Decision]:
    """Have the first reachable owner decide.

    ``number`` is the operation in the request, by which a node knows that it has seen it. ``repeatable`` says that it does no
    harm if two owners decide. ``patience`` is what a node may take for its answer beyond the usual time, in seconds.
    """
    deadline = brain.clock() + brain.config.timeout + patience
    heard = brain.doubts.get(number, frozenset())
    doubt: InDoubt | None = None
    while True:
        view = brain.require_view()
        partition = view.partition(name)
        failures: dict[str, KvCacheError] = {}
        for node in view.owners[partition]:
            if node in brain.down:
                continue
            life = node, view.lives.get(node)
            recall = not repeatable and bool(heard - {life})
            asked: Request = [0, Verb.RECALL, view.epoch, name, number] if recall else request(view)
            outcome = yield from _ask(brain, node, asked, deadline, patience)
            error = as_error(outcome, node, asked[1])
            if error is None and not (recall and outcome[1] == Status.MISS):
                return Decision(node, outcome, recall)
            failures[node] = error = error or InDoubt("this owner does not know the operation", node=node)
            if isinstance(error, InDoubt) and not recall:
                heard, doubt = heard | {life}, error
            elif recall and doubt is None:
                doubt = InDoubt(f"another owner had heard of it: {error}", node=node)
            if isinstance(error, ConnectFailed) or recall:
                continue
            if isinstance(error, Overloaded):
                blame(brain, node, error)
            if isinstance(error, (*REROUTE, InDoubt)) and not (patience and isinstance(error, Overloaded)):
                break
            raise error
        else:
            raise _undecided(brain, view, partition, failures, doubt, number, heard)
        if not may_reroute(brain, deadline, failures):
            raise _undecided(brain, view, partition, failures, doubt, number, heard)
        if isinstance(error, REROUTE):
            yield from before_rerouting(brain, deadline, failures)
        else:
            brain.counters.asked_again += 1
            yield Pause(REROUTE_PAUSE)


def _undecided(
    brain: Brain,
    view: View,
    partition: int,
    failures: dict[str, KvCacheError],
    doubt: InDoubt | None,
    number: int,
    heard: frozenset[Life],
) -> KvCacheError:
    """Return the error of an operation that nobody answered: in doubt, as soon as one node may have heard it."""
    if doubt is None:
        return why_unavailable(brain, view, partition, failures)
    brain.remember_doubt(number, heard)
    error = type(doubt)(Exception.__str__(doubt), node=doubt.node, detail=doubt.detail)
    error.__cause__ = doubt
    error.operation = number
    return error


def _ask(brain: Brain, node: str, request: Request, deadline: float, patience: float) -> Plan[Any]:
    """Ask one node; it gets an attempt and the ``patience``, or what is left of the call."""
    if not patience and brain.clock() + brain.attempt <= deadline:
        outcome = yield node, request
    else:
        seconds = max(min(brain.attempt + patience, deadline - brain.clock()), 0.001)
        (outcome,) = yield Within([(node, request)], seconds)
    return outcome
