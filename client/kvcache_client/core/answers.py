"""Answers: what to make of what came back, and of the time that has gone by.

Here lives what all plans share about outcomes: is it an error, may another route help, how long may the next round take, what is
said when nobody is left. Never here: asking.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final

from kvcache_client.core.brain import Brain
from kvcache_client.core.effects import REFRESH, Outcome, Pause, Plan, Round, Within
from kvcache_client.core.link import error_of
from kvcache_client.core.routing import View
from kvcache_client.protocol.errors import (
    ConnectFailed,
    ConnectionLost,
    DeadlineExceeded,
    InDoubt,
    KvCacheError,
    NoAnswer,
    NodeFault,
    NotApplied,
    NotOwner,
    NotReady,
    Overloaded,
    ProtocolError,
    StaleEpoch,
    Unavailable,
)
from kvcache_client.protocol.verbs import Verb

__all__ = [
    "REROUTE",
    "REROUTE_ANSWERED",
    "REROUTE_PAUSE",
    "as_error",
    "before_rerouting",
    "blame",
    "has_attempt",
    "has_room",
    "is_refused",
    "may_repeat",
    "may_reroute",
    "refusal_of",
    "time_left",
    "time_spent",
    "too_late",
    "why_unavailable",
    "within",
]

REROUTE = (NotOwner, StaleEpoch, NotReady, Overloaded)
"""Answers that say: not here or not now. The node is well; ask again after a look at the newest topology."""

REROUTE_ANSWERED = (NotOwner, StaleEpoch)
"""The same where an owner has answered: only a newer topology could change what it said."""

_FREE = (ConnectFailed, NotOwner, StaleEpoch, NotReady)

REROUTE_PAUSE = 0.01
"""Seconds before a request is routed again, so that a cluster in change is not hammered."""

_JITTER: Final = 0.2
"""Who was told to ask again later comes up to so much later still, as a share of the time: not all at once."""

_ROOM: Final = 0.1
"""What must be left of a call after such a wait, as a share of its whole time: less would be too little for an answer."""

_LATE: Final = 0.05
"""By how much a round may outlast its call, as a share of the call's time: with one node, an attempt is all that a call has."""

_LEAST: Final = 0.001
"""Seconds that a node gets at least: with less left, nothing is sent any more."""


def as_error(outcome: Outcome, node: str, verb: Verb) -> KvCacheError | None:
    """Return the error that ``outcome`` is or carries, or None if it is a reply to ``verb``."""
    return outcome if isinstance(outcome, KvCacheError) else error_of(outcome, node, verb)


def blame(brain: Brain, node: str, error: KvCacheError, seconds: float = math.inf) -> None:
    """Count a failure that says something about the node itself; three of them make reads avoid it.

    One that only has too much to do is not to blame, but is left alone for as long as it says. Nor is one that had only those
    few ``seconds`` for its answer, because the call was nearly over.
    """
    if isinstance(error, Overloaded):
        brain.shedding.refused(node, error)
    if isinstance(error, NoAnswer | ConnectionLost) and not brain.tells_silence(seconds):
        return
    if isinstance(error, NoAnswer | ConnectionLost | NodeFault | ProtocolError):
        brain.health.met(node, error)
        brain.breaker.failed(node, f"{type(error).__name__}: {error}")


def may_repeat(brain: Brain, failures: Mapping[str, KvCacheError], requests: int = 1, *, paid: bool = False) -> bool:
    """Say whether so many requests may be sent because others failed. Where none of those was even sent, it is no repetition.

    Nor is it where nodes only said that they are not the ones to ask: that costs them next to nothing, and a node that has just
    come back says it to everybody.

    ``paid`` says that the call is part of a batch, which has a token for all its keys; but not for those that were refused.
    """
    if _has_refusal(failures):
        return brain.retry(requests, refused=True)
    return paid or all(isinstance(error, _FREE) for error in failures.values()) or brain.retry(requests)


def may_reroute(brain: Brain, deadline: float, failures: Mapping[str, KvCacheError], *, paid: bool = False) -> bool:
    """Say whether a request that came to the wrong node, or too early, may be sent again.

    Once for nothing where a node goes by a newer topology than ours: then all clients are told so at once, and it was we who
    asked the wrong one. Where nodes have too much to do, only if the time they ask for is over before the call is, and only if
    they have not been refusing for longer than that already.
    """
    wait = _wait_asked_for(failures)
    if wait:
        busy = [node for node, error in failures.items() if isinstance(error, Overloaded)]
        over = brain.clock() + wait * (1 + _JITTER) + _ROOM * brain.config.timeout
        if over > deadline or all(map(brain.shedding.lasts, busy)):
            return False
        return brain.retry(refused=True)
    return brain.clock() < deadline and (paid or _is_outdated(brain, failures) or brain.retry())


def _has_refusal(failures: Mapping[str, KvCacheError]) -> bool:
    return any(isinstance(error, Overloaded) for error in failures.values())


def refusal_of(node: str, outcome: Outcome) -> Overloaded | None:
    """Return the error with which a node that has too much to do, and says for how long, has refused a whole frame."""
    if outcome.__class__ is tuple and outcome[1:2] == (Overloaded.code,):
        error = error_of(outcome, node)
        return error if isinstance(error, Overloaded) and error.retry_after else None
    return None


def is_refused(failures: Mapping[str, KvCacheError]) -> bool:
    """Say whether whoever was asked has too much to do, and knows when that may be over: an answer, not a failure."""
    return bool(failures) and all(isinstance(error, Overloaded) and error.retry_after for error in failures.values())


def _wait_asked_for(failures: Mapping[str, KvCacheError]) -> float:
    """Return the seconds that nodes want to be left alone for, 0.0 unless that is all that stands in the way."""
    passing = [error for error in failures.values() if isinstance(error, REROUTE)]
    times = [error.retry_after for error in passing if isinstance(error, Overloaded)]
    return max(times) if times and len(times) == len(passing) else 0.0


def _is_outdated(brain: Brain, failures: Mapping[str, KvCacheError]) -> bool:
    epoch = brain.require_view().epoch
    told = (error.detail for error in failures.values() if isinstance(error, NotOwner | StaleEpoch | NotReady))
    return any(isinstance(newest, int) and newest > epoch for newest in told)


def before_rerouting(brain: Brain, deadline: float, failures: Mapping[str, KvCacheError]) -> Plan[None]:
    """Look at the newest topology, unless nodes only have too much to do, and wait: a little, or as long as they say.

    A look takes an attempt where nodes are silent: what is left of the call must suffice for one.
    """
    busy = all(isinstance(error, Overloaded) for error in failures.values() if isinstance(error, REROUTE))
    if not busy and brain.clock() + brain.attempt <= deadline:
        yield REFRESH
    wait = _wait_asked_for(failures)
    yield Pause(wait * (1 + _JITTER * brain.draw()) if wait else REROUTE_PAUSE)


def time_spent(brain: Brain, outcomes: Iterable[Outcome]) -> float:
    """Return the seconds to charge for a first round, at whose begin the hot path did not look at the clock.

    A whole attempt, so that no call takes longer than its timeout; but where there is one node only, an attempt is all that
    a call has, and only silence is sure to have used it up.
    """
    alone = brain.attempt >= brain.config.timeout
    silent = any(outcome.__class__ is NoAnswer for outcome in outcomes)
    return 0.0 if alone and not silent else brain.attempt


def time_left(brain: Brain, deadline: float) -> float:
    """Return the seconds that one more round may take: an attempt, or what is left of the call."""
    return max(min(brain.attempt, deadline - brain.clock()), _LEAST)


def too_late(brain: Brain, deadline: float) -> DeadlineExceeded | None:
    """Return the error for what is not sent any more because the call is as good as over, or None if there is time."""
    if deadline - brain.clock() >= _LEAST:
        return None
    return DeadlineExceeded(f"not asked any more: the call has had its {brain.config.timeout} s")


def has_room(brain: Brain, deadline: float) -> bool:
    """Say whether enough is left of a call to begin something new."""
    return deadline - brain.clock() >= _ROOM * brain.config.timeout


def has_attempt(brain: Brain, deadline: float, now: float) -> bool:
    """Say whether a whole attempt is left of a call, as good as: what went by before the first round is not counted."""
    return deadline - now >= brain.attempt - _LATE * brain.config.timeout


def within(brain: Brain, asks: Round, deadline: float) -> Round | Within:
    """Return the effect that asks, for no longer than an attempt or what is left of the call."""
    return asks if has_attempt(brain, deadline, brain.clock()) else Within(asks, time_left(brain, deadline))


def why_unavailable(brain: Brain, view: View, partition: int, failures: dict[str, KvCacheError]) -> KvCacheError:
    """Return the error for a call that nobody could answer: each node and why."""
    if is_refused(failures):
        return next(iter(failures.values()))
    reasons = {node: str(error) for node, error in failures.items()}
    for node in view.owners[partition]:
        entry = brain.down.get(node)
        if node not in reasons and entry is not None:
            reasons[node] = f"avoided: {entry.reason}"
    text = "; ".join(f"{node} ({view.addresses.get(node, '?')}): {why}" for node, why in reasons.items())
    if failures and all(isinstance(error, NoAnswer | DeadlineExceeded) for error in failures.values()):
        return DeadlineExceeded(f"no owner answered in {brain.config.timeout} s: {text}", detail=partition)
    for error in failures.values():
        if not isinstance(error, NotApplied | InDoubt):
            return error  # the node understood and refused: no other node will say otherwise
    return Unavailable(f"no copy of partition {partition} can be reached: {text}", detail=partition)
