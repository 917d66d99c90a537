"""The verbs that depend on what is there: SWAP, INCR, TOUCH, and COPY of what came of them.

Here lives how one node decides for a key, atomically, and stamps the outcome. Never here: how the outcome gets to the other
owners (the client copies the resulting record), or plain reads and writes (``service``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from kvcache.service.checks import (
    check_expiry,
    check_int64,
    check_operation,
    check_record,
    check_version,
    integer_in,
)
from kvcache.service.deputy import DeciderChanges, Deputy, FirstOwnerDecides, asking
from kvcache.service.later import Fields
from kvcache.service.ownership import Ownership
from kvcache.service.service import Handler, Reply, Service
from kvcache.service.stamps import stamp_above
from kvcache_client.protocol.codec import INT64_MAX, INT64_MIN
from kvcache_client.protocol.errors import CounterOverflow, InvalidOption, InvalidRecord, NotReady, StaleEpoch
from kvcache_client.protocol.record import (
    HEADER_BYTES,
    PayloadType,
    expiry_of,
    is_soft,
    is_tombstone,
    make_record,
    restamp,
    unsoftened,
    version_of,
    with_expiry,
)
from kvcache_client.protocol.verbs import ABSENT, PRESENT, Message, Status, Verb
from kvcache_client.protocol.version import writer_of

__all__ = ["DecidingVerbs"]

_OK: Final = int(Status.OK)
_MISS: Final = int(Status.MISS)
_SUPERSEDED: Final = int(Status.SUPERSEDED)
_MISMATCH: Final = int(Status.MISMATCH)


class DecidingVerbs:
    """Compare-and-set in its three forms, at one node."""

    def __init__(self, service: Service, deputy: Deputy | None = None) -> None:
        self._service = service
        self._deputy = deputy or Deputy()
        self._settled: tuple[int, bytes] | None = None
        """The epoch, and the key about which those who decided before it were just asked."""
        self.handlers: dict[int, Handler] = {
            Verb.SWAP: asking(self._swap, self._deputy, self._settle),
            Verb.INCR: asking(self._incr, self._deputy, self._settle),
            Verb.TOUCH: asking(self._touch, self._deputy, self._settle),
            Verb.COPY: self._copy,
            Verb.RECALL: self._recall,
        }

    def _swap(self, message: Message) -> Reply:
        number, _, epoch, key, condition, record, operation = message
        partition = self._to_decide_first(epoch, key)
        check_version("condition", condition)
        if is_tombstone(check_record(record, self._service.identity.value_limit)):
            raise InvalidRecord("a tombstone cannot be swapped in")
        done = self._done(key, operation)
        if done is not None:
            return number, _OK, version_of(done)
        current = self._current(partition, key)
        version = version_of(current) if current else 0
        met = (current is None) if condition == ABSENT else (version > 0 and condition in (PRESENT, version))
        if not met:
            return number, _MISMATCH, version
        kept = self._decide(partition, key, operation, lambda stamp: restamp(record, stamp))
        return number, _OK, version_of(kept)

    def _incr(self, message: Message) -> Reply:
        number, _, epoch, key, delta, initial, expiry_ms, operation = message
        partition = self._to_decide_first(epoch, key)
        check_int64("delta", delta)
        if initial is not None:
            check_int64("initial", initial)
            check_expiry(expiry_ms)
        done = self._done(key, operation)
        if done is not None:
            return number, _OK, _counter(done, operation)
        current = self._current(partition, key)
        if current is None:
            if initial is None:
                return number, _MISS
            before, expiry = initial, expiry_ms
        else:
            before, expiry = integer_in(current), expiry_of(current)
        total = before + delta
        if not INT64_MIN <= total <= INT64_MAX:
            raise CounterOverflow(f"{before} + {delta} leaves the range of a signed 64-bit integer")
        payload = b"%d" % total

        def make(stamp: int) -> bytes:
            return make_record(stamp, expiry, PayloadType.INTEGER, payload)

        return number, _OK, self._decide(partition, key, operation, make)

    def _touch(self, message: Message) -> Reply:
        number, _, epoch, key, expiry_ms, operation = message
        partition = self._to_decide_first(epoch, key)
        expiry = check_expiry(expiry_ms)
        done = self._done(key, operation)
        current = self._current(partition, key)
        if current is None:
            return number, _MISS
        if done is not None:
            return number, _OK, current
        return number, _OK, self._decide(partition, key, operation, lambda stamp: with_expiry(current, stamp, expiry))

    def _copy(self, message: Message) -> Reply:
        number, _, epoch, key, record, operation = message
        service = self._service
        partition = service.to_write(epoch, key)
        check_operation(operation)
        reply = service.keep(partition, key, record)
        # What another node stamped since may not go on from this record: then what the operation did is lost here.
        if reply[0] != _SUPERSEDED or writer_of(reply[1]) == writer_of(version_of(record)):
            service.operations.remember(key, operation, record, service.now_ms)
        return number, *reply

    def _current(self, partition: int, key: bytes) -> bytes | None:
        """Return the live record of a key, without a soft expiry: past that, it is a miss as it is for readers."""
        record = self._service.live(partition, key)
        if record is None or not is_soft(record):
            return record
        bare = unsoftened(record)
        return bare if expiry_of(bare) > self._service.now_ms else None

    def _recall(self, message: Message) -> Reply:
        number, _, epoch, key, operation = message
        self._service.to_write(epoch, key)
        done = self._done(key, operation)
        return (number, _MISS) if done is None else (number, _OK, done)

    def _done(self, key: bytes, operation: Any) -> bytes | None:
        """Return what came of an operation that was applied already, here or where it was copied from."""
        return self._service.operations.outcome_of(key, check_operation(operation), self._service.now_ms)

    def _decide(self, partition: int, key: bytes, operation: int, make: Callable[[int], bytes]) -> bytes:
        """Keep the record that ``make`` gives for a version above everything that was ever here; returns it."""
        service = self._service
        record = make(stamp_above(service.clock, service.standing(partition, key)))
        service.store.put(partition, key, record)
        service.operations.remember(key, operation, record, service.now_ms)
        if service.leases.held:
            service.leases.written(key)
        return record

    def _to_decide_first(self, epoch: Any, key: Any) -> int:
        """As ``to_decide``, where it matters that nobody else decides at the same time."""
        partition, ownership = self._to_answer_for(epoch, key)
        routes = ownership.routes
        first = routes.readers[partition][0]
        if first != ownership.node and not self._deputy.is_away(first):
            raise FirstOwnerDecides(first)
        if not ownership.decides[partition] and self._settled != (ownership.epoch, key):
            others = tuple(node for node in routes.former[partition] if node != ownership.node)
            raise DeciderChanges(others, ownership.epoch, key)
        return partition

    def _settle(self, change: DeciderChanges, records: list[bytes], again: Callable[[], Fields]) -> Fields:
        """Go on from what the former deciders hold, if what is true has not changed while they were asked."""
        for record in records:
            self._service.take(change.key, record)
        self._settled = change.epoch, change.key
        try:
            return again()
        finally:
            self._settled = None

    def to_decide(self, epoch: Any, key: Any) -> int:
        """Return the partition of a key whose compare-and-set this node may carry out without asking others."""
        partition, _ = self._to_answer_for(epoch, key)
        self.check_decides(partition)
        return partition

    def _to_answer_for(self, epoch: Any, key: Any) -> tuple[int, Ownership]:
        service = self._service
        partition = service.to_write(epoch, key)
        ownership = self._check_answers(partition)
        if epoch < ownership.decided_at[partition]:
            raise StaleEpoch(
                f"partition {partition} has another first owner since epoch {service.epoch}", detail=service.epoch
            )
        return partition, ownership

    def check_decides(self, partition: int) -> None:
        """Raise why this node must not decide in ``partition`` by itself, if so it is."""
        if not self._check_answers(partition).decides[partition]:
            raise NotReady(f"who decides in partition {partition} is just changing", detail=self._service.epoch)

    def _check_answers(self, partition: int) -> Ownership:
        service = self._service
        ownership = service.ownership
        if ownership is None or not service.readable[partition]:
            raise service.not_mine(partition)
        if service.hesitating:
            raise NotReady("this node stood still and does not know yet what it has missed", detail=service.epoch)
        return ownership

    def __repr__(self) -> str:
        return f"<DecidingVerbs of {self._service.identity.node}>"


def _counter(done: bytes, operation: int) -> bytes:
    """Return what an operation made of a counter. Raises ``InvalidOption`` if it was no INCR."""
    if len(done) == HEADER_BYTES:
        raise InvalidOption(f"operation {operation} of this key was no incr")
    return done
