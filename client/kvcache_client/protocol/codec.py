"""Values: Python objects to typed payloads and back.

Here lives what a payload means to Python. Never here: headers, versions (``record``), messages (``framing``).

Integers, text and bytes are stored as what they are, so that a node can count, ``curl`` can read, and nothing is packed
twice; everything else is msgpack. Nothing is converted silently: a tuple or a subclass of dict would come back as
something else, so it is refused, with the place in the structure where it stands. (One exception, because msgpack knows no
way to refuse them: ``bytearray`` and ``memoryview`` come back as the bytes that they held.)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeAlias

import msgpack

from kvcache_client.protocol.errors import InvalidKey, UndecodableValue, UnsupportedValue
from kvcache_client.protocol.limits import KEY_BYTES
from kvcache_client.protocol.record import FLAGS, HEADER_BYTES, PayloadType, unfenced

__all__ = ["INT64_MAX", "INT64_MIN", "Key", "Value", "decode_record", "encode_key", "encode_value", "prefixed"]

Key: TypeAlias = str | bytes
"""What a caller may pass as a key; text is encoded as UTF-8."""

Value: TypeAlias = Any
"""None, bool, int (64 bits), float, str, bytes, and lists and dicts of these."""

INT64_MIN: Final = -(1 << 63)
INT64_MAX: Final = (1 << 63) - 1

_MSGPACK: Final = int(PayloadType.MSGPACK)
_BYTES: Final = int(PayloadType.BYTES)
_TEXT: Final = int(PayloadType.TEXT)
_INTEGER: Final = int(PayloadType.INTEGER)
_JSON: Final = int(PayloadType.JSON)
_FENCED: Final = int(PayloadType.FENCED)


def encode_key(key: Key) -> bytes:
    """Return the key as bytes, 1 to 1024 of them. Any byte is allowed. Raises ``InvalidKey``."""
    if key.__class__ is str:
        try:
            name = key.encode()
        except UnicodeEncodeError as error:
            raise InvalidKey(f"key {key!r:.80} is not valid Unicode: {error.reason}") from error
    elif key.__class__ is bytes:
        name = key
    else:
        raise InvalidKey(f"a key is str or bytes, not {type(key).__name__}: {key!r:.80}")
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
        return _MSGPACK, msgpack.packb(value, strict_types=True)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise UnsupportedValue(_complaint(value, error)) from error


def decode_record(record: bytes) -> Value:
    """Return the Python value of a live record. Raises ``UndecodableValue`` with the raw record in ``detail``."""
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
            return msgpack.unpackb(payload, strict_map_key=False)
        if flags == _JSON:
            return json.loads(payload)
        if flags == _FENCED and (bare := unfenced(record))[FLAGS] != _FENCED:
            return decode_record(bare)
    except (ValueError, TypeError, RecursionError, msgpack.exceptions.UnpackException) as error:
        raise UndecodableValue(f"a damaged payload with flags {flags:#04x}: {error}", detail=record) from error
    raise UndecodableValue(f"a payload with flags {flags:#04x}, which this client does not know", detail=record)


def _complaint(value: Value, error: Exception) -> str:
    for path, culprit in _walk(value, "value", set()):
        reason = _refusal(culprit)
        if reason:
            return f"{path} is {reason}; a value is None, bool, int, float, str, bytes, or a list or dict of these"
    return f"the value cannot be stored: {error}"


def _refusal(item: Value) -> str | None:
    kind = item.__class__
    if kind is int and not INT64_MIN <= item < (1 << 64):
        return "an integer beyond 64 bits"
    if kind is str:
        return None if item.isascii() or _is_unicode(item) else "a str that is not valid Unicode"
    if kind in (type(None), bool, int, float, bytes, bytearray, memoryview, list, dict):
        return None
    return f"a {kind.__module__}.{kind.__qualname__}" if kind.__module__ != "builtins" else f"a {kind.__qualname__}"


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _walk(item: Value, path: str, seen: set[int], depth: int = 0) -> Iterator[tuple[str, Value]]:
    """Yield every item with its path, each container once: a list may hold itself, even twice."""
    yield path, item
    if depth > 64 or id(item) in seen:  # deep or endless: the packer's own words have to do
        return
    if item.__class__ is list:
        seen.add(id(item))
        for index, inner in enumerate(item):
            yield from _walk(inner, f"{path}[{index}]", seen, depth + 1)
    elif item.__class__ is dict:
        seen.add(id(item))
        for key, inner in item.items():
            yield from _walk(key, f"the key {key!r:.40} of {path}", seen, depth + 1)
            yield from _walk(inner, f"{path}[{key!r:.40}]", seen, depth + 1)
