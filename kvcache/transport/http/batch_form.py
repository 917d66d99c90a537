"""Many keys over HTTP: ``POST /v1/batch``, msgpack in and out.

Here lives the form of a batch, read as untrusted input. Never here: carrying it out (``batch``).

The request is a map of up to three lists, the reply a map of as many; each outcome stands in the place of its request::

    {"get":    [key, ...],                              {"get":    [nil | [type, payload, version, ttl] | error, ...],
     "set":    [[key, value, ttl?, type?], ...],   ->    "set":    [version | error, ...],
     "delete": [key, ...]}                               "delete": [true | false | error, ...]}

    error = {"error": name, "message": text, "retryable": bool}

Gets are done first, then sets, then deletes. A key is bin or str. Values travel as raw payloads (bin) with the name of
their type: bytes, text, integer, json, msgpack or serialized (which begins with the name of its serializer, as WIRE.md says);
so a node never decodes and encodes again what it only passes on, and one odd value can't spoil a reply. In a set, a bare bin
is bytes and a bare str is text; any other type is named: ``["k", b'{"a": 1}', 60.0, "json"]``. ``ttl`` is seconds or nil;
``version`` is what If-Match takes. A key that is set twice keeps its last value.

A batch that is wrong in any place (a bad key, a bad ttl, a payload that is not what its type says) is refused as a whole
before anything is done. After that, what goes wrong with one key is that key's outcome. When a reply has reached its limit
the keys left over get ``ReplyFull``: ask again for those.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

import msgpack

from kvcache.transport.http.answers import Refusal
from kvcache.transport.http.limits import HttpLimits
from kvcache.transport.http.media import TYPE_NAMES, check_payload
from kvcache_client.protocol.codec import encode_key
from kvcache_client.protocol.errors import (
    BatchTooLarge,
    InvalidKey,
    InvalidTtl,
    KvCacheError,
    UnsupportedValue,
    ValueTooLarge,
)
from kvcache_client.protocol.record import PayloadType

__all__ = ["Batch", "SetRow", "read_batch"]

_SECTIONS: Final = ("get", "set", "delete")
_ROW_MIN: Final = 2
_ROW_MAX: Final = 4

_UNPACK_ERRORS: Final = (ValueError, TypeError, msgpack.exceptions.UnpackException, msgpack.exceptions.BufferFull)


@dataclass(frozen=True, slots=True)
class SetRow:
    """One write."""

    key: bytes
    kind: PayloadType
    payload: bytes
    ttl: float | None


@dataclass(slots=True)
class Batch:
    """What a request asks for, checked."""

    get: list[bytes] = field(default_factory=list)
    set: list[SetRow] = field(default_factory=list)
    delete: list[bytes] = field(default_factory=list)
    sections: list[str] = field(default_factory=list)
    """The sections that the request had, even if empty; the reply has the same."""


def read_batch(body: bytes, limits: HttpLimits) -> Batch:
    """Return the batch that ``body`` holds. Raises ``BatchTooLarge``, or says what stands wrong where.

    Maps and lists are read header by header as the form wants them, and nowhere else are any allowed: nesting is
    impossible, and a header that promises more than the limit is refused before anything is built from it.
    """
    unpacker = msgpack.Unpacker(
        max_buffer_size=max(len(body), 1), max_array_len=0, max_map_len=0, max_ext_len=0, strict_map_key=True
    )
    unpacker.feed(body)
    try:
        batch = _read_sections(unpacker, limits)
        extra = len(body) - unpacker.tell()
    except KvCacheError:  # before the next line, since usage errors are ValueErrors too
        raise
    except msgpack.exceptions.OutOfData as error:
        raise Refusal(HTTPStatus.BAD_REQUEST, "the batch ends too early") from error
    except _UNPACK_ERRORS as error:
        reason = str(error) or type(error).__name__
        raise Refusal(HTTPStatus.BAD_REQUEST, f"not a batch, near byte {unpacker.tell()}: {reason:.200}") from error
    if extra:
        raise Refusal(HTTPStatus.BAD_REQUEST, f"{extra} bytes follow the batch")
    return batch


def _read_sections(unpacker: msgpack.Unpacker, limits: HttpLimits) -> Batch:
    batch = Batch()
    left = limits.batch_keys
    for _ in range(unpacker.read_map_header()):
        section = unpacker.unpack()
        if section not in _SECTIONS or section in batch.sections:
            raise Refusal(
                HTTPStatus.BAD_REQUEST, f"a batch has get, set and delete, each at most once; not {section!r:.40}"
            )
        batch.sections.append(section)
        count = unpacker.read_array_header()
        left -= count
        if left < 0:
            raise BatchTooLarge(f"over {limits.batch_keys} keys in one batch", detail=limits.batch_keys)
        if section == "set":
            batch.set = [_read_row(unpacker, f"set[{index}]", limits) for index in range(count)]
        else:
            keys = [_read_key(unpacker, section, index) for index in range(count)]
            setattr(batch, section, keys)
    return batch


def _read_key(unpacker: msgpack.Unpacker, section: str, index: int) -> bytes:
    try:
        return encode_key(unpacker.unpack())
    except InvalidKey as error:
        raise InvalidKey(f"{section}[{index}]: {error}", detail=error.detail) from error


def _read_row(unpacker: msgpack.Unpacker, place: str, limits: HttpLimits) -> SetRow:
    fields = unpacker.read_array_header()
    if not _ROW_MIN <= fields <= _ROW_MAX:
        raise Refusal(HTTPStatus.BAD_REQUEST, f"{place} has {fields} fields; it is [key, value, ttl?, type?]")
    raw_key, value, ttl, name = [unpacker.unpack() for _ in range(fields)] + [None] * (_ROW_MAX - fields)
    try:
        key = encode_key(raw_key)
    except InvalidKey as error:
        raise InvalidKey(f"{place}: {error}", detail=error.detail) from error
    if ttl is not None and (isinstance(ttl, bool) or not isinstance(ttl, int | float)):
        raise InvalidTtl(f"{place}: ttl={ttl!r:.40}: must be a number of seconds or nil")
    if isinstance(value, str):
        kind, payload = PayloadType.TEXT, value.encode()
    elif isinstance(value, bytes):
        kind, payload = PayloadType.BYTES, value
    else:
        raise UnsupportedValue(f"{place}: the value is a {type(value).__name__}; send bin or str, and name its type")
    if name is not None:
        if name not in TYPE_NAMES:
            raise UnsupportedValue(f"{place}: unknown type {name!r:.40}; known: {', '.join(TYPE_NAMES)}")
        kind = TYPE_NAMES[name]
    if len(payload) > limits.value_limit:
        raise ValueTooLarge(
            f"{place}: the value has {len(payload)} bytes, the limit is {limits.value_limit}", detail=limits.value_limit
        )
    check_payload(kind, payload, f"{place}: the value")
    return SetRow(key, kind, payload, ttl)
