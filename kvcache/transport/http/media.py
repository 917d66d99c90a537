"""Media types: what the HTTP world calls the types of payloads, and what each must look like.

Here lives the mapping both ways and the check of a payload that comes from outside. Never here: decoding for use; a
payload is checked once, when it comes in, and travels as the bytes that it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final, NoReturn

import msgpack

from kvcache.transport.http.answers import Refusal
from kvcache_client.protocol.codec import INT64_MAX, INT64_MIN
from kvcache_client.protocol.errors import UndecodableValue, UnsupportedValue
from kvcache_client.protocol.record import FLAGS, PayloadType

__all__ = ["MEDIA_TYPES", "TYPE_NAMES", "check_payload", "payload_type_for", "payload_type_of"]

MEDIA_TYPES: Final[Mapping[PayloadType, str]] = {
    PayloadType.BYTES: "application/octet-stream",
    PayloadType.TEXT: "text/plain; charset=utf-8",
    PayloadType.INTEGER: "text/plain; charset=utf-8",
    PayloadType.JSON: "application/json",
    PayloadType.MSGPACK: "application/msgpack",
}
"""Payload type -> Content-Type of a GET."""

TYPE_NAMES: Final[Mapping[str, PayloadType]] = {kind.name.lower(): kind for kind in MEDIA_TYPES}
"""Name -> payload type, as batches call them: msgpack, bytes, text, integer, json."""

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


def payload_type_of(record: bytes) -> PayloadType:
    """Return the payload type of a live record. Raises ``UndecodableValue`` for flags from the future."""
    try:
        return PayloadType(record[FLAGS])
    except ValueError as error:
        raise UndecodableValue(f"a payload with flags {record[FLAGS]:#04x}, which this node does not know") from error


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
