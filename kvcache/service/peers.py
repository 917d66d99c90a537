"""What nodes and operators ask of a node: to be read through, to be compared, to take part in changes of the cluster.

Here lives one function for each such verb, the check of its fields included. Never here: the verbs of clients (``service``),
or the work behind those that take their time (whoever implements ``Control``).
"""

from __future__ import annotations

import json
from collections.abc import Awaitable
from typing import Any, Final, Protocol

from kvcache.service.checks import check_int64, check_keys, shown
from kvcache.service.fences import Fences
from kvcache.service.generations import sweep
from kvcache.service.later import Later
from kvcache.service.service import Handler, Reply, Service
from kvcache_client.core.pulling import ANYTHING
from kvcache_client.placement.partitions import PARTITIONS
from kvcache_client.protocol.errors import InvalidOption, KvCacheError, MalformedFrame, NotOwner, NotReady
from kvcache_client.protocol.limits import KEY_BYTES, KEYS_PER_FRAME, LEASE_MS_MAX, LEASE_MS_MIN
from kvcache_client.protocol.verbs import Message, Status, Verb

__all__ = ["Control", "PeerVerbs"]

_OK: Final = int(Status.OK)
_MISS: Final = int(Status.MISS)

_SCAN_BYTES: Final = 64 * 1024
"""How much one SCAN returns, about: a millisecond of work for either side."""

_NAME: Final = 200


class Control(Protocol):
    """The part of a node that works with other nodes and with the coordinator."""

    def report(self) -> dict[str, Any]:
        """Return how far the node is with what is going on, as plain data."""

    def resync(self, partitions: list[int]) -> None:
        """Pull these partitions from their other owners again, in the background."""

    def adopt(self, document: bytes) -> Awaitable[int]:
        """Go by a document if it is newer; returns the epoch in force."""

    def deliver(self, owner: str) -> Awaitable[int]:
        """Hand over what is held for ``owner``; returns how many records are left."""

    def repair(self, partitions: list[int]) -> Awaitable[tuple[int, int]]:
        """Compare and copy; returns how many records were compared and how many were copied."""

    def change(self, fence: int, change: dict[str, Any]) -> Awaitable[int]:
        """Change the topology; returns its new epoch."""

    def lock(self, resource: str, token: str, lease_ms: int, doing: str) -> Awaitable[int]:
        """Take a lock; returns its fence. Raises ``AdminBusy``."""

    def renew(self, resource: str, token: str, lease_ms: int) -> Awaitable[bool]:
        """Hold a lock for longer; returns whether it was still held."""

    def unlock(self, resource: str, token: str) -> Awaitable[bool]:
        """Give a lock back; returns whether it was still held."""

    def locks(self) -> Awaitable[list[dict[str, Any]]]:
        """Return the locks that are held, as plain data."""

    def examine(self) -> Awaitable[dict[str, Any]]:
        """Return what this node sees of its machine and its coordinator, as plain data."""


class PeerVerbs:
    """The verbs that only nodes and operators need, and the locks."""

    def __init__(self, service: Service, control: Control, fences: Fences) -> None:
        self._service = service
        self._control = control
        self.fences = fences
        self.handlers: dict[int, Handler] = {
            Verb.SCAN: self._scan,
            Verb.DIGEST: self._digest,
            Verb.REPORT: self._report,
            Verb.ADOPT: self._adopt,
            Verb.DELIVER: self._deliver,
            Verb.RESYNC: self._resync,
            Verb.REPAIR: self._repair,
            Verb.RESTORE: self._restore,
            Verb.CHANGE: self._change,
            Verb.LOCK: self._lock,
            Verb.RENEW: self._renew,
            Verb.UNLOCK: self._unlock,
            Verb.LOCKS: self._locks,
            Verb.EXAMINE: self._examine,
        }

    # Data, read partition by partition

    def _scan(self, message: Message) -> Reply:
        number, _, session, partition, after, whole = message
        if not isinstance(after, bytes) or len(after) > KEY_BYTES or not isinstance(whole, bool):
            raise MalformedFrame(
                "SCAN carries a session, a partition, a key to go on after, and whether values are wanted"
            )
        self._require_move(session)
        service = self._service
        self._require_complete(partition, session)
        sweep(service.store, service.generations, partition)
        rows, more = service.store.scan(partition, after, _SCAN_BYTES, whole)
        if len(rows) > KEYS_PER_FRAME:
            rows, more = rows[:KEYS_PER_FRAME], True
        return number, _OK, more, *(field for row in rows for field in row)

    def _digest(self, message: Message) -> Reply:
        number, _, session, *partitions = message
        self._require_move(session)
        service = self._service
        digests = []
        for partition in _partitions(partitions):
            self._require_complete(partition, session)
            sweep(service.store, service.generations, partition)
            digests.append(service.store.digest(partition))
        return number, _OK, *digests

    def _require_move(self, session: Any) -> None:
        """Refuse a request that belongs to another move than the one that is going on."""
        ownership = self._service.ownership
        if not isinstance(session, str):
            raise MalformedFrame(f"a session is text, not {shown(session)}")
        move = ownership.topology.move if ownership else None
        if session not in ("", ANYTHING) and (move is None or move.id != session):
            raise NotReady(f"this node knows no move {session!r:.80}")

    def _require_complete(self, partition: Any, session: str) -> None:
        service = self._service
        _partitions([partition])
        if service.ownership is None or not service.ownership.writable[partition]:
            raise NotOwner(f"{service.identity.node} does not own partition {partition}", detail=service.epoch)
        if session != ANYTHING and not service.is_complete(partition):
            raise NotReady(
                f"{service.identity.node} has not loaded partition {partition} itself yet", detail=service.epoch
            )

    # The cluster in change

    def _report(self, message: Message) -> Reply:
        number, _ = message
        return number, _OK, json.dumps(self._control.report() | {"fences": self.fences.highest}).encode()

    def _adopt(self, message: Message) -> Reply:
        _, _, document = message
        if not isinstance(document, bytes):
            raise MalformedFrame("ADOPT carries a document in bytes")
        raise _with_ok(self._control.adopt(document))

    def _deliver(self, message: Message) -> Reply:
        _, _, owner = message
        raise _with_ok(self._control.deliver(_text("owner", owner)))

    def _resync(self, message: Message) -> Reply:
        number, _, *partitions = message
        self._control.resync(_partitions(partitions))
        return number, _OK

    def _repair(self, message: Message) -> Reply:
        _, _, fence, *partitions = message
        self.fences.check("job", fence)
        raise _with_all(self._control.repair(_partitions(partitions)))

    def _restore(self, message: Message) -> Reply:
        number, _, fence, epoch, *fields = message
        self.fences.check("job", fence)
        if len(fields) % 2 or epoch.__class__ is not int:
            raise MalformedFrame("RESTORE carries a fence, an epoch, then pairs of key and record")
        check_keys(len(fields) // 2)
        service = self._service
        statuses: list[int | None] = []
        for key, record in zip(fields[::2], fields[1::2], strict=True):
            try:
                statuses.append(service.restore(epoch, key, record))
            except KvCacheError as error:
                statuses.append(error.code)
        return number, _OK, *statuses

    def _change(self, message: Message) -> Reply:
        _, _, fence, change = message
        self.fences.check("topology", fence)
        try:
            wish = json.loads(change)
        except (TypeError, ValueError) as error:
            raise MalformedFrame(f"a change is JSON in bytes: {error}") from error
        if not isinstance(wish, dict):
            raise MalformedFrame("a change is a JSON object")
        raise _with_ok(self._control.change(fence, wish))

    # Locks

    def _lock(self, message: Message) -> Reply:
        _, _, resource, token, lease_ms, doing = message
        lease = _lease(lease_ms)
        work = self._control.lock(_text("resource", resource), _text("token", token), lease, _text("doing", doing))
        raise _with_ok(work)

    def _renew(self, message: Message) -> Reply:
        _, _, resource, token, lease_ms = message
        work = self._control.renew(_text("resource", resource), _text("token", token), _lease(lease_ms))
        raise _ok_or_miss(work)

    def _unlock(self, message: Message) -> Reply:
        _, _, resource, token = message
        raise _ok_or_miss(self._control.unlock(_text("resource", resource), _text("token", token)))

    def _locks(self, message: Message) -> Reply:
        _, _ = message
        raise _as_json(self._control.locks())

    # Looking for what is about to go wrong

    def _examine(self, message: Message) -> Reply:
        _, _ = message
        raise _as_json(self._control.examine())

    def __repr__(self) -> str:
        return f"<PeerVerbs of {self._service.identity.node} {self.fences!r}>"


def _with_ok(work: Awaitable[Any]) -> Later:
    return Later(work, lambda result: (_OK, result))


def _with_all(work: Awaitable[tuple[int, ...]]) -> Later:
    return Later(work, lambda results: (_OK, *results))


def _ok_or_miss(work: Awaitable[bool]) -> Later:
    return Later(work, lambda done: (_OK,) if done else (_MISS,))


def _as_json(work: Awaitable[Any]) -> Later:
    return Later(work, lambda data: (_OK, json.dumps(data).encode()))


def _partitions(fields: list[Any]) -> list[int]:
    for partition in fields:
        if partition.__class__ is not int or not 0 <= partition < PARTITIONS:
            raise MalformedFrame(f"a partition is a number below {PARTITIONS}, not {shown(partition)}")
    return fields


def _text(name: str, field: Any) -> str:
    if not isinstance(field, str) or len(field) > _NAME:
        raise MalformedFrame(f"{name} is text of at most {_NAME} characters, not {shown(field)}")
    return field


def _lease(field: Any) -> int:
    lease = check_int64("lease_ms", field)
    if not LEASE_MS_MIN <= lease <= LEASE_MS_MAX:
        raise InvalidOption(f"lease_ms={lease}: must be {LEASE_MS_MIN} to {LEASE_MS_MAX}")
    return lease
