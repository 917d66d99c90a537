"""Serializers: other ways than ours to turn values into bytes.

Here lives the interface, the two that are built in beside the default, and the form in which a record names the one that
wrote it. Never here: choosing one (``core.values``), or the default itself (``codec``).

``json`` and ``bytes`` need no name in the record: there are payload types for what they write, which every client and HTTP
understand. A serializer of the caller's own is named, so that a reader without it can say what it lacks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Protocol, runtime_checkable

from kvcache_client.protocol.errors import InvalidOption, KvCacheError, UndecodableValue, UnsupportedValue
from kvcache_client.protocol.limits import SERIALIZER_NAME_BYTES
from kvcache_client.protocol.record import PayloadType
from kvcache_client.protocol.shown import shown
from kvcache_client.protocol.value_errors import UnknownSerializer

__all__ = [
    "BUILT_IN",
    "NO_SERIALIZERS",
    "Serializer",
    "bytes_encode",
    "check_serializer",
    "json_encode",
    "load_with",
    "serialize",
    "serializer_name",
]

BUILT_IN: Final = ("msgpack", "json", "bytes")
"""The names that a serializer of the caller's own can't have."""

_INT64: Final = range(-(1 << 63), 1 << 63)


@runtime_checkable
class Serializer(Protocol):
    """What turns values into bytes and back. Called in the caller's thread or event loop, so it should be quick."""

    @property
    def name(self) -> str:
        """What records call it, for ever: 1 to 64 bytes of UTF-8."""

    def dumps(self, value: Any, /) -> bytes:
        """Return the bytes of ``value``, or raise whatever says that it has none."""

    def loads(self, data: bytes, /) -> Any:
        """Return the value of what ``dumps`` gave. The bytes may come from anybody who may write to the cluster."""


NO_SERIALIZERS: Final[Mapping[str, Serializer]] = MappingProxyType({})


def json_encode(value: Any) -> tuple[int, bytes]:
    """Return flags and payload of ``value`` as JSON; an integer stays one, so that ``incr`` can count on."""
    if value.__class__ is int and value in _INT64:
        return PayloadType.INTEGER, b"%d" % value
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return PayloadType.JSON, text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise UnsupportedValue(f"serializer 'json' cannot store a {type(value).__name__}: {error}") from error


def bytes_encode(value: Any) -> tuple[int, bytes]:
    """Return flags and payload of ``value``, which must be bytes."""
    if value.__class__ is not bytes:
        raise UnsupportedValue(f"serializer 'bytes' stores bytes, not {type(value).__name__}")
    return PayloadType.BYTES, value


def check_serializer(serializer: Serializer) -> None:
    """Raise ``InvalidOption`` unless this can be used as a serializer."""
    if not isinstance(serializer, Serializer):
        raise InvalidOption(
            f"serializer={shown(serializer, 60)}: must have a name, dumps and loads, or be one of {BUILT_IN}"
        )
    name = serializer.name
    if not isinstance(name, str) or not 0 < len(name.encode()) <= SERIALIZER_NAME_BYTES:
        raise InvalidOption(
            f"the name of a serializer is text of 1 to {SERIALIZER_NAME_BYTES} bytes, not {shown(name)}"
        )
    if name in BUILT_IN:
        raise InvalidOption(f"a serializer of your own cannot be called {name!r}, which is built in")


def serialize(serializer: Serializer, value: Any) -> tuple[int, bytes]:
    """Return flags and payload of ``value`` under the serializer's name. Raises ``UnsupportedValue`` from what it raised."""
    name = serializer.name.encode()
    try:
        data = serializer.dumps(value)
    except KvCacheError:
        raise
    except Exception as error:
        raise UnsupportedValue(
            f"serializer {serializer.name!r} could not store a {type(value).__name__}: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(data, bytes):
        raise UnsupportedValue(f"serializer {serializer.name!r} made {type(data).__name__} of the value, not bytes")
    return PayloadType.SERIALIZED, bytes((len(name),)) + name + data


def serializer_name(payload: bytes) -> tuple[str, int]:
    """Return the name in a SERIALIZED payload, and where its data begins. Raises ``ValueError`` if there is none."""
    end = 1 + payload[0] if payload else 0
    if not 1 < end <= len(payload) or end > 1 + SERIALIZER_NAME_BYTES:
        raise ValueError("no name of a serializer in front")
    return payload[1:end].decode(), end


def load_with(serializers: Mapping[str, Serializer], payload: bytes) -> Any:
    """Return the value of a SERIALIZED payload."""
    name, begin = serializer_name(payload)
    serializer = serializers.get(name)
    if serializer is None:
        raise UnknownSerializer(f"written by serializer {shown(name)}, which this client was not given")
    try:
        return serializer.loads(payload[begin:])
    except KvCacheError:
        raise
    except Exception as error:
        raise UndecodableValue(f"serializer {name!r} could not read it: {type(error).__name__}: {error}") from error
