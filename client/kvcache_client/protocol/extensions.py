"""Extension types: what Python values that msgpack does not know look like inside a MSGPACK payload.

Here lives the table of WIRE.md's extension types, both ways. Never here: payloads as a whole (``codec``), or why something
is refused (``refusals``).

Only exact classes are taken: a subclass would come back as its base. Wall clocks travel as such, together with what says how
they relate to UTC, because that is what a datetime is in Python: a zone's rules may change between writing and reading.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import IntEnum
from typing import Any, Final, TypeAlias
from uuid import UUID
from zoneinfo import ZoneInfo

import msgpack

from kvcache_client.protocol.errors import UndecodableValue
from kvcache_client.protocol.limits import EXTENSION_DEPTH
from kvcache_client.protocol.nesting import require_depth

__all__ = ["CONTAINERS", "SCALARS", "Extension", "pack_extension", "pack_scalar", "unpack_extension"]


class Extension(IntEnum):
    """The code of an extension type, as WIRE.md describes its data."""

    DATETIME = 1
    DATE = 2
    TIME = 3
    TIMEDELTA = 4
    DECIMAL = 5
    UUID = 6
    TUPLE = 7
    SET = 8
    FROZENSET = 9


class _Zone(IntEnum):
    """What stands behind a wall clock, in bits 2-1 of its flags; bit 0 is the fold."""

    NONE = 0
    OFFSET = 1
    NAMED = 2


Pack: TypeAlias = Callable[[Any], bytes]
Unpack: TypeAlias = Callable[[bytes], Any]

_CLOCK: Final = struct.Struct(">qB")
"""Microseconds and flags; then, unless there is no zone, the offset and a name."""
_OFFSET: Final = struct.Struct(">q")
_DATE: Final = struct.Struct(">HBB")
_DELTA: Final = struct.Struct(">iII")

_BUFFER_BYTES: Final = 256
"""What a packer of items begins with; it grows. Its own default would map fresh pages for every tuple."""

_extension: Final = msgpack.ExtType._make
"""Its constructor checks that code and data are of their types, which takes longer than to look for tuples in a tuple."""

_EPOCH: Final = datetime(1970, 1, 1)  # wall clocks have no zone
_TICK: Final = timedelta(microseconds=1)
_DAY_TICKS: Final = timedelta(days=1) // _TICK


def _pack_clock(ticks: int, moment: datetime | time) -> bytes:
    zone = moment.tzinfo
    if zone is None:
        return _CLOCK.pack(ticks, moment.fold)
    if zone.__class__ is timezone:
        kind = _Zone.OFFSET
        # A timezone tells its name only by the arguments that would make it again.
        name = zone.__getinitargs__()[1:]  # type: ignore[attr-defined]
        text: str = name[0] if name else ""
    elif zone.__class__ is ZoneInfo and zone.key is not None:
        kind, text = _Zone.NAMED, zone.key
    else:
        what = f"{type(zone).__module__}.{type(zone).__qualname__}"
        raise ValueError(f"with a time zone that is a {what}, where only timezone and a named ZoneInfo can be kept")
    offset = (moment.utcoffset() or timedelta()) // _TICK
    return _CLOCK.pack(ticks, kind << 1 | moment.fold) + _OFFSET.pack(offset) + text.encode()


def _unpack_clock(data: bytes) -> tuple[int, int, tzinfo | None]:
    """Return microseconds, fold and zone."""
    ticks, flags = _CLOCK.unpack_from(data)
    if flags == flags & 1:
        _require(len(data) == _CLOCK.size)
        return ticks, flags, None
    (offset,) = _OFFSET.unpack_from(data, _CLOCK.size)
    name = data[_CLOCK.size + _OFFSET.size :].decode()
    kind = flags >> 1
    if kind == _Zone.NAMED:
        return ticks, flags & 1, _zone(name)
    _require(kind == _Zone.OFFSET)
    shift = timedelta(microseconds=offset)
    return ticks, flags & 1, timezone(shift, name) if name else timezone(shift)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise UndecodableValue(f"a datetime in the time zone {name!r:.80}, which this machine does not know") from error


def _pack_datetime(moment: datetime) -> bytes:
    return _pack_clock((moment.replace(tzinfo=None, fold=0) - _EPOCH) // _TICK, moment)


def _unpack_datetime(data: bytes) -> datetime:
    ticks, fold, zone = _unpack_clock(data)
    return (_EPOCH + timedelta(microseconds=ticks)).replace(fold=fold, tzinfo=zone)


def _pack_time(moment: time) -> bytes:
    seconds = (moment.hour * 60 + moment.minute) * 60 + moment.second
    return _pack_clock(seconds * 1_000_000 + moment.microsecond, moment)


def _unpack_time(data: bytes) -> time:
    ticks, fold, zone = _unpack_clock(data)
    _require(0 <= ticks < _DAY_TICKS)
    return (_EPOCH + timedelta(microseconds=ticks)).time().replace(fold=fold, tzinfo=zone)


def _unpack_decimal(data: bytes) -> Decimal:
    text = data.decode("ascii")
    _require(text == text.strip() and "_" not in text)
    return Decimal(text)


def _require(well_formed: bool) -> None:
    if not well_formed:
        raise ValueError("an extension whose data is not of its type")


SCALARS: Final[dict[type, tuple[int, Pack]]] = {
    datetime: (Extension.DATETIME, _pack_datetime),
    date: (Extension.DATE, lambda day: _DATE.pack(day.year, day.month, day.day)),
    time: (Extension.TIME, _pack_time),
    timedelta: (Extension.TIMEDELTA, lambda span: _DELTA.pack(span.days, span.seconds, span.microseconds)),
    Decimal: (Extension.DECIMAL, lambda number: str(number).encode()),
    UUID: (Extension.UUID, lambda number: number.bytes),
}
"""Class -> code, and what makes its data; raises ValueError for one that cannot be kept."""

CONTAINERS: Final[dict[type, int]] = {
    tuple: Extension.TUPLE,
    set: Extension.SET,
    frozenset: Extension.FROZENSET,
}
"""Class -> code; the data is an array of the items."""

_UNPACK: Final[dict[int, Unpack]] = {
    Extension.DATETIME: _unpack_datetime,
    Extension.DATE: lambda data: date(*_DATE.unpack(data)),
    Extension.TIME: _unpack_time,
    Extension.TIMEDELTA: lambda data: timedelta(*_DELTA.unpack(data)),
    Extension.DECIMAL: _unpack_decimal,
    Extension.UUID: lambda data: UUID(bytes=data),
}
_OF_ITEMS: Final[dict[int, Callable[[list[Any]], Any]]] = {
    Extension.TUPLE: tuple,
    Extension.SET: set,
    Extension.FROZENSET: frozenset,
}


def pack_scalar(item: Any) -> msgpack.ExtType | None:
    """Return the extension of an item that holds no others, or None if there is none. Raises ``ValueError``."""
    found = SCALARS.get(item.__class__)
    return None if found is None else _extension((int(found[0]), found[1](item)))


def _packer_at(depth: int) -> Callable[[Any], msgpack.ExtType]:
    """Return what msgpack asks for an item that it does not know, ``depth`` tuples and sets deep."""

    def pack(item: Any) -> msgpack.ExtType:
        code = CONTAINERS.get(item.__class__)
        if code is None:
            scalar = pack_scalar(item)
            if scalar is None:
                raise TypeError(f"a {item.__class__.__qualname__} is not of a type that can be stored")
            return scalar
        if depth == EXTENSION_DEPTH:
            raise ValueError(f"tuples and sets stand more than {EXTENSION_DEPTH} deep in each other")
        if depth == 0:
            require_depth(item)  # for those within it as well
        packer = msgpack.Packer(default=_packers[depth + 1], strict_types=True, buf_size=_BUFFER_BYTES)
        return _extension((int(code), packer.pack(list(item))))

    return pack


def _unpacker_at(depth: int) -> Callable[[int, bytes], Any]:
    """Return what msgpack asks to make sense of an extension, ``depth`` tuples and sets deep."""

    def unpack(code: int, data: bytes) -> Any:
        known = _UNPACK.get(code)
        if known is not None:
            return known(data)
        collect = _OF_ITEMS.get(code)
        if collect is None:
            raise UndecodableValue(f"extension type {code}, which this client does not know")
        if depth == EXTENSION_DEPTH:
            raise ValueError(f"tuples and sets more than {EXTENSION_DEPTH} deep in each other")
        # Not unpackb: it keeps 40 KB on the C stack for each call, and these are calls within calls.
        unpacker = msgpack.Unpacker(
            ext_hook=_unpackers[depth + 1], strict_map_key=False, max_buffer_size=max(len(data), 1)
        )
        unpacker.feed(data)
        items = unpacker.unpack()
        _require(items.__class__ is list and unpacker.tell() == len(data))
        return collect(items)

    return unpack


_packers: Final = tuple(_packer_at(depth) for depth in range(EXTENSION_DEPTH + 1))
_unpackers: Final = tuple(_unpacker_at(depth) for depth in range(EXTENSION_DEPTH + 1))

pack_extension: Final = _packers[0]
"""For ``msgpack.Packer(default=...)`` with ``strict_types``. Raises ``TypeError`` for a type that is not in the table."""

unpack_extension: Final = _unpackers[0]
"""For ``ext_hook``. Raises ``UndecodableValue`` for a code from the future, and whatever damaged data makes Python raise."""
