"""The verbs that let one client compute a value for all: LEASE, FILL, RELEASE.

Here lives what these messages carry and whether this node may answer them. Never here: who gets a lease and who waits
(``leases``).

Leases lie with the node that decides for the key, as compare-and-set does: the first owner that can be reached.
"""

from __future__ import annotations

from typing import Final

from kvcache.service.checks import bad_key, check_lease, check_operation, check_record
from kvcache.service.deciding import DecidingVerbs
from kvcache.service.later import Answer, Held, Peer
from kvcache.service.leases import Asker
from kvcache.service.service import Handler, Reply, Service
from kvcache.store.outcome import Put
from kvcache_client.protocol.errors import InvalidRecord, KvCacheError
from kvcache_client.protocol.limits import KEY_BYTES
from kvcache_client.protocol.record import is_tombstone, restamp, version_of
from kvcache_client.protocol.verbs import Message, Status, Verb

__all__ = ["LeaseVerbs"]

_OK: Final = int(Status.OK)
_MISS: Final = int(Status.MISS)
_MISMATCH: Final = int(Status.MISMATCH)


class LeaseVerbs:
    """One computation for all who miss a key, at one node."""

    def __init__(self, service: Service, deciding: DecidingVerbs) -> None:
        self._service = service
        self._deciding = deciding
        self.handlers: dict[int, Handler] = {
            Verb.LEASE: self._lease,
            Verb.FILL: self._fill,
            Verb.RELEASE: self._release,
        }
        service.leases.refusal = self._refusal

    def _lease(self, message: Message) -> Reply:
        _, _, epoch, key, operation, lease_ms = message
        partition = self._deciding.to_decide(epoch, key)
        token, seconds = check_operation(operation), check_lease(lease_ms) / 1000
        leases = self._service.leases

        def take(peer: Peer, answer: Answer) -> None:
            leases.ask(partition, key, Asker(peer, token, seconds, answer))

        raise Held(take)

    def _fill(self, message: Message) -> Reply:
        number, _, epoch, key, operation, record = message
        service = self._service
        # Decided was at the grant, whose version it gets: what others have decided since is newer, here and everywhere.
        partition = service.to_write(epoch, key)
        token = check_operation(operation)
        if is_tombstone(check_record(record, service.identity.value_limit)):
            raise InvalidRecord("a tombstone cannot be filled in")
        standing = service.standing(partition, key)
        lease = service.leases.fill(key, token)
        if lease is not None:
            filled = restamp(record, lease.version)
            if service.store.put(partition, key, filled) is not Put.OLDER:
                service.leases.settle(lease, filled)
                return number, _OK, lease.version
        return number, _MISMATCH, 0 if standing is None or is_tombstone(standing) else version_of(standing)

    def _release(self, message: Message) -> Reply:
        number, _, key, operation = message
        if key.__class__ is not bytes or not 0 < len(key) <= KEY_BYTES:
            raise bad_key(key)
        released = self._service.leases.release(key, check_operation(operation))
        return number, _OK if released else _MISS

    def _refusal(self, partition: int) -> KvCacheError | None:
        """Return why this node must not decide in a partition, or None if it may."""
        try:
            self._deciding.check_decides(partition)
        except KvCacheError as error:
            return error
        return None

    def __repr__(self) -> str:
        return f"<LeaseVerbs of {self._service.identity.node} {self._service.leases!r}>"
