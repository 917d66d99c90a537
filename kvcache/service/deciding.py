"""The verbs that depend on what is there: SWAP, INCR, TOUCH.

Here lives how one node decides for a key, atomically, and stamps the outcome. Never here: how the outcome gets to the other
owners (the client copies the resulting record), or plain reads and writes (``service``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from kvcache.service.checks import check_expiry, check_int64, check_record, check_version, integer_in
from kvcache.service.service import Handler, Reply, Service
from kvcache_client.protocol.codec import INT64_MAX, INT64_MIN
from kvcache_client.protocol.errors import CounterOverflow, InvalidRecord, NotReady, StaleEpoch
from kvcache_client.protocol.record import (
    PayloadType,
    expiry_of,
    is_tombstone,
    make_record,
    restamp,
    version_of,
    with_expiry,
)
from kvcache_client.protocol.verbs import ABSENT, PRESENT, Message, Status, Verb

__all__ = ["DecidingVerbs"]

_OK: Final = int(Status.OK)
_MISS: Final = int(Status.MISS)
_MISMATCH: Final = int(Status.MISMATCH)


class DecidingVerbs:
    """Compare-and-set in its three forms, at one node."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.handlers: dict[int, Handler] = {
            Verb.SWAP: self._swap,
            Verb.INCR: self._incr,
            Verb.TOUCH: self._touch,
        }

    def _swap(self, message: Message) -> Reply:
        number, _, epoch, key, condition, record = message
        partition = self._to_decide(epoch, key)
        check_version("condition", condition)
        if is_tombstone(check_record(record, self._service.identity.value_limit)):
            raise InvalidRecord("a tombstone cannot be swapped in")
        current = self._service.live(partition, key)
        version = version_of(current) if current else 0
        met = (current is None) if condition == ABSENT else (version > 0 and condition in (PRESENT, version))
        if not met:
            return number, _MISMATCH, version
        kept = self._decide(partition, key, lambda stamp: restamp(record, stamp))
        return number, _OK, version_of(kept)

    def _incr(self, message: Message) -> Reply:
        number, _, epoch, key, delta, initial, expiry_ms = message
        partition = self._to_decide(epoch, key)
        check_int64("delta", delta)
        if initial is not None:
            check_int64("initial", initial)
            check_expiry(expiry_ms)
        current = self._service.live(partition, key)
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
        kept = self._decide(partition, key, lambda stamp: make_record(stamp, expiry, PayloadType.INTEGER, payload))
        return number, _OK, kept

    def _touch(self, message: Message) -> Reply:
        number, _, epoch, key, expiry_ms = message
        partition = self._to_decide(epoch, key)
        expiry = check_expiry(expiry_ms)
        current = self._service.live(partition, key)
        if current is None:
            return number, _MISS
        return number, _OK, self._decide(partition, key, lambda stamp: with_expiry(current, stamp, expiry))

    def _decide(self, partition: int, key: bytes, make: Callable[[int], bytes]) -> bytes:
        """Keep the record that ``make`` gives for a version above everything that was ever here; returns it."""
        standing = self._service.standing(partition, key)
        if standing is not None:
            self._service.clock.observe(version_of(standing))
        record = make(self._service.clock.stamp())
        self._service.store.put(partition, key, record)
        return record

    def _to_decide(self, epoch: Any, key: Any) -> int:
        """Return the partition of a key whose compare-and-set this node may carry out."""
        service = self._service
        partition = service.to_write(epoch, key)
        ownership = service.ownership
        if ownership is None or not service.readable[partition]:
            raise service.not_mine(partition)
        if service.hesitating:
            raise NotReady("this node stood still and does not know yet what it has missed", detail=service.epoch)
        if not ownership.decides[partition]:
            raise NotReady(f"who decides in partition {partition} is just changing", detail=service.epoch)
        if epoch < ownership.decided_at[partition]:
            raise StaleEpoch(
                f"partition {partition} has another first owner since epoch {service.epoch}", detail=service.epoch
            )
        return partition

    def __repr__(self) -> str:
        return f"<DecidingVerbs of {self._service.identity.node}>"
