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

from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple

from kvcache_client.core.answers import REROUTE, REROUTE_ANSWERED, before_rerouting, may_reroute, time_spent, too_late
from kvcache_client.core.brain import Brain
from kvcache_client.core.consistency import Acks
from kvcache_client.core.effects import Ask, Plan
from kvcache_client.core.routing import View
from kvcache_client.core.standing_in import hint, may_hint
from kvcache_client.core.tallying import Tally, held_and_needed, not_enough, remember_who_lacks_it, send
from kvcache_client.protocol.errors import ConnectionLost, InDoubt, StaleFence
from kvcache_client.protocol.record import restamp, version_of
from kvcache_client.protocol.verbs import Request, Status, Verb

__all__ = ["Written", "check_reachable", "copy", "write", "write_carefully"]

_OK: Final = int(Status.OK)
_MISS: Final = int(Status.MISS)
_PUT: Final = int(Verb.PUT)


class Written(NamedTuple):
    """What became of a write: the version it has, and whether something live was there before.

    ``superseded`` is the newer version of the key that was met, written at the same time, also under the second stamp; else 0.
    """

    version: int
    existed: bool
    superseded: int = 0


_written: Final = partial(tuple.__new__, Written)
"""Makes one of all its fields, in a fourth of the time."""


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
            tally = Tally()
            for node, answer in zip(writers, outcomes, strict=True):
                tally.note(brain, node, answer)
            spent = time_spent(brain, outcomes)
            return (yield from write_carefully(brain, name, record, tally, acks=acks, spent=spent))
    version = version_of(record)
    if brain.lagging.marks:
        brain.lagging.caught_up(name, version, writers)
    return _written((version, existed, 0))


def write_carefully(
    brain: Brain,
    name: bytes,
    record: bytes,
    tally: Tally | None = None,
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
    tally = tally or Tally()
    if paid:  # the batch has asked them for this key just now
        tally.leave_alone(brain, brain.require_view().writers_of(name))
    careful = _Careful(brain, name, record, tally, acks, deadline, stamped=stamped)
    careful.paid, careful.operation = paid, operation
    return (yield from careful.write())


@dataclass(slots=True)
class _Careful:
    """One write under way: what it is, what is known of it so far, and what of its patience is used up."""

    brain: Brain
    name: bytes
    record: bytes
    tally: Tally
    acks: Acks | None
    deadline: float
    stamped: bool
    paid: bool = False
    operation: int = 0
    resent: bool = False
    rerouted: bool = False

    def write(self) -> Plan[Written]:
        """Ask whoever is to be asked, until enough hold the record or nothing more can be done."""
        while True:
            view = self.brain.require_view()
            partition = view.partition(self.name)
            writers = view.writers[partition]
            self.tally.acked.intersection_update(writers)  # a node that has ceased to own drops what it took
            yield from self._ask_owners(view, writers)
            if self._is_overtaken():
                self._stamp_again()
                continue
            if self._may_resend() or (yield from self._reroutes(writers)):
                continue
            if may_hint(self.tally):
                yield from hint(self.brain, view, partition, self.name, self.record, self.tally, self.deadline)
            if self._is_overtaken():  # a stand-in has heard of a flush of which the owners have not
                self._stamp_again()
                continue
            return self._acknowledged(view, partition)

    def _ask_owners(self, view: View, writers: tuple[str, ...]) -> Plan[None]:
        """Put the record at those owners that have not said anything of it yet and can be reached."""
        tally = self.tally
        asks: list[Ask] = [
            (node, _put(view, self.name, self.record, self.operation))
            for node in writers
            if node not in tally.acked and node not in tally.failures and node not in self.brain.down
        ]
        yield from send(self.brain, asks, tally, self.deadline)
        stale = next((error for error in tally.failures.values() if isinstance(error, StaleFence)), None)
        if stale is not None:  # its writer has lost the lock: no other node may be talked into taking it
            raise stale

    @property
    def _in_time(self) -> bool:
        return self.brain.clock() < self.deadline

    def _is_overtaken(self) -> bool:
        """Say whether the first stamp was too low, or too far ahead, and there is time for another."""
        return self._in_time and not self.stamped and bool(self.tally.newer or self.tally.cluster_ms)

    def _stamp_again(self) -> None:
        """Give the record a version above what stood in its way.

        Without this a client with a slow clock would lose writes that began after the winning one was acknowledged. Once is
        enough: whatever is newer after that was written concurrently, and then either order is right.
        """
        brain, tally = self.brain, self.tally
        brain.counters.restamped_writes += 1
        if tally.cluster_ms:
            brain.hlc.correct(tally.cluster_ms)
        brain.hlc.observe(tally.newer)
        self.record, self.stamped = restamp(self.record, brain.hlc.stamp()), True
        # Under its first version it may lie somewhere: "not applied" can't be said any more.
        doubt = tally.maybe_applied or bool(tally.acked)
        self.tally = Tally(existed=tally.existed, maybe_applied=doubt, batched=tally.batched)

    def _may_resend(self) -> bool:
        """Say whether owners whose connection broke are asked once more, and forget that it did.

        Such a node may be well, and would miss what is then acknowledged by others: it would answer with the past.
        """
        broken = self._in_time and not self.resent and self.tally.fails_by(ConnectionLost)
        if not broken or not (self.paid or self.brain.retry()):
            return False
        self.tally.forget(ConnectionLost)
        self.resent = True
        return True

    def _reroutes(self, writers: tuple[str, ...]) -> Plan[bool]:
        """Prepare for asking again those that were not the ones to ask, or not yet; returns whether that may be.

        Once for nothing where we asked the wrong node: after a change of the cluster that happens to all calls at once.
        """
        brain, tally = self.brain, self.tally
        free = self.paid or (not self.rerouted and tally.fails_by(REROUTE_ANSWERED))
        if not tally.fails_by(REROUTE) or not may_reroute(brain, self.deadline, tally.failures, paid=free):
            return False
        self.rerouted = True
        yield from before_rerouting(brain, self.deadline, dict(tally.failures))
        if too_late(brain, self.deadline) is not None:  # then what they said stands
            return False
        tally.forget(REROUTE)
        tally.leave_alone(brain, writers)
        return True

    def _acknowledged(self, view: View, partition: int) -> Written:
        """Return what became of the write, or raise the error of one that too few nodes hold."""
        brain, tally = self.brain, self.tally
        held, needed = held_and_needed(brain, view, partition, tally, self.acks)
        if held < needed:
            raise not_enough(brain, view, partition, tally, held, needed)
        version = version_of(self.record)
        if tally.newer and not self.stamped:  # by what may have been acknowledged before this write began
            raise InDoubt(
                f"met version {tally.newer:#x} above its own, and no time is left to be newer", detail=partition
            )
        # Only now: of a write in doubt a read must not say that it is gone, what was there before still counts.
        remember_who_lacks_it(brain, view, partition, self.name, self.record, tally)
        superseded = tally.newer if tally.newer > version else 0
        brain.counters.superseded_writes += superseded > 0
        return Written(version, tally.existed, superseded)


def copy(
    brain: Brain, name: bytes, record: bytes, decider: str, spent: float, acks: Acks | None = None, operation: int = 0
) -> Plan[Written]:
    """Bring a record that ``decider`` has made and holds to the other owners; ``spent`` seconds of the call are gone."""
    tally = Tally(acked={decider})
    return (
        yield from write_carefully(
            brain, name, record, tally, acks=acks, spent=spent, stamped=True, operation=operation
        )
    )


def _put(view: View, name: bytes, record: bytes, operation: int) -> Request:
    if operation:
        return [0, Verb.COPY, view.epoch, name, record, operation]
    return [0, _PUT, view.epoch, name, record]
