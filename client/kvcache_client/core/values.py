"""The form of values: which serializer a client writes with, whether it compresses, and what it can read.

Here lives how the options of values become the two functions that a space uses. Never here: serializers and compression
themselves (``protocol``).

What is written never decides what can be read: every client reads all built-in forms, compressed or not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, TypeAlias

from kvcache_client.core.kinds import SEQUENCE, check_kinds
from kvcache_client.protocol.codec import KNOWN_BY_ALL, Known, Value, decode_record, encode_value
from kvcache_client.protocol.compression import Compression, compression_called
from kvcache_client.protocol.errors import InvalidOption, ValueTooLarge
from kvcache_client.protocol.limits import VALUE_BYTES_CAP
from kvcache_client.protocol.record import COMPRESSION_SHIFT, PayloadType
from kvcache_client.protocol.serializers import (
    BUILT_IN,
    Serializer,
    bytes_encode,
    check_serializer,
    json_encode,
    serialize,
)
from kvcache_client.protocol.shown import shown

__all__ = ["COMPRESS_OVER", "Decode", "Encode", "ValueForm"]

Encode: TypeAlias = Callable[[Value], tuple[int, bytes]]
"""Value -> flags and payload."""
Decode: TypeAlias = Callable[[bytes], Value]
"""Live record -> value."""

COMPRESS_OVER: Final = 1024
"""Bytes of a payload from which on compressing is worth its time, unless told otherwise."""

_INTEGER: Final = int(PayloadType.INTEGER)
_ENCODERS: Final[Mapping[str, Encode]] = dict(zip(BUILT_IN, (encode_value, json_encode, bytes_encode), strict=True))


@dataclass(frozen=True, slots=True)
class ValueForm:
    """The options of values, as ``ClientConfig`` describes them. Raises ``InvalidOption``."""

    serializer: str | Serializer = "msgpack"
    serializers: tuple[Serializer, ...] = ()
    compression: str | None = None
    compress_over: int | None = None
    expanded_limit: int = VALUE_BYTES_CAP

    def __post_init__(self) -> None:
        check_kinds(self, {"serializers": SEQUENCE})
        if isinstance(self.serializer, str) and self.serializer not in BUILT_IN:
            raise InvalidOption(
                f"serializer={shown(self.serializer, 60)}: must be one of {', '.join(BUILT_IN)}, or an object"
            )
        self._by_name()
        if self.compression is not None:
            compression_called(self.compression)
        elif self.compress_over is not None:
            raise InvalidOption(
                f"compress_over={shown(self.compress_over, 20)} and compression=None contradict each other: nothing is compressed"
            )
        for option, size, least in (
            ("compress_over", self.compress_over, 0),
            ("expanded_limit", self.expanded_limit, 1),
        ):
            if size is not None and (type(size) is not int or not least <= size <= VALUE_BYTES_CAP):
                raise InvalidOption(f"{option}={shown(size, 20)}: must be {least} to {VALUE_BYTES_CAP} bytes")

    def with_serializer(self, serializer: str | Serializer) -> ValueForm:
        """Return the same with another serializer for writing; the one before can still be read."""
        mine = () if isinstance(self.serializer, str) else (self.serializer,)
        return replace(self, serializer=serializer, serializers=(*self.serializers, *mine))

    def _by_name(self) -> dict[str, Serializer]:
        found: dict[str, Serializer] = {}
        chosen = () if isinstance(self.serializer, str) else (self.serializer,)
        for each in (*chosen, *self.serializers):
            check_serializer(each)
            if found.setdefault(each.name, each) is not each:
                raise InvalidOption(
                    f"two serializers are called {each.name!r}: {shown(found[each.name], 60)} and {shown(each, 60)}"
                )
        return found

    def encoder(self) -> Encode:
        """Return what turns a value into flags and payload. It raises ``UnsupportedValue`` or ``ValueTooLarge``."""
        plain = _ENCODERS[self.serializer] if isinstance(self.serializer, str) else partial(serialize, self.serializer)
        if self.compression is None:
            return plain
        over = COMPRESS_OVER if self.compress_over is None else self.compress_over
        return partial(_encode_smaller, plain, compression_called(self.compression), over, self.expanded_limit)

    def decoder(self) -> Decode:
        """Return what turns a record into its value. It raises ``UndecodableValue``."""
        known = Known(self._by_name(), self.expanded_limit)
        return decode_record if known == KNOWN_BY_ALL else partial(decode_record, known=known)


def _encode_smaller(plain: Encode, compression: Compression, over: int, limit: int, value: Any) -> tuple[int, bytes]:
    flags, payload = plain(value)
    if len(payload) <= over or flags == _INTEGER:  # nodes read integers
        return flags, payload
    if len(payload) > limit:
        raise ValueTooLarge(
            f"the value has {len(payload)} bytes before it is compressed, the limit (expanded_limit) is {limit}",
            detail=limit,
        )
    smaller = compression.compress(payload)
    if len(smaller) >= len(payload):
        return flags, payload
    return flags | compression.code << COMPRESSION_SHIFT, smaller
