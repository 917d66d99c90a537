"""Media types: what the HTTP world calls the types of payloads, and what each must look like.

Here lives the mapping both ways, the unwrapping of what is shown, and the check of a payload that comes from outside. Never
here: decoding for use; a payload is checked once, when it comes in, and travels as the bytes that it is. Only what a client
has compressed is expanded, since a reader without its extra could do nothing with it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, NoReturn

import msgpack

from kvcache.transport.http.answers import Refusal
from kvcache_client.protocol.codec import INT64_MAX, INT64_MIN
from kvcache_client.protocol.compression import expanded
from kvcache_client.protocol.errors import UndecodableValue, UnsupportedValue
from kvcache_client.protocol.limits import VALUE_BYTES_CAP
from kvcache_client.protocol.record import COMPRESSION_MASK, FLAGS, PayloadType, payload_of, unfenced
from kvcache_client.protocol.serializers import serializer_name

__all__ = ["MEDIA_TYPES", "TYPE_NAMES", "Shown", "check_payload", "payload_type_for", "shown"]

MEDIA_TYPES: Final[Mapping[PayloadType, str]] = {
    PayloadType.BYTES: "application/octet-stream",
    PayloadType.TEXT: "text/plain; charset=utf-8",
    PayloadType.INTEGER: "text/plain; charset=utf-8",
    PayloadType.JSON: "application/json",
    PayloadType.MSGPACK: "application/msgpack",
    PayloadType.SERIALIZED: "application/octet-stream",
}
"""Payload type -> Content-Type of a GET."""

TYPE_NAMES: Final[Mapping[str, PayloadType]] = {kind.name.lower(): kind for kind in MEDIA_TYPES}
"""Name -> payload type, as batches call them: bytes, text, integer, json, msgpack, serialized."""

_MSGPACK_NAMES: Final = frozenset({"application/msgpack", "application/x-msgpack", "application/vnd.msgpack"})
_FORM: Final = "application/x-www-form-urlencoded"
"""What ``curl -d`` says of everything; taken as the text that its user typed."""

_INTEGER: Final = re.compile(rb"-?(?:0|[1-9][0-9]{0,18})")


def payload_type_for(content_type: str, charset: str | None) -> PayloadType:
    """Return the payload type of a request body. Raises ``UnsupportedValue`` for text that is not UTF-8."""
    kind = content_type.lower()
    if kind == "application/json" or kind.endswith("+json"):
        found = PayloadType.JSON
    elif kind.startswith("text/") or kind == _FORM:
        found = PayloadType.TEXT
    elif kind in _MSGPACK_NAMES:
        return PayloadType.MSGPACK
    else:
        return PayloadType.BYTES
    if charset is not None and charset.lower() not in ("utf-8", "utf8", "us-ascii"):
        raise UnsupportedValue(f"text is stored as UTF-8, not {charset!r:.40}")
    return found


@dataclass(frozen=True, slots=True)
class Shown:
    """A value as HTTP shows it: without fence and compression."""

    kind: PayloadType
    payload: bytes

    @property
    def serializer(self) -> str | None:
        """The name of the serializer that wrote it, unless every client can read it."""
        return serializer_name(self.payload)[0] if self.kind is PayloadType.SERIALIZED else None

    @property
    def body(self) -> bytes:
        """The payload without that name."""
        return self.payload[serializer_name(self.payload)[1] :] if self.kind is PayloadType.SERIALIZED else self.payload


def shown(record: bytes) -> Shown:
    """Return what there is to show of a live record. Raises ``UndecodableValue`` for what this node cannot make sense of."""
    bare = unfenced(record)
    flags = bare[FLAGS]
    try:
        if flags & COMPRESSION_MASK:
            bare = expanded(bare, VALUE_BYTES_CAP) or bare
        kind = PayloadType(bare[FLAGS])
        if kind is PayloadType.SERIALIZED:
            serializer_name(payload_of(bare))
    except ValueError as error:
        raise UndecodableValue(f"a payload with flags {flags:#04x} that this node cannot read: {error}") from error
    if kind not in MEDIA_TYPES:
        raise UndecodableValue(f"a payload with flags {flags:#04x}, which this node does not know")
    return Shown(kind, payload_of(bare))


def check_payload(kind: PayloadType, payload: bytes, place: str = "the body") -> None:
    """Raise a ``Refusal`` unless ``payload`` is what its type says, so that every client can decode it."""
    try:
        if kind is PayloadType.TEXT:
            payload.decode()
        elif kind is PayloadType.JSON:
            json.loads(payload.decode(), parse_constant=_no_such_constant)
        elif kind is PayloadType.MSGPACK:
            _skip_one(payload)
        elif kind is PayloadType.INTEGER:
            _check_integer(payload)
        elif kind is PayloadType.SERIALIZED:
            serializer_name(payload)
    except (ValueError, RecursionError, msgpack.exceptions.UnpackException) as error:
        reason = str(error) or type(error).__name__
        raise Refusal(HTTPStatus.BAD_REQUEST, f"{place} is not {kind.name.lower()}: {reason:.200}") from error


def _no_such_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _skip_one(payload: bytes) -> None:
    """Walk over one msgpack value without building it, so that a small body can't become a large object."""
    unpacker = msgpack.Unpacker(max_buffer_size=max(len(payload), 1))
    unpacker.feed(payload)
    try:
        unpacker.skip()
    except msgpack.exceptions.OutOfData as error:
        raise ValueError("it ends too early") from error
    if unpacker.tell() != len(payload):
        raise ValueError(f"{len(payload) - unpacker.tell()} bytes follow the value")


def _check_integer(payload: bytes) -> None:
    if not _INTEGER.fullmatch(payload) or not INT64_MIN <= int(payload) <= INT64_MAX:
        raise ValueError(f"{payload[:24]!r} is not a decimal number of 64 bits")
