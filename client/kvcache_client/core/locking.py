"""Locking: asking the cluster for a lock.

Here live the plans: any node does the coordinator's part, so a client needs neither Redis nor its credentials. Never here:
holding a lock (the bodies), or keeping it (``kvcache.cluster.lock_store``).

Every request carries a token that was drawn for this one acquisition, so each may be sent again, to another node too, when its
answer was lost: the same token gets the same fence.
"""

from __future__ import annotations

import json
from typing import Any, Final

from kvcache_client.core.brain import Brain
from kvcache_client.core.effects import Plan, Within
from kvcache_client.core.reading import as_error
from kvcache_client.protocol.errors import (
    ConnectFailed,
    ControlPlaneUnavailable,
    InDoubt,
    InvalidOption,
    KvCacheError,
    MalformedFrame,
    NotReady,
    Unavailable,
)
from kvcache_client.protocol.shown import shown
from kvcache_client.protocol.verbs import Message, Status, Verb

__all__ = ["NAME_CHARACTERS", "acquire", "ask_any", "check_name", "check_seconds", "held_locks", "release", "renew"]

NAME_CHARACTERS: Final = 180

_ELSEWHERE: Final = (ConnectFailed, InDoubt, NotReady)
"""What another node may do better."""

_NODE_SECONDS: Final = 1.2
"""What one node may take: it asks the others for their fences, and the coordinator."""

_REST_SECONDS: Final = 0.3
"""How soon a node must have said that it can't reach the coordinator for others to be asked too: an operator is told in 1 s."""


def check_name(name: object, prefix: str = "") -> str:
    """Return the name of a lock, with the prefix of its namespace, or raise ``InvalidOption``."""
    whole = prefix + name if isinstance(name, str) else name
    if not isinstance(whole, str) or not 0 < len(whole) <= NAME_CHARACTERS or not whole.isprintable():
        raise InvalidOption(f"a lock has a name of 1 to {NAME_CHARACTERS} printable characters, not {shown(whole, 60)}")
    return whole


def check_seconds(option: str, value: float, low: float, high: float) -> float:
    """Return ``value`` if it is a number of seconds within the limits, or raise ``InvalidOption``."""
    if type(value) not in (int, float) or not low <= value <= high:  # also false for NaN
        raise InvalidOption(f"{option}={shown(value, 60)}: must be {low:g} to {high:g} seconds")
    return value


def acquire(brain: Brain, resource: str, token: str, lease_ms: int, doing: str) -> Plan[int]:
    """Take the lock and return its fence. Raises ``AdminBusy``, which says who has it."""
    reply = yield from ask_any(brain, [0, Verb.LOCK, resource, token, lease_ms, doing[:200]])
    fence: int = reply[2]
    return fence


def renew(brain: Brain, resource: str, token: str, lease_ms: int) -> Plan[bool]:
    """Begin a new lease; False when the lock is lost."""
    reply = yield from ask_any(brain, [0, Verb.RENEW, resource, token, lease_ms])
    return bool(reply[1] == Status.OK)


def release(brain: Brain, resource: str, token: str) -> Plan[bool]:
    """Give the lock back; False when it was lost."""
    reply = yield from ask_any(brain, [0, Verb.UNLOCK, resource, token])
    return bool(reply[1] == Status.OK)


def held_locks(brain: Brain) -> Plan[list[dict[str, Any]]]:
    """Return the locks that are held, as plain data."""
    reply = yield from ask_any(brain, [0, Verb.LOCKS])
    try:
        locks = json.loads(reply[2])
    except (ValueError, TypeError, IndexError) as error:
        raise MalformedFrame("not a reply to LOCKS") from error
    return locks if isinstance(locks, list) else []


def ask_any(brain: Brain, request: list[Any], seconds: float = _NODE_SECONDS) -> Plan[Message]:
    """Ask one node after the other until one answers; each may take so many seconds.

    Raises what it answered, ``ControlPlaneUnavailable`` if the coordinator can't be reached from there, or ``Unavailable`` if no
    node answered.
    """
    began = brain.clock()
    view = brain.require_view()
    members = [member for member in view.topology.members if member.state != "down"]
    nodes = sorted((member.id for member in members), key=lambda node: (node in brain.down, brain.draw()))
    failures: list[KvCacheError] = []
    for node in nodes:
        (outcome,) = yield Within([(node, list(request))], seconds)
        error = as_error(outcome, node, request[1])
        if error is None:
            reply: Message = outcome
            return reply
        at_once = isinstance(error, ControlPlaneUnavailable) and brain.clock() - began < _REST_SECONDS
        if not (at_once or isinstance(error, _ELSEWHERE)):
            raise error
        failures.append(error)
    for failure in failures:
        if isinstance(failure, ControlPlaneUnavailable):
            raise failure
    raise Unavailable("no node could do the coordinator's part: " + "; ".join(map(str, failures)))
