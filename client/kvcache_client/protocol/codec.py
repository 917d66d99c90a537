"""Values: Python objects to typed payloads and back.

Here lives what a payload means to Python. Never here: headers, versions (``record``), messages (``framing``).

Integers, text and bytes are stored as what they are, so that a node can count, ``curl`` can read, and nothing is packed
twice; everything else is msgpack, with extension types for what msgpack does not know (``extensions``). Nothing is
converted silently: a subclass of dict would come back as something else, so it is refused, with the place in the
structure where it stands (``refusals``). (Exceptions, because msgpack knows no way to refuse them: ``bytearray`` and
``memoryview`` come back as the bytes that they held, and msgpack's own ``ExtType`` as whatever its code means here.)
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

import msgpack

from kvcache_client.protocol.compression import expanded
from kvcache_client.protocol.errors import InvalidKey, UndecodableValue, UnsupportedValue
from kvcache_client.protocol.extensions import pack_extension, unpack_extension
from kvcache_client.protocol.limits import KEY_BYTES, VALUE_BYTES_CAP
from kvcache_client.protocol.record import COMPRESSION_MASK, FLAGS, HEADER_BYTES, MARKED, PayloadType, is_soft, unfenced
from kvcache_client.protocol.refusals import complaint
from kvcache_client.protocol.serializers import NO_SERIALIZERS, Serializer, load_with
from kvcache_client.protocol.shown import shown

__all__ = [
    "INT64_MAX",
    "INT64_MIN",
    "KNOWN_BY_ALL",
    "Key",
    "Known",
    "SoftRecord",
    "Value",
    "decode_record",
    "encode_key",
    "encode_value",
    "prefixed",
]

Key: TypeAlias = str | bytes
"""What a caller may pass as a key; text is encoded as UTF-8."""

Value: TypeAlias = Any
"""None, bool, int (64 bits), float, str, bytes, datetime, date, time, timedelta, Decimal, UUID, and lists, tuples, dicts, sets
and frozensets of these."""

INT64_MIN: Final = -(1 << 63)
INT64_MAX: Final = (1 << 63) - 1

_MSGPACK: Final = int(PayloadType.MSGPACK)
_BYTES: Final = int(PayloadType.BYTES)
_TEXT: Final = int(PayloadType.TEXT)
_INTEGER: Final = int(PayloadType.INTEGER)
_JSON: Final = int(PayloadType.JSON)
_SERIALIZED: Final = int(PayloadType.SERIALIZED)
_TYPE: Final = 0x0F

# Packer itself, for packb is a Python function around it; and no look-up of either in its module for each value.
_Packer: Final = msgpack.Packer
_unpackb: Final = msgpack.unpackb

_DAMAGE: Final = (
    *(ValueError, TypeError, ArithmeticError, RecursionError),
    *(struct.error, msgpack.exceptions.UnpackException),
)
"""What Python and msgpack raise when bytes are not what they should be."""


class SoftRecord(Exception):
    """A signal, not an error: whoever knows the time must look first whether ``record`` is past its soft expiry."""

    def __init__(self, record: bytes) -> None:
        super().__init__()
        self.record = record


class Known(NamedTuple):
    """What a reader can make sense of beside the built-in forms."""

    serializers: Mapping[str, Serializer]
    """Name -> serializer of the caller's own."""
    expanded_limit: int
    """Bytes that a compressed payload may expand to."""


KNOWN_BY_ALL: Final = Known(NO_SERIALIZERS, VALUE_BYTES_CAP)


def encode_key(key: Key) -> bytes:
    """Return the key as bytes, 1 to 1024 of them. Any byte is allowed. Raises ``InvalidKey``."""
    if key.__class__ is str:
        try:
            name = key.encode()
        except UnicodeEncodeError as error:
            raise InvalidKey(f"key {shown(key)} is not valid Unicode: {error.reason}") from error
    elif key.__class__ is bytes:
        name = key
    else:
        raise InvalidKey(f"a key is str or bytes, not {type(key).__name__}: {shown(key)}")
    if 0 < len(name) <= KEY_BYTES:
        return name
    if not name:
        raise InvalidKey("the key is empty; a key has 1 to 1024 bytes")
    raise InvalidKey(f"the key has {len(name)} bytes, the limit is {KEY_BYTES}: {name[:40]!r}...", detail=KEY_BYTES)


def prefixed(encode: Callable[[Key], bytes], prefix: Key) -> Callable[[Key], bytes]:
    """Return an ``encode`` that puts ``prefix`` before every key; the limit holds for both together."""
    front = encode(prefix)

    def encode_prefixed(key: Key) -> bytes:
        return encode_key(front + encode_key(key))

    return encode_prefixed


def encode_value(value: Value) -> tuple[int, bytes]:
    """Return the flags and the payload of ``value``. Raises ``UnsupportedValue``, which says what stands where."""
    kind = value.__class__
    if kind is bytes:
        return _BYTES, value
    try:
        if kind is str:
            return _TEXT, value.encode()
        if kind is int and INT64_MIN <= value <= INT64_MAX:
            return _INTEGER, b"%d" % value
        return _MSGPACK, _Packer(default=pack_extension, strict_types=True).pack(value)
    except (TypeError, ValueError, OverflowError, RecursionError, BufferError) as error:
        raise UnsupportedValue(complaint(value, error)) from error


def decode_record(record: bytes, known: Known = KNOWN_BY_ALL) -> Value:
    """Return the Python value of a live record. Raises ``UndecodableValue`` with the raw record in ``detail``.

    Raises ``SoftRecord`` for one that has a soft expiry: an exception, for it costs all the others nothing.
    """
    flags = record[FLAGS]
    payload = record[HEADER_BYTES:]
    if flags == _BYTES:
        return payload
    try:
        if flags == _TEXT:
            return payload.decode()
        if flags == _INTEGER:
            return int(payload)
        if flags == _MSGPACK:
            return _unpackb(payload, strict_map_key=False, ext_hook=unpack_extension)
        if flags == _JSON:
            return json.loads(payload)
        return _decode_wrapped(record, flags, known)
    except UndecodableValue as error:  # from within, where the whole record is not known
        error.detail = record
        raise
    except _DAMAGE as error:
        raise UndecodableValue(
            f"a damaged payload with flags {flags:#04x}: {error or type(error).__name__}", detail=record
        ) from error


def _decode_wrapped(record: bytes, flags: int, known: Known) -> Value:
    """Return the value of a record whose payload is not the value itself. Each wrapper may be there once, so this ends."""
    if flags in MARKED and (bare := unfenced(record))[FLAGS] not in MARKED:
        return decode_record(bare, known)
    if is_soft(record):
        raise SoftRecord(record)
    if flags == _SERIALIZED:
        return load_with(known.serializers, record[HEADER_BYTES:])
    if 0 < flags & COMPRESSION_MASK == flags & ~_TYPE and flags & _TYPE <= _SERIALIZED:
        original = expanded(record, known.expanded_limit)
        if original is not None:
            return decode_record(original, known)
    raise UndecodableValue(f"a payload with flags {flags:#04x}, which this client does not know", detail=record)
