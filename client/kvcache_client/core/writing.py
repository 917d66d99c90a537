"""Writing one key: to all owners at once, to stand-ins for those that can't be reached.

While data moves, the owners before and after the move are both told. Only those that answer reads count for the
acknowledgement; what one of the others misses is noted with a node that has it, and handed over before reads go there.

Here lives how a record gets onto enough live processes. Never here: which record (``plans``), or operations that an owner
must decide (``deciding``). ::

    record --PUT--> every owner --all OK--------------------------------> acknowledged
                      |a connection broke: once more, on a new one
                      |some failed: HINT to the next nodes on the ring --> acknowledged by enough, else InDoubt
                      |a newer version was there, or our clock is ahead: stamp again, once
                      `not the owner any more: refresh, route again

A write may be repeated at will: the same record is the same write, and nodes keep whichever version is newest.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from kvcache_client.core.answers import (
    REROUTE,
    REROUTE_ANSWERED,
    as_error,
    before_rerouting,
    blame,
    may_reroute,
    time_left,
    time_spent,
    why_unavailable,
)
from kvcache_client.core.brain import Brain
from kvcache_client.core.consistency import Acks
from kvcache_client.core.effects import Ask, Outcome, Plan, Within
from kvcache_client.core.routing import View
from kvcache_client.protocol.errors import (
    ClockSkew,
    ConnectionLost,
    InDoubt,
    KvCacheError,
    NotApplied,
    Overloaded,
    StaleFence,
)
from kvcache_client.protocol.record import restamp, version_of
from kvcache_client.protocol.verbs import Request, Status, Verb

__all__ = ["Written", "check_reachable", "copy", "write", "write_carefully"]

_OK: Final = int(Status.OK)
_MISS: Final = int(Status.MISS)
_PUT: Final = int(Verb.PUT)


class Written(NamedTuple):
    """What became of a write: the version it has, and whether something live was there before.

    ``superseded`` says that a newer version of the key was met, written at the same time, also under the second stamp.
    """

    version: int
    existed: bool
    superseded: bool = False


@dataclass(slots=True)
class _Tally:
    """What the nodes answered to one record so far."""

    acked: set[str] = field(default_factory=set)
    failures: dict[str, KvCacheError] = field(default_factory=dict)
    existed: bool = False
    maybe_applied: bool = False
    newer: int = 0
    """The newest version that stood in the way."""
    cluster_ms: int = 0
    """The time of a node that found our version too far ahead."""

    def note(self, brain: Brain, node: str, outcome: Outcome) -> None:
        error = as_error(outcome, node, Verb.PUT)
        if error is not None:
            self.failures[node] = error
            blame(brain, node, error)
            self.maybe_applied |= isinstance(error, InDoubt)
            if isinstance(error, ClockSkew) and isinstance(error.detail, int):
                self.cluster_ms = error.detail
            return
        self.acked.add(node)
        self.existed |= outcome[1] == _OK  # type: ignore[index]  # as_error let only messages through
        if outcome[1] == Status.SUPERSEDED:  # type: ignore[index]
            self.newer = max(self.newer, outcome[2])  # type: ignore[index]


def check_reachable(brain: Brain, name: bytes, acks: Acks | None) -> None:
    """Raise ``InvalidOption`` if a write of that key can never be acknowledged as the call asks for; send nothing then."""
    if acks is not None:
        view = brain.require_view()
        brain.needed_acks(len(view.owners[view.partition(name)]), acks)


def write(brain: Brain, name: bytes, record: bytes, acks: Acks | None = None) -> Plan[Written]:
    """Put ``record`` on all owners of ``name``. The hot path of every set and delete."""
    if brain.flights:
        brain.flights.pop(name, None)
    view = brain.view or brain.require_view()
    writers = view.writers_of(name)
    if acks is not None:
        check_reachable(brain, name, acks)
    if brain.down:
        return (yield from write_carefully(brain, name, record, acks=acks))
    request = [0, _PUT, view.epoch, name, record]
    if len(writers) == 1:
        outcomes = [(yield writers[0], request)]
    else:
        outcomes = yield [(node, request) for node in writers]
    existed = False
    for outcome in outcomes:
        status = outcome[1] if outcome.__class__ is tuple and len(outcome) > 1 else None
        if status == _OK:
            existed = True
        elif status != _MISS:
            tally = _Tally()
            for node, answer in zip(writers, outcomes, strict=True):
                tally.note(brain, node, answer)
            spent = time_spent(brain, outcomes)
            return (yield from write_carefully(brain, name, record, tally, acks=acks, spent=spent))
    version = version_of(record)
    if brain.lagging.marks:
        brain.lagging.caught_up(name, version, writers)
    return Written(version, existed)


def write_carefully(
    brain: Brain,
    name: bytes,
    record: bytes,
    tally: _Tally | None = None,
    *,
    acks: Acks | None = None,
    spent: float = 0.0,
    stamped: bool = False,
    paid: bool = False,
    operation: int = 0,
) -> Plan[Written]:
    """Write while nodes fail or the cluster changes; ``tally`` is what owners have answered already.

    ``acks`` is what the call asks for, if anything. ``stamped`` says that the version is final (an owner gave it): it is then
    never stamped again. ``paid`` says that a batch has a token of the retry budget for it. ``operation`` is what an owner has
    decided: the others are to know that it is done.
    """
    deadline = brain.clock() + brain.config.timeout - spent
    tally = tally or _Tally()
    resent = rerouted = False
    while True:
        view = brain.require_view()
        partition = view.partition(name)
        writers = view.writers[partition]
        tally.acked.intersection_update(writers)  # a node that has ceased to own drops what it took
        if not stamped and (tally.newer or tally.cluster_ms):
            record, stamped = _stamp_again(brain, record, tally), True
            # Under its first version it may lie somewhere: "not applied" can't be said any more.
            tally = _Tally(existed=tally.existed, maybe_applied=tally.maybe_applied or bool(tally.acked))
        asks: list[Ask] = [
            (node, _put(view, name, record, operation))
            for node in writers
            if node not in tally.acked and node not in tally.failures and node not in brain.down
        ]
        yield from _send(brain, asks, tally, deadline)
        stale = next((error for error in tally.failures.values() if isinstance(error, StaleFence)), None)
        if stale is not None:  # its writer has lost the lock: no other node may be talked into taking it
            raise stale
        if not stamped and (tally.newer or tally.cluster_ms) and brain.clock() < deadline:
            continue
        in_time = brain.clock() < deadline
        if in_time and not resent and _fails_by(tally, ConnectionLost) and (paid or brain.retry()):
            _forget(tally, ConnectionLost)
            # The node may be well, and would miss what is then acknowledged by others: it would answer with the past.
            resent = True
            continue
        # Once for nothing where we asked the wrong node: after a change of the cluster that happens to all calls at once.
        free = paid or (not rerouted and _fails_by(tally, REROUTE_ANSWERED))
        if _fails_by(tally, REROUTE) and may_reroute(brain, deadline, tally.failures, paid=free):
            rerouted = True
            refused = dict(tally.failures)
            _forget(tally, REROUTE)
            yield from before_rerouting(brain, deadline, refused)
            tally.failures.update((node, busy) for node in writers if (busy := brain.shedding.refusal(node)))
            continue
        if _may_hint(brain, tally):
            yield from _hint(brain, view, partition, name, record, tally, deadline)
        held, needed = _held(brain, view, partition, tally, acks)
        # Only then: of a write in doubt a read must not say that it is gone, what was there before still counts.
        if held >= needed:
            _remember_who_lacks_it(brain, view, partition, name, record, tally)
            superseded = tally.newer > version_of(record)
            brain.counters.superseded_writes += superseded
            return Written(version_of(record), tally.existed, superseded)
        raise _not_enough(brain, view, partition, tally, held, needed)


def copy(
    brain: Brain, name: bytes, record: bytes, decider: str, spent: float, acks: Acks | None = None, operation: int = 0
) -> Plan[Written]:
    """Bring a record that ``decider`` has made and holds to the other owners; ``spent`` seconds of the call are gone."""
    tally = _Tally(acked={decider})
    return (
        yield from write_carefully(
            brain, name, record, tally, acks=acks, spent=spent, stamped=True, operation=operation
        )
    )


def _put(view: View, name: bytes, record: bytes, operation: int) -> Request:
    if operation:
        return [0, Verb.COPY, view.epoch, name, record, operation]
    return [0, _PUT, view.epoch, name, record]


def _held(brain: Brain, view: View, partition: int, tally: _Tally, acks: Acks | None) -> tuple[int, int]:
    """Return how many copies count, and how many are needed. Where a level is asked for, only owners count."""
    owners = view.owners[partition]
    needed = brain.needed_acks(len(owners), acks)
    if isinstance(brain.config.acks if acks is None else acks, str):
        return len(tally.acked.intersection(owners)), needed
    return len(tally.acked.difference(view.moving_to_or_from(partition))), needed


def _remember_who_lacks_it(brain: Brain, view: View, partition: int, name: bytes, record: bytes, tally: _Tally) -> None:
    """This client's reads of the key leave out those that may not have the record, until they are known to have it."""
    absent = [node for node in view.writers[partition] if node not in tally.acked]
    if absent:
        brain.lagging.missed(partition, name, version_of(record), absent)
    if brain.lagging.marks:
        brain.lagging.caught_up(name, version_of(record), tally.acked)


def _stamp_again(brain: Brain, record: bytes, tally: _Tally) -> bytes:
    """Give the record a version above what stood in its way.

    Without this a client with a slow clock would lose writes that began after the winning one was acknowledged. Once is
    enough: whatever is newer after that was written concurrently, and then either order is right.
    """
    brain.counters.restamped_writes += 1
    if tally.cluster_ms:
        brain.hlc.correct(tally.cluster_ms)
    brain.hlc.observe(tally.newer)
    return restamp(record, brain.hlc.stamp())


def _fails_by(tally: _Tally, kinds: type[KvCacheError] | tuple[type[KvCacheError], ...]) -> bool:
    return any(isinstance(error, kinds) for error in tally.failures.values())


def _forget(tally: _Tally, kinds: type[KvCacheError] | tuple[type[KvCacheError], ...]) -> None:
    """Forget failures of these kinds, so that their nodes are asked again."""
    for node in [node for node, error in tally.failures.items() if isinstance(error, kinds)]:
        del tally.failures[node]


def _send(brain: Brain, asks: list[Ask], tally: _Tally, deadline: float) -> Plan[None]:
    if asks:
        outcomes = yield Within(asks, time_left(brain, deadline))
        for (node, _), outcome in zip(asks, outcomes, strict=True):
            tally.note(brain, node, outcome)


def _may_hint(brain: Brain, tally: _Tally) -> bool:
    """Say whether stand-ins may be asked. In place of an owner that is there and has too much to do, that is one request more.

    Where all of them have, nothing was applied anywhere: then the whole write is refused, and others are not burdened with it.
    """
    busy = sum(isinstance(error, Overloaded) for error in tally.failures.values())
    if not busy:
        return True
    return bool(tally.acked or tally.maybe_applied or busy < len(tally.failures)) and brain.retry(busy, refused=True)


def _hint(
    brain: Brain, view: View, partition: int, name: bytes, record: bytes, tally: _Tally, deadline: float
) -> Plan[None]:
    """Replace every owner that does not answer by the next live node on the ring, until one takes the record or none is left."""
    absent = [node for node in view.owners[partition] if node not in tally.acked]
    yield from _note_for_movers(brain, view, partition, name, record, tally, deadline)
    candidates = (node for node in view.stand_ins(partition) if node not in brain.down)
    while absent:
        asks: list[Ask] = [
            (stand_in, [0, Verb.HINT, owner, name, record]) for owner, stand_in in zip(absent, candidates, strict=False)
        ]
        if not asks or brain.clock() >= deadline:
            return
        brain.counters.stand_in_writes += len(asks)
        yield from _send(brain, asks, tally, deadline)
        failed = sum(1 for node, _ in asks if node not in tally.acked)
        absent = absent[:failed]


def _note_for_movers(
    brain: Brain, view: View, partition: int, name: bytes, record: bytes, tally: _Tally, deadline: float
) -> Plan[None]:
    """Have an owner that took the record hand it to those that take part in a move and did not."""
    absent = [node for node in view.moving_to_or_from(partition) if node not in tally.acked]
    holder = next((node for node in view.owners[partition] if node in tally.acked), None)
    if absent and holder is not None and brain.clock() < deadline:
        asks: list[Ask] = [(holder, [0, Verb.HINT, node, name, record]) for node in absent]
        yield Within(asks, time_left(brain, deadline))


def _not_enough(brain: Brain, view: View, partition: int, tally: _Tally, held: int, needed: int) -> KvCacheError:
    """Return the error of a write that too few nodes hold."""
    refusals = [error for error in tally.failures.values() if not isinstance(error, NotApplied | InDoubt)]
    if refusals and not tally.acked:
        return refusals[0]
    cause = why_unavailable(brain, view, partition, tally.failures)
    if not tally.acked and not tally.maybe_applied:
        return cause
    return InDoubt(f"held by {held} of {needed} nodes, the rest is not known: {cause}", detail=partition)
