"""The one error tree of kvcache; every error that reaches a user is one of these.

Here lives each class below the root (``error_registry``) with its wire code, its HTTP status, whether trying again can
help (``retryable``) and whether the connection that carried it must be closed (``closes_connection``). Never here:
decisions about retries. ::

    KvCacheError
    |-- UsageError (ValueError)      the caller's mistake; nothing was sent or nothing changed
    |   |-- InvalidKey  InvalidTtl  InvalidOption  UnsupportedValue  ValueTooLarge  BatchTooLarge
    |   |-- NotAnInteger  CounterOverflow  KeyNotFound
    |   `-- ClientClosed  WrongEventLoop
    |-- UndecodableValue             by something that this client does not understand; its branch is in value_errors
    |-- ProtocolError                the other end broke the rules of WIRE.md
    |   |-- MalformedFrame  FrameTooLarge  UnknownVerb  InvalidRecord
    |   |-- HelloRequired  VersionMismatch  WrongCluster  Forbidden
    |   `-- Unauthenticated          either end could not prove that it knows a secret of the other
    |-- TopologyError                a topology document that this program cannot or must not use
    |-- NotApplied                   for certain nothing changed; asking again is safe
    |   |-- NotOwner  StaleEpoch  NotReady  ClockSkew  Overloaded  ReplyFull
    |   |-- ConnectFailed            one node could not be reached at all
    |   |   `-- CertificateRejected  its certificate, or ours, was not taken; says whose and why
    |   |-- Unavailable  TooFewCopies  no node that could answer did, or fewer than asked for; says each node and why
    |   |-- DeadlineExceeded (TimeoutError)  not answered, or not even asked, in time
    |   |-- ControlPlaneUnavailable  coordination (Redis/Valkey) does not answer; the data path goes on
    |   `-- AdminBusy                somebody else holds the lock; says who, since when, doing what
    |-- Superseded                   a newer concurrent write won; said only where the caller asked for it
    |-- StaleFence                   a newer holder of the lock was here already; nothing was changed
    |-- LockLost                     the lease ran out, or the lock went to somebody else, while it was held
    |-- SnapshotAbandoned            a snapshot could not be written; nothing of it is left
    |-- SnapshotDamaged              a snapshot that is not whole, not ours or not of this format
    |-- InDoubt                      sent, but the outcome is not known: it may or may not have been applied
    |   |-- ConnectionLost           the connection broke after the request was sent
    |   `-- NoAnswer (TimeoutError)  the node did not answer within its time
    `-- NodeFault                    a bug in a node; its log has the traceback
"""

from __future__ import annotations

from typing import Any

from kvcache_client.protocol.error_registry import ERRORS, KvCacheError

__all__ = [
    "ERRORS",
    "AdminBusy",
    "BatchTooLarge",
    "CertificateRejected",
    "ClientClosed",
    "ClockSkew",
    "ConnectFailed",
    "ConnectionLost",
    "ControlPlaneUnavailable",
    "CounterOverflow",
    "DeadlineExceeded",
    "Forbidden",
    "FrameTooLarge",
    "HelloRequired",
    "InDoubt",
    "InvalidKey",
    "InvalidOption",
    "InvalidRecord",
    "InvalidTtl",
    "KeyNotFound",
    "KvCacheError",
    "LockLost",
    "MalformedFrame",
    "NoAnswer",
    "NodeFault",
    "NotAnInteger",
    "NotApplied",
    "NotOwner",
    "NotReady",
    "Overloaded",
    "ProtocolError",
    "ReplyFull",
    "SnapshotAbandoned",
    "SnapshotDamaged",
    "StaleEpoch",
    "StaleFence",
    "Superseded",
    "TooFewCopies",
    "TopologyError",
    "Unauthenticated",
    "Unavailable",
    "UndecodableValue",
    "UnknownVerb",
    "UnsupportedValue",
    "UsageError",
    "ValueTooLarge",
    "VersionMismatch",
    "WrongCluster",
    "WrongEventLoop",
    "error_from_wire",
]


def error_from_wire(code: int, message: str, *, node: str | None = None, detail: Any = None) -> KvCacheError:
    """Return the error that a reply carries; a code from the future becomes a ``NodeFault`` that names it."""
    known = ERRORS.get(code)
    if known is None:
        return NodeFault(f"unknown error code {code}: {message}", node=node, detail=detail)
    return known(message, node=node, detail=detail)


class UsageError(KvCacheError, ValueError):
    """The call itself is wrong; nothing was changed."""

    http_status = 400


class InvalidKey(UsageError):
    """The key is empty, too long or of a wrong type."""

    code = 16


class UnsupportedValue(UsageError):
    """The value holds a type that cannot be stored."""

    code = 17
    http_status = 415


class ValueTooLarge(UsageError):
    """The value is over the limit."""

    code = 18
    http_status = 413


class InvalidTtl(UsageError):
    """The time to live is not a positive, finite number of seconds within the limit."""

    code = 19


class BatchTooLarge(UsageError):
    """The batch has more keys than one call may carry."""

    code = 20
    http_status = 413


class InvalidOption(UsageError):
    """An option has a value that makes no sense, or two options contradict each other."""

    code = 21


class NotAnInteger(UsageError):
    """incr and decr work on integers only, and this key holds something else."""

    code = 22
    http_status = 409


class CounterOverflow(UsageError):
    """The counter would leave the range of a signed 64-bit integer."""

    code = 23
    http_status = 409


class KeyNotFound(UsageError, KeyError):
    """The key does not exist and the call does not create it."""

    code = 24
    http_status = 404


class ClientClosed(UsageError):
    """The client is closed."""


class WrongEventLoop(UsageError):
    """An AsyncClient belongs to the event loop that used it first."""


class UndecodableValue(KvCacheError):
    """The stored value cannot be decoded by this client; ``detail`` is the raw record."""


class ProtocolError(KvCacheError):
    """The other end broke the rules of the wire."""

    http_status = 400


class MalformedFrame(ProtocolError):
    """The bytes are not a message of this protocol."""

    code = 32
    closes_connection = True


class FrameTooLarge(ProtocolError):
    """The frame is larger than this connection may send."""

    code = 33
    http_status = 413
    closes_connection = True


class UnknownVerb(ProtocolError):
    """The node does not know this verb; it is older than the client, or the client is broken."""

    code = 34


class InvalidRecord(ProtocolError):
    """The record has no whole header."""

    code = 35


class HelloRequired(ProtocolError):
    """The first message of a connection must be HELLO."""

    code = 36
    closes_connection = True


class VersionMismatch(ProtocolError):
    """Node and client share no protocol version."""

    code = 37
    closes_connection = True


class WrongCluster(ProtocolError):
    """The node belongs to another cluster than the client asked for."""

    code = 38
    http_status = 421
    closes_connection = True


class Forbidden(ProtocolError):
    """The role of this connection may not use this verb."""

    code = 39
    http_status = 403


class Unauthenticated(ProtocolError):
    """One end did not prove that it knows a secret that the other takes for the role in question."""

    code = 41
    http_status = 401
    closes_connection = True


class TopologyError(KvCacheError):
    """The topology document is damaged, foreign, older than the one in use, or of an unknown schema."""

    code = 40


class NotApplied(KvCacheError):
    """For certain nothing was changed; asking again is safe."""

    code = 48
    http_status = 503
    retryable = True


class NotOwner(NotApplied):
    """The node does not own the key's partition; ``detail`` is the node's epoch."""

    code = 49
    http_status = 421


class StaleEpoch(NotApplied):
    """The request was routed by a topology that is too old for its partition; ``detail`` is the node's epoch."""

    code = 50
    http_status = 409


class NotReady(NotApplied):
    """The node has not joined its cluster yet."""

    code = 51


class ClockSkew(NotApplied):
    """The version lies too far in the node's future; ``detail`` is the node's time in ms since 1970."""

    code = 52
    http_status = 409


class Overloaded(NotApplied):
    """The node sheds load; ask again later. ``detail`` is after how many milliseconds, if it says so."""

    code = 53

    @property
    def retry_after(self) -> float:
        """Seconds after which to ask again; 0.0 if the node names no time."""
        named = type(self.detail) is int and self.detail > 0
        return self.detail / 1000 if named else 0.0


class ReplyFull(NotApplied):
    """The reply had no room for this key; it is asked again by itself."""

    code = 54


class Unavailable(NotApplied):
    """No node that could have answered did; the message names each and why."""

    code = 55


class TooFewCopies(Unavailable):
    """Fewer owners answered than the consistency that was asked for takes; ask at a lower one, or later."""


class DeadlineExceeded(NotApplied, TimeoutError):
    """A read was not answered within its deadline; or the call was over before this key was asked or written at all."""

    code = 56
    http_status = 504


class ControlPlaneUnavailable(NotApplied):
    """Coordination (Redis/Valkey) does not answer; reads and writes of data go on."""

    code = 57


class AdminBusy(NotApplied):
    """Somebody else holds the lock; the message says who, since when and doing what. ``detail`` is its lease, ms left."""

    code = 58
    http_status = 409


class ConnectFailed(NotApplied):
    """No connection to the node could be made."""


class CertificateRejected(ConnectFailed):
    """One end does not take the other's TLS certificate; the message says whose and why."""


class Superseded(KvCacheError):
    """A newer write of the key won, one that was made at the same time; ``detail`` is the version of the one that lost."""

    http_status = 409


class StaleFence(KvCacheError):
    """The fence is lower than one that was seen before: the lock has gone to somebody else; ``detail`` is that fence."""

    code = 59
    http_status = 409


class LockLost(KvCacheError):
    """The lock is not held any more: its lease ran out before it was renewed, or somebody else has it."""

    http_status = 409


class SnapshotAbandoned(KvCacheError):
    """The snapshot could not be written (a full disk, say); the message says what failed where. Nothing of it is left."""

    http_status = 507


class SnapshotDamaged(KvCacheError):
    """The snapshot is not whole, not of this format, or not a snapshot; the message names file and place."""

    http_status = 409


class InDoubt(KvCacheError):
    """Sent, and the outcome is not known. ``incr(..., operation=error.operation)`` asks again and never does it twice."""

    code, http_status = 64, 504
    operation: int | None = None


class ConnectionLost(InDoubt):
    """The connection broke before the reply came."""


class NoAnswer(InDoubt, TimeoutError):
    """The node did not answer within its time."""


class NodeFault(KvCacheError):
    """The node failed in a way that it did not expect; its log has the traceback."""

    code = 80
