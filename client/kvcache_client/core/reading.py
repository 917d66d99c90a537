"""Reading one key: from the owner that the balancing policy picks, else from the next, else from a stand-in.

Here lives how a get finds its record when nodes fail. Never here: writing, comparing copies (``copies``), or what a record
means to the caller. ::

    the chosen owner --fails--> the next owner --fails--> stand-ins (PEEK) --nothing--> Unavailable
       |miss                      |miss
       `--------> is an owner unreachable? ask every other copy too, the newest wins; else it is a miss

A miss is only believed while all owners can be reached: while one can't, writes that it would have taken lie on a stand-in.
An owner that may lack one of this client's own writes is not believed at all (``lagging``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias, TypeVar

from mmh3 import mmh3_x64_128_utupledigest

from kvcache_client.core.answers import (
    REROUTE,
    REROUTE_ANSWERED,
    REROUTE_PAUSE,
    as_error,
    before_rerouting,
    blame,
    is_refused,
    may_repeat,
    may_reroute,
    time_left,
    time_spent,
    too_late,
    why_unavailable,
)
from kvcache_client.core.balancing import Balancing, Owners, States
from kvcache_client.core.brain import Brain
from kvcache_client.core.consistency import check_level
from kvcache_client.core.copies import ask_copies, heal, missing_owners, read_at_level
from kvcache_client.core.effects import Outcome, Plan, Slow, Within
from kvcache_client.core.failing_open import is_forgiven
from kvcache_client.core.hedging import race
from kvcache_client.core.lookups import MissReason, why_failed
from kvcache_client.core.routing import View
from kvcache_client.core.space import Space
from kvcache_client.core.trust import trusted_owners
from kvcache_client.placement.partitions import PARTITION_SHIFT
from kvcache_client.protocol.codec import Key, SoftRecord
from kvcache_client.protocol.errors import KvCacheError, MalformedFrame, NotReady
from kvcache_client.protocol.record import is_soft, stale_from, unsoftened
from kvcache_client.protocol.verbs import Status, Verb

__all__ = [
    "REROUTE",
    "REROUTE_ANSWERED",
    "REROUTE_PAUSE",
    "as_error",
    "fetch",
    "hard",
    "how_to_read",
    "read",
    "read_as",
    "read_carefully",
    "time_left",
    "time_spent",
    "why_not_found",
    "why_unavailable",
]

T = TypeVar("T")
D = TypeVar("D")

Asked: TypeAlias = tuple[str, Outcome | Slow]
"""An owner that was asked first, and what came of it so far."""

Answered: TypeAlias = tuple[str, Outcome]

# Plain ints on the hot path: an attribute of an enum class costs a look-up more.
_GET: Final = int(Verb.GET)
_OK: Final = int(Status.OK)
_MISS: Final = int(Status.MISS)


def read(brain: Brain, space: Space, key: Key, finish: Callable[[bytes], T], default: D) -> Plan[T | D]:
    """Return ``finish`` of the key's live record, or ``default`` on a miss. The hot path of every get."""
    name = space.name_of(key)
    try:
        if brain.down or brain.opened or brain.behind or brain.level is not None:
            record, said = yield from _read_warily(brain, name, brain.choose, brain.level)
            return _found(brain, space, name, record, finish, default, said)
        view = brain.view or brain.require_view()
        owners = view.owners[mmh3_x64_128_utupledigest(name, view.seed)[0] >> PARTITION_SHIFT]
        node = brain.choose(owners, brain.nodes)
        first = yield node, [0, _GET, name]
        try:
            if first.__class__ is tuple:
                status = first[1]
                if status == _OK:
                    found: bytes = first[2]
                    space.lookups.hits += 1
                    return finish(found)
                if status == _MISS:
                    space.lookups.missed(first[2] if len(first) > 2 else 0)
                    return default
        except SoftRecord as soft:
            return _unless_stale(brain, space, soft.record, finish, default)
        except (IndexError, TypeError):  # not a reply to GET, as the careful way finds out; here the check would cost
            pass
        record = yield from read_carefully(brain, name, (node, first))
        return _found(brain, space, name, record, finish, default)
    except KvCacheError as error:
        return _unless_forgiven(brain, space, error, default)


def _unless_forgiven(brain: Brain, space: Space, error: KvCacheError, default: D) -> D:
    """Raise ``error``, or count a read that fails open."""
    if not is_forgiven(brain, error):
        raise error
    brain.counters.failed_open_reads += 1
    space.lookups.missed(why_failed(error))
    return default


def _found(
    brain: Brain,
    space: Space,
    name: bytes,
    record: bytes | None,
    finish: Callable[[bytes], T],
    default: D,
    said: object = None,
) -> T | D:
    """Count what was found with some care and return what the caller gets of it; ``said`` is an owner's reason of a miss."""
    if record is None:
        space.lookups.missed(said or why_not_found(brain, name))
        return default
    space.lookups.hits += 1
    try:
        return finish(record)
    except SoftRecord as soft:
        return _unless_stale(brain, space, soft.record, finish, default)


def _unless_stale(brain: Brain, space: Space, record: bytes, finish: Callable[[bytes], T], default: D) -> T | D:
    """Return what the caller gets of a record with a soft expiry: past that, it is a miss."""
    if brain.hlc.now_ms() < stale_from(record):
        return finish(unsoftened(record))
    space.lookups.hits -= 1
    space.lookups.missed(MissReason.EXPIRED)
    return default


def read_as(
    brain: Brain,
    space: Space,
    key: Key,
    finish: Callable[[bytes], T],
    default: D,
    consistency: str | None,
    balancing: str | Balancing | None,
) -> Plan[T | D]:
    """Read at a consistency and by a policy of the call's own; None is the client's."""
    if consistency is None and balancing is None:
        return (yield from read(brain, space, key, finish, default))
    level, choose = how_to_read(brain, consistency, balancing)
    name = space.name_of(key)
    try:
        record, said = yield from _read_warily(brain, name, choose, level)
        return _found(brain, space, name, record, finish, default, said)
    except KvCacheError as error:
        return _unless_forgiven(brain, space, error, default)


def why_not_found(brain: Brain, name: bytes) -> MissReason:
    """Return the reason of a miss that was not the word of one owner alone."""
    gone = brain.down and any(node in brain.down for node in brain.require_view().owners_of(name))
    return MissReason.NODE_DOWN if gone else MissReason.ABSENT


def how_to_read(
    brain: Brain, consistency: str | None, balancing: str | Balancing | None
) -> tuple[str | None, Callable[[Owners, States], str]]:
    """Return the level, None if one copy is enough, and the policy of a call. Raises ``InvalidOption``."""
    level = brain.level if consistency is None else check_level(consistency)
    choose = brain.choose if balancing is None else brain.policy(balancing).choose
    return (None if level == "one" else level), choose


def fetch(brain: Brain, space: Space, key: Key) -> Plan[bytes | None]:
    """Return the key's live record, or None."""
    return read(brain, space, key, hard, None)


def hard(record: bytes) -> bytes:
    """Return the record as it is: for those that read records and not values. Raises ``SoftRecord``, which reads understand."""
    if is_soft(record):
        raise SoftRecord(record)
    return record


def _read_warily(
    brain: Brain, name: bytes, choose: Callable[[Owners, States], str], level: str | None
) -> Plan[tuple[bytes | None, object]]:
    """Read while some nodes are avoided or behind: a key whose owners are well is read as fast as ever.

    Returns the record, and the reason of a miss if the first owner gave one.
    """
    if level is not None:
        return (yield from read_at_level(brain, name, level)), None
    view = brain.require_view()
    partition = view.partition(name)
    owners = trusted_owners(brain, view, partition, name)
    if not owners:
        return (yield from read_carefully(brain, name)), None
    began = brain.clock()
    probed = brain.breaker.due(view.owners[partition]) if brain.opened else None
    if probed in brain.down or (probed is not None and brain.behind and probed in brain.lagging.of(partition, name)):
        probed = None
    node = probed or choose(owners, brain.nodes)
    first = yield node, [0, _GET, name]
    if first.__class__ is tuple and as_error(first, node, Verb.GET) is None:
        if probed is not None:
            brain.breaker.probed(node, brain.clock() - began)
        if first[1] == _OK:
            record: bytes = first[2]
            if name in brain.behind:
                yield from heal(brain, view, partition, name, record)
            return record, None
        said = first[2] if len(first) > 2 else None
        return (yield from read_carefully(brain, name, (node, first))), said
    return (yield from read_carefully(brain, name, (node, first))), None


def read_carefully(
    brain: Brain, name: bytes, first: Asked | None = None, spent: float = 0.0, *, paid: bool = False
) -> Plan[bytes | None]:
    """Read while nodes fail or the cluster changes; ``first`` is who was asked already, and what came of it.

    ``spent`` is what of the call's time (seconds) has gone by already; ``paid`` as in ``may_repeat``.
    """
    asked, deadline = yield from _finish_first(brain, name, first, spent)
    for node, outcome in asked:
        if as_error(outcome, node, Verb.GET) is None and outcome[1] == _OK:  # type: ignore[index]  # it is a message
            return outcome[2]  # type: ignore[index,no-any-return]
    again = paid or first is not None
    while True:
        view = brain.require_view()
        partition = view.partition(name)
        failures: dict[str, KvCacheError] = {}
        answered, record = _note(brain, asked, failures), None
        asked = []
        if not answered:
            answered, record = yield from _ask_owners(brain, view, name, partition, failures, deadline, paid, again)
        settled = not missing_owners(brain, view, partition, failures) and name not in brain.behind
        if record is not None or (answered and settled):
            return record
        # An owner that still loads says so; if another, complete one answered, a look at all copies settles it.
        passing = REROUTE_ANSWERED if answered else REROUTE
        if any(isinstance(error, passing) for error in failures.values()) and may_reroute(
            brain, _end_of_rerouting(brain, deadline, failures), failures, paid=paid
        ):
            yield from before_rerouting(brain, deadline, failures)
            again = True
            continue
        if not answered and is_refused(failures) and not any(node in brain.down for node in view.owners[partition]):
            raise why_unavailable(brain, view, partition, failures)
        return (yield from ask_copies(brain, view, name, partition, failures, answered, deadline, paid=paid))


def _end_of_rerouting(brain: Brain, deadline: float, failures: dict[str, KvCacheError]) -> float:
    """Return until when owners are asked again; while they load, the last attempt is kept for a look at all copies."""
    loading = any(isinstance(error, NotReady) for error in failures.values())
    return deadline - brain.attempt if loading and brain.attempt < brain.config.timeout else deadline


def _finish_first(brain: Brain, name: bytes, first: Asked | None, spent: float) -> Plan[tuple[list[Answered], float]]:
    """Return who has answered what so far, and the time at which the call must end; an answer that is slow is waited for."""
    now = brain.clock()
    if first is None:
        return [], now + brain.config.timeout - spent
    node, outcome = first
    if not isinstance(outcome, Slow):
        return [(node, outcome)], now + brain.config.timeout - spent - time_spent(brain, (outcome,))
    view = brain.require_view()
    asked = yield from race(brain, view, view.partition(name), name, outcome)
    return asked, now + brain.config.timeout - outcome.waited


def _note(brain: Brain, asked: list[Answered], failures: dict[str, KvCacheError]) -> bool:
    """Take note of what those that were asked first have said; returns whether one of them said that it is a miss."""
    missed = False
    for node, outcome in asked:
        error = as_error(outcome, node, Verb.GET)
        if error is None and outcome[1] == _MISS:  # type: ignore[index]  # as_error let only messages through
            missed = True
            continue
        failures[node] = error or MalformedFrame(f"no hit, no miss: {outcome!r:.60}", node=node)
        blame(brain, node, failures[node])
        brain.counters.failed_over_reads += 1
    return missed


def _ask_owners(
    brain: Brain,
    view: View,
    name: bytes,
    partition: int,
    failures: dict[str, KvCacheError],
    deadline: float,
    paid: bool,
    again: bool,
) -> Plan[tuple[bool, bytes | None]]:
    """Ask owner after owner, those only that can be reached and believed; returns (somebody answered, record).

    ``again`` says that the call has asked before; then one that wants to be left alone is, and what it said still holds.
    """
    lagging = brain.lagging.of(partition, name) if brain.behind else ()
    for node in sorted(view.owners[partition], key=brain.avoided.__contains__):
        if node in failures or node in brain.down or node in lagging:
            continue
        refusal = brain.shedding.refusal(node) if again or failures else None
        if refusal is not None:
            failures[node] = refusal
            continue
        late = too_late(brain, deadline)
        if late is not None:
            failures[node] = late
            break
        if not may_repeat(brain, failures, paid=paid):
            break
        seconds = time_left(brain, deadline)
        (outcome,) = yield Within([(node, [0, Verb.GET, name])], seconds)
        error = as_error(outcome, node, Verb.GET)
        if error is None:
            return True, (outcome[2] if outcome[1] == Status.OK else None)
        failures[node] = error
        blame(brain, node, error, 0.0 if paid else seconds)  # a batch asks a node for much at a time
        brain.counters.failed_over_reads += 1
        if brain.clock() >= deadline:
            break
    return False, None
