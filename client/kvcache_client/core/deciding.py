"""Operations that depend on what is there: cas, add, replace, incr, touch.

Here lives how one owner decides and the others get the result. Never here: plain writes, which need no decision.

The first owner that can be reached decides, atomically for the key, and gives the outcome a version; the resulting record
(never the operation) is then copied to the other owners, so copies can't diverge and may arrive in any order. Once such a
request has left, silence means ``InDoubt``: it is never sent again by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kvcache_client.core.answers import REROUTE, REROUTE_PAUSE, as_error, may_reroute, time_left, why_unavailable
from kvcache_client.core.brain import Brain
from kvcache_client.core.consistency import Acks
from kvcache_client.core.effects import REFRESH, Pause, Plan, Within
from kvcache_client.core.routing import View
from kvcache_client.core.writing import check_reachable, copy
from kvcache_client.protocol.errors import ConnectFailed, KvCacheError
from kvcache_client.protocol.record import make_record, restamp
from kvcache_client.protocol.verbs import Message, Request, Status, Verb

__all__ = ["increment", "swap", "touch"]


def swap(
    brain: Brain, name: bytes, condition: int, flags: int, payload: bytes, expiry_ms: int, acks: Acks | None = None
) -> Plan[tuple[bool, int]]:
    """Write if ``condition`` holds (``verbs.ABSENT``, ``PRESENT`` or a version).

    Returns (applied, version): the version now there, 0 if the key is absent.
    """
    check_reachable(brain, name, acks)
    record = make_record(0, expiry_ms, flags, payload)  # the decider stamps it
    began = brain.clock()
    decider, reply = yield from _decide(brain, name, lambda view: [0, Verb.SWAP, view.epoch, name, condition, record])
    version: int = reply[2]
    if reply[1] == Status.MISMATCH:
        return False, version
    yield from copy(brain, name, restamp(record, version), decider, brain.clock() - began, acks)
    return True, version


def increment(
    brain: Brain, name: bytes, delta: int, initial: int | None, expiry_ms: int, acks: Acks | None = None
) -> Plan[bytes | None]:
    """Add ``delta`` to an integer and return its record; None if it is absent and ``initial`` is None."""

    def request(view: View) -> Request:
        return [0, Verb.INCR, view.epoch, name, delta, initial, expiry_ms]

    return (yield from _decide_record(brain, name, request, acks))


def touch(brain: Brain, name: bytes, expiry_ms: int, acks: Acks | None = None) -> Plan[bytes | None]:
    """Give the live record another expiry and return it; None if it is absent."""
    return (yield from _decide_record(brain, name, lambda view: [0, Verb.TOUCH, view.epoch, name, expiry_ms], acks))


def _decide_record(
    brain: Brain, name: bytes, request: Callable[[View], Request], acks: Acks | None
) -> Plan[bytes | None]:
    check_reachable(brain, name, acks)
    began = brain.clock()
    decider, reply = yield from _decide(brain, name, request)
    if reply[1] == Status.MISS:
        return None
    record: bytes = reply[2]
    yield from copy(brain, name, record, decider, brain.clock() - began, acks)
    return record


def _decide(brain: Brain, name: bytes, request: Callable[[View], Request]) -> Plan[tuple[str, Message]]:
    """Have the first reachable owner decide; returns it and its reply."""
    deadline = brain.clock() + brain.config.timeout
    while True:
        view = brain.require_view()
        partition = view.partition(name)
        failures: dict[str, KvCacheError] = {}
        for node in view.owners[partition]:
            if node in brain.down:
                continue
            asked = request(view)
            outcome = yield from _ask(brain, node, asked, deadline)
            error = as_error(outcome, node, asked[1])
            if error is None:
                return node, outcome
            failures[node] = error
            if isinstance(error, REROUTE):
                break
            if not isinstance(error, ConnectFailed):
                raise error
            if brain.clock() >= deadline:
                break
        else:
            raise why_unavailable(brain, view, partition, failures)
        if not may_reroute(brain, deadline):
            raise why_unavailable(brain, view, partition, failures)
        yield REFRESH
        yield Pause(REROUTE_PAUSE)


def _ask(brain: Brain, node: str, request: Request, deadline: float) -> Plan[Any]:
    """Ask one node; it gets an attempt, or what is left of the call."""
    if brain.clock() + brain.attempt <= deadline:
        outcome = yield node, request
    else:
        (outcome,) = yield Within([(node, request)], time_left(brain, deadline))
    return outcome
