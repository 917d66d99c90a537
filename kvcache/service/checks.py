"""Checks of what a message carries. Everything that comes from a socket passes here before it reaches the store.

Here lives the validity of keys, records and numbers on the wire. Never here: whether the node may do what is asked.
"""

from __future__ import annotations

import reprlib
from typing import Any, Final

from kvcache_client.protocol.codec import INT64_MAX, INT64_MIN
from kvcache_client.protocol.errors import (
    BatchTooLarge,
    InvalidKey,
    InvalidOption,
    InvalidRecord,
    MalformedFrame,
    NotAnInteger,
    ValueTooLarge,
)
from kvcache_client.protocol.limits import KEY_BYTES, KEYS_PER_FRAME, LEASE_MS_MAX, LEASE_MS_MIN
from kvcache_client.protocol.record import (
    FLAGS,
    HEADER_BYTES,
    MARK_BYTES,
    NEVER,
    TOMBSTONE,
    PayloadType,
    brought_over,
    flags_of,
    payload_of,
    unrestored,
)
from kvcache_client.protocol.verbs import MAX_OPERATION
from kvcache_client.protocol.version import MAX_VERSION

__all__ = [
    "bad_key",
    "check_expiry",
    "check_int64",
    "check_keys",
    "check_lease",
    "check_operation",
    "check_record",
    "check_version",
    "integer_in",
    "shown",
]

_LONGEST_INTEGER = 20
"""Digits and sign of the longest 64-bit number."""

_SHOWN: Final = reprlib.Repr()
_SHOWN.maxlevel = 2


def shown(field: Any) -> str:
    """Return a few characters of what a stranger sent; ``repr`` would follow a million nested arrays, or fail at their depth."""
    return f"{_SHOWN.repr(field):.60}"


def bad_key(key: Any) -> InvalidKey:
    """Return the error for a key that is not 1 to 1024 bytes."""
    if not isinstance(key, bytes):
        return InvalidKey(f"a key must be bytes, not {type(key).__name__}")
    return InvalidKey(f"a key must have 1 to {KEY_BYTES} bytes, this one has {len(key)}", detail=KEY_BYTES)


def check_record(record: Any, value_limit: int) -> bytes:
    """Return ``record`` if it is whole and within the limit."""
    if not isinstance(record, bytes):
        raise InvalidRecord(f"a record must be bytes, not {type(record).__name__}")
    if len(record) < HEADER_BYTES:
        raise InvalidRecord(f"a record has at least {HEADER_BYTES} bytes, this one {len(record)}", detail=HEADER_BYTES)
    if len(record) > value_limit + HEADER_BYTES and len(record) > value_limit + HEADER_BYTES + _mark_bytes(record):
        size = len(record) - HEADER_BYTES
        raise ValueTooLarge(f"a value of {size} bytes, the limit is {value_limit}", detail=value_limit)
    if record[FLAGS] >= TOMBSTONE and len(record) > HEADER_BYTES:
        raise InvalidRecord("a tombstone has no payload")
    return record


def check_keys(count: int) -> None:
    """Refuse so many keys in one message if they are too many."""
    if count > KEYS_PER_FRAME:
        raise BatchTooLarge(f"{count} keys in one message, the limit is {KEYS_PER_FRAME}", detail=KEYS_PER_FRAME)


def check_int64(name: str, number: Any) -> int:
    """Return ``number`` if it is a signed 64-bit integer."""
    return _integer_within(name, number, INT64_MIN, INT64_MAX)


def check_expiry(expiry_ms: Any) -> int:
    """Return ``expiry_ms`` if it is a time that a record can carry."""
    return _integer_within("expiry_ms", expiry_ms, 1, NEVER)


def check_version(name: str, version: Any) -> int:
    """Return ``version`` if it is one, or a condition of SWAP that stands in the place of one."""
    return _integer_within(name, version, 0, MAX_VERSION)


def check_operation(operation: Any) -> int:
    """Return ``operation`` if it is the number of one, or 0: none."""
    return _integer_within("operation", operation, 0, MAX_OPERATION)


def check_lease(lease_ms: Any) -> int:
    """Return ``lease_ms`` if something may be leased for so long."""
    return _integer_within("lease_ms", lease_ms, LEASE_MS_MIN, LEASE_MS_MAX)


def integer_in(record: bytes) -> int:
    """Return the number that a record holds. Raises ``NotAnInteger``."""
    record = unrestored(record)
    payload = payload_of(record)
    if flags_of(record) != PayloadType.INTEGER or len(payload) > _LONGEST_INTEGER:
        raise NotAnInteger("incr and decr need an integer, this key holds something else")
    try:
        return int(payload)
    except ValueError as error:
        raise NotAnInteger(f"the payload {payload!r} is marked as an integer but is none") from error


def _mark_bytes(record: bytes) -> int:
    # What is restored is larger by its mark than what the limit was for.
    return MARK_BYTES if brought_over(record) >= 0 else 0


def _integer_within(name: str, number: Any, low: int, high: int) -> int:
    if number.__class__ is not int:
        raise MalformedFrame(f"{name} is an integer, not {shown(number)}")
    value: int = number
    if not low <= value <= high:
        raise InvalidOption(f"{name} must be {low} to {high}, not {value}")
    return value
