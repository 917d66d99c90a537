"""Reading one key: from an owner, else from the next, else from a stand-in.

Here lives how a get finds its record when nodes fail. Never here: writing, or what a record means to the caller. ::

    owner 1 --fails--> owner 2 --fails--> stand-ins (PEEK) --nothing--> Unavailable
       |miss               |miss
       `--------> is an owner unreachable? ask every other copy too, the newest wins; else it is a miss

A miss is only believed while all owners can be reached: while one can't, writes that it would have taken lie on a stand-in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final, TypeVar

from kvcache_client.core.brain import Brain
from kvcache_client.core.effects import REFRESH, Ask, Outcome, Pause, Plan, Within
from kvcache_client.core.link import error_of
from kvcache_client.core.routing import View
from kvcache_client.core.space import Space
from kvcache_client.protocol.codec import Key
from kvcache_client.protocol.errors import (
    ConnectionLost,
    DeadlineExceeded,
    InDoubt,
    KvCacheError,
    MalformedFrame,
    NoAnswer,
    NotApplied,
    NotOwner,
    NotReady,
    Overloaded,
    StaleEpoch,
    Unavailable,
)
from kvcache_client.protocol.record import is_tombstone
from kvcache_client.protocol.verbs import Status, Verb

__all__ = [
    "REROUTE",
    "REROUTE_ANSWERED",
    "REROUTE_PAUSE",
    "as_error",
    "fetch",
    "read",
    "read_carefully",
    "time_left",
    "time_spent",
    "why_unavailable",
]

T = TypeVar("T")
D = TypeVar("D")

# Plain ints on the hot path: an attribute of an enum class costs a look-up more.
_GET: Final = int(Verb.GET)
_OK: Final = int(Status.OK)
_MISS: Final = int(Status.MISS)

REROUTE = (NotOwner, StaleEpoch, NotReady, Overloaded)
"""Answers that say: not here or not now. The node is well; ask again after a look at the newest topology."""

REROUTE_ANSWERED = (NotOwner, StaleEpoch)
"""The same where an owner has answered: only a newer topology could change what it said."""

REROUTE_PAUSE = 0.01
"""Seconds before a request is routed again, so that a cluster in change is not hammered."""


def read(brain: Brain, space: Space, key: Key, finish: Callable[[bytes], T], default: D) -> Plan[T | D]:
    """Return ``finish`` of the key's live record, or ``default`` on a miss. The hot path of every get."""
    name = space.name_of(key)
    first: Outcome | None = None
    if not brain.down:
        view = brain.view or brain.require_view()
        first = yield view.owners_of(name)[0], [0, _GET, name]
        try:
            if first.__class__ is tuple:
                status = first[1]
                if status == _OK:
                    record: bytes = first[2]
                    space.lookups.hits += 1
                    return finish(record)
                if status == _MISS:
                    space.lookups.misses += 1
                    return default
        except (IndexError, TypeError):  # not a reply to GET, as the careful way finds out; here the check would cost
            pass
    found = yield from read_carefully(brain, name, first)
    if found is None:
        space.lookups.misses += 1
        return default
    space.lookups.hits += 1
    return finish(found)


def fetch(brain: Brain, space: Space, key: Key) -> Plan[bytes | None]:
    """Return the key's live record, or None."""
    return read(brain, space, key, bytes, None)


def read_carefully(brain: Brain, name: bytes, first: Outcome | None = None, spent: float = 0.0) -> Plan[bytes | None]:
    """Read while nodes fail or the cluster changes; ``first`` is what the primary answered, if it was asked.

    ``spent`` is what of the call's time (seconds) has gone by already.
    """
    if first is not None:
        spent += time_spent(brain, (first,))
    deadline = brain.clock() + brain.config.timeout - spent
    while True:
        view = brain.require_view()
        partition = view.partition(name)
        failures: dict[str, KvCacheError] = {}
        if first is not None:
            primary = view.owners[partition][0]
            failures[primary] = as_error(first, primary, Verb.GET) or MalformedFrame(f"no hit, no miss: {first!r:.60}")
            brain.counters.failed_over_reads += 1
            first = None
        answered, record = yield from _ask_owners(brain, view, name, partition, failures, deadline)
        if record is not None or (answered and not _missing_owners(brain, view, partition, failures)):
            return record
        # An owner that still loads says so; if another, complete one answered, a look at all copies settles it.
        passing = REROUTE_ANSWERED if answered else REROUTE
        if any(isinstance(error, passing) for error in failures.values()) and brain.clock() < deadline:
            yield REFRESH
            yield Pause(REROUTE_PAUSE)
            continue
        return (yield from _ask_copies(brain, view, name, partition, failures, answered, deadline))


def _ask_owners(
    brain: Brain, view: View, name: bytes, partition: int, failures: dict[str, KvCacheError], deadline: float
) -> Plan[tuple[bool, bytes | None]]:
    """Ask owner after owner, the reachable ones only; returns (somebody answered, record)."""
    for node in view.owners[partition]:
        if node in failures or node in brain.down:
            continue
        (outcome,) = yield Within([(node, [0, Verb.GET, name])], time_left(brain, deadline))
        error = as_error(outcome, node, Verb.GET)
        if error is None:
            return True, (outcome[2] if outcome[1] == Status.OK else None)
        failures[node] = error
        brain.counters.failed_over_reads += 1
        if brain.clock() >= deadline:
            break
    return False, None


def _missing_owners(brain: Brain, view: View, partition: int, failures: dict[str, KvCacheError]) -> list[str]:
    """Return the owners that can't be asked, so that what they should hold may lie elsewhere."""
    return [node for node in view.owners[partition] if node in brain.down or node in failures]


def _ask_copies(
    brain: Brain,
    view: View,
    name: bytes,
    partition: int,
    failures: dict[str, KvCacheError],
    answered: bool,
    deadline: float,
) -> Plan[bytes | None]:
    """Ask every node that may hold a copy, stand-ins included; the newest wins, a tombstone is a miss."""
    owners = view.owners[partition]
    missing = _missing_owners(brain, view, partition, failures)
    well = [node for node in owners if node not in missing]
    others = (*view.moving_to_or_from(partition), *islice(_well_stand_ins(brain, view, partition), len(missing)))
    # Nobody else left: an owner in its back-off gets its chance too.
    last_resort = [] if answered else [node for node in missing if node not in failures]
    # That an old connection broke says little about the node behind it: once more, on a new one.
    again = [node for node in missing if isinstance(failures.get(node), ConnectionLost)]
    nodes = [*well, *others, *last_resort, *again]
    newest: bytes | None = None
    held: dict[str, bytes] = {}
    if nodes and brain.clock() < deadline:
        asks: list[Ask] = [(node, [0, Verb.PEEK, name]) for node in nodes]
        outcomes = yield Within(asks, time_left(brain, deadline))
        for node, outcome in zip(nodes, outcomes, strict=True):
            refusal = as_error(outcome, node, Verb.PEEK)
            if refusal is not None:
                failures[node] = refusal
                continue
            answered = answered or node in owners
            held[node] = outcome[2] if outcome[1] == Status.OK else b""
            newest = max(newest or b"", held[node]) or None
    if newest is not None:
        behind = [node for node in well if node in held and held[node] < newest]
        yield from _repair(brain, view, name, newest, behind, deadline)
        return None if is_tombstone(newest) else newest
    if answered:
        return None
    raise why_unavailable(brain, view, partition, failures)


def _repair(brain: Brain, view: View, name: bytes, newest: bytes, behind: list[str], deadline: float) -> Plan[None]:
    """Bring the newest record, version and expiry as they are, to owners that answered with something older."""
    if behind and brain.clock() < deadline:
        brain.counters.repaired_copies += len(behind)
        yield Within([(node, [0, Verb.PUT, view.epoch, name, newest]) for node in behind], time_left(brain, deadline))


def _well_stand_ins(brain: Brain, view: View, partition: int) -> Iterator[str]:
    return (node for node in view.stand_ins(partition) if node not in brain.down)


def as_error(outcome: Outcome, node: str, verb: Verb) -> KvCacheError | None:
    """Return the error that ``outcome`` is or carries, or None if it is a reply to ``verb``."""
    return outcome if isinstance(outcome, KvCacheError) else error_of(outcome, node, verb)


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
    return max(min(brain.attempt, deadline - brain.clock()), 0.001)


def why_unavailable(brain: Brain, view: View, partition: int, failures: dict[str, KvCacheError]) -> KvCacheError:
    """Return the error for a call that nobody could answer: each node and why."""
    reasons = {node: str(error) for node, error in failures.items()}
    for node in view.owners[partition]:
        entry = brain.down.get(node)
        if node not in reasons and entry is not None:
            reasons[node] = f"avoided: {entry.reason}"
    text = "; ".join(f"{node} ({view.addresses.get(node, '?')}): {why}" for node, why in reasons.items())
    if failures and all(isinstance(error, NoAnswer) for error in failures.values()):
        return DeadlineExceeded(f"no owner answered in {brain.config.timeout} s: {text}", detail=partition)
    for error in failures.values():
        if not isinstance(error, NotApplied | InDoubt):
            return error  # the node understood and refused: no other node will say otherwise
    return Unavailable(f"no copy of partition {partition} can be reached: {text}", detail=partition)
