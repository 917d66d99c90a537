"""What msgpack has no types for comes back as it was: to the class, the fold, the zone, the exponent."""

from __future__ import annotations

import datetime as dt
import io
import struct
import threading
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvcache_client.protocol.codec import decode_record, encode_value
from kvcache_client.protocol.errors import KvCacheError, UndecodableValue, UnsupportedValue
from kvcache_client.protocol.extensions import Extension
from kvcache_client.protocol.limits import CONTAINER_DEPTH, EXTENSION_DEPTH
from kvcache_client.protocol.record import NEVER, PayloadType, make_record

BERLIN = ZoneInfo("Europe/Berlin")


def there_and_back(value: Any) -> Any:
    flags, payload = encode_value(value)
    return decode_record(make_record(1, NEVER, flags, payload))


def faithful(value: Any) -> Any:
    """What must be equal of a value and its copy; equality of Python forgives too much."""
    match value:
        case dt.datetime() | dt.time():
            zone = value.tzinfo
            bare = value.replace(tzinfo=None)
            return (type(value), bare, value.fold, type(zone), str(zone), value.utcoffset())
        case Decimal():
            return (Decimal, value.as_tuple())
        case list() | tuple():
            return (type(value), tuple(faithful(item) for item in value))
        case set() | frozenset():
            return (type(value), frozenset(faithful(item) for item in value))
        case dict():
            return (dict, [(faithful(key), faithful(item)) for key, item in value.items()])
    return (type(value), value)


zones = st.one_of(
    st.none(),
    st.just(dt.UTC),
    st.just(dt.timezone(dt.timedelta(hours=1), "CET")),
    st.builds(dt.timezone, st.timedeltas(dt.timedelta(hours=-23), dt.timedelta(hours=23))),
    st.sampled_from([BERLIN, ZoneInfo("UTC"), ZoneInfo("Asia/Kathmandu")]),
)
scalars = st.one_of(
    st.integers(-5, 5),
    st.text(alphabet="ab", max_size=2),
    st.datetimes(timezones=zones, allow_imaginary=True),
    st.dates(),
    st.times(timezones=zones),
    st.timedeltas(),
    st.decimals(allow_nan=False),
    st.uuids(),
)
keys = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3), max_leaves=5
)
values = st.recursive(
    keys,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.sets(keys, max_size=3),
        st.dictionaries(keys, inner, max_size=3),
    ),
    max_leaves=12,
)


@settings(max_examples=150)
@given(values)
def test_every_value_comes_back_as_it_was_at_any_depth_and_as_a_key(value: Any) -> None:
    assert faithful(there_and_back(value)) == faithful(value)


@pytest.mark.parametrize(
    "value",
    [
        *(dt.datetime.min, dt.datetime.max, dt.date.min, dt.date.max, dt.time.min, dt.time.max),
        *(dt.timedelta.min, dt.timedelta.max, dt.timedelta.resolution, dt.timedelta(0)),
        dt.datetime.max.replace(tzinfo=dt.timezone(dt.timedelta(hours=-23, minutes=-59, microseconds=-999_999))),
        dt.datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN, fold=1),
        dt.time(2, 30, tzinfo=BERLIN, fold=1),
        *(Decimal(text) for text in ("0", "-0", "0E+5", "1.10", "1E+999999", "1E-999999", "9" * 100)),
        *(Decimal(text) for text in ("NaN", "-NaN7", "sNaN", "sNaN123", "Infinity", "-Infinity")),
        *(UUID(int=0), UUID(int=(1 << 128) - 1)),
        *((), (((),),), set(), frozenset(), {frozenset({frozenset()})}, ([{()}],)),
    ],
    ids=repr,
)
def test_the_ends_of_every_range_are_kept(value: Any) -> None:
    assert faithful(there_and_back(value)) == faithful(value)


def test_naive_and_aware_are_told_apart_and_fold_counts() -> None:
    naive = dt.datetime(2024, 10, 27, 2, 30)
    assert there_and_back(naive).tzinfo is None
    assert there_and_back(naive.replace(tzinfo=dt.UTC)).tzinfo is dt.UTC
    first, second = (there_and_back(naive.replace(tzinfo=BERLIN, fold=fold)) for fold in (0, 1))
    assert second.utcoffset() == dt.timedelta(hours=1)
    assert first.utcoffset() == dt.timedelta(hours=2)
    assert there_and_back(naive.replace(fold=1)).fold == 1


def nested(depth: int) -> Any:
    value: Any = ()
    for _ in range(depth - 1):
        value = [(value,)]
    return value


def test_tuples_stand_in_each_other_as_deep_as_the_limit_and_no_deeper() -> None:
    assert there_and_back(nested(EXTENSION_DEPTH)) == nested(EXTENSION_DEPTH)
    for depth in (EXTENSION_DEPTH + 1, 120):
        with pytest.raises(UnsupportedValue, match="more than 64 deep in each other"):
            encode_value(nested(depth))


def wrapped(value: Any, lists: int) -> Any:
    for _ in range(lists):
        value = [value]
    return value


def chained(tuples: int, lists: int) -> Any:
    value: Any = ()
    for _ in range(tuples - 1):
        value = (wrapped(value, lists),)
    return value


def in_a_dict(value: Any, dicts: int) -> Any:
    for _ in range(dicts):
        value = {"next": value}
    return value


@pytest.mark.parametrize("wrap", [wrapped, in_a_dict])
def test_from_a_tuple_on_down_lists_and_dicts_count_too(wrap: Callable[[Any, int], Any]) -> None:
    deepest = (wrap((), CONTAINER_DEPTH - 2),)
    assert there_and_back(wrap(deepest, 500)) == wrap(deepest, 500)
    for inner in ((), frozenset(), [], {}):
        with pytest.raises(UnsupportedValue, match="more than 256 deep in each other"):
            encode_value([1, ("x", wrap(inner, CONTAINER_DEPTH - 1))])


def endless(lists: int) -> Any:
    value: list[Any] = []
    value.append(wrapped((value,), lists))
    return value


def branching() -> Any:
    value: list[Any] = []
    value += [(value, value), {"again": (value, [value])}]
    return value


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (endless(0), "value that holds itself"),
        (endless(200), r"value\[0\]\[0.* is value.* again"),
        (endless(300), "more than 256 deep in each other, down to"),
        (branching(), "value that holds itself"),
        (chained(64, 400), "more than 256 deep in each other"),
    ],
    ids=["tight", "wide", "wider", "branching", "no circle"],
)
def test_calls_within_calls_end_before_the_stack_does(value: Any, reason: str) -> None:
    with pytest.raises(UnsupportedValue, match=reason):
        encode_value(value)


def test_shared_items_are_measured_once_in_each_level() -> None:
    value: Any = ()
    for _ in range(8):
        value = (value, value)
    assert len(encode_value(value)[1]) > 1 << 8
    for _ in range(CONTAINER_DEPTH):
        value = [value, value]
    with pytest.raises(UnsupportedValue, match="more than 256 deep in each other"):
        encode_value((value,))


def on_a_stack_of(size: int, work: Callable[[], Any]) -> Any:
    """Return what ``work`` returns or raises in a thread with a stack of ``size`` bytes."""
    outcomes: list[Any] = []

    def run() -> None:
        try:
            outcomes.append(work())
        except KvCacheError as error:
            outcomes.append(error)

    before = threading.stack_size(size)
    try:
        thread = threading.Thread(target=run)
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join(20)
    return outcomes[0]


def test_the_deepest_value_that_is_taken_can_be_packed_on_a_stack_of_1_mib() -> None:
    tuples = chained(EXTENSION_DEPTH - 1, 0)
    value = in_a_dict((in_a_dict(tuples, CONTAINER_DEPTH - EXTENSION_DEPTH),), 1000)
    packed = encode_value(value)  # compared as bytes: == would call itself too often
    assert on_a_stack_of(1 << 20, lambda: encode_value(there_and_back(value))) == packed


def hostile(depth: int, lists: int = 0) -> bytes:
    data = b"\x90"
    for _ in range(depth):
        data = b"\x91" * (lists + 1) + msgpack.packb(msgpack.ExtType(Extension.TUPLE, b"\x91" * lists + data))
    return data


def test_a_payload_that_nests_deeper_is_reported_also_on_a_small_stack() -> None:
    raw = make_record(1, NEVER, PayloadType.MSGPACK, hostile(5000))
    outcome = on_a_stack_of(256 * 1024, lambda: decode_record(raw))
    assert isinstance(outcome, UndecodableValue)
    assert "more than 64 deep" in str(outcome)


def test_what_is_deeper_than_a_writer_may_write_is_read_and_let_go_on_a_small_stack() -> None:
    raw = make_record(1, NEVER, PayloadType.MSGPACK, hostile(EXTENSION_DEPTH - 1, lists=500))

    def depth() -> int:
        value, levels = decode_record(raw), 0
        while value:
            (value,), levels = value, levels + 1
        return levels

    assert on_a_stack_of(256 * 1024, depth) == (EXTENSION_DEPTH - 1) * 1001


def extension(code: int, data: bytes) -> bytes:
    return make_record(1, NEVER, PayloadType.MSGPACK, msgpack.packb([msgpack.ExtType(code, data)]))


@pytest.mark.parametrize("code", [0, 10, 42, 127])
def test_an_extension_from_the_future_is_named_and_the_raw_record_is_at_hand(code: int) -> None:
    raw = extension(code, b"abc")
    with pytest.raises(UndecodableValue, match=f"extension type {code}, which this client does not know") as caught:
        decode_record(raw)
    assert caught.value.detail == raw


def test_an_extension_from_the_future_is_found_inside_a_tuple_too() -> None:
    inner = msgpack.packb([msgpack.ExtType(99, b"")])
    raw = extension(Extension.TUPLE, inner)
    with pytest.raises(UndecodableValue, match="extension type 99") as caught:
        decode_record(raw)
    assert caught.value.detail == raw


def clock(flags: int, zone: bytes, ticks: int = 0) -> bytes:
    return ticks.to_bytes(8, "big", signed=True) + bytes([flags]) + zone


@pytest.mark.parametrize(
    ("code", "data"),
    [
        (Extension.DATETIME, b""),
        (Extension.DATETIME, clock(0, b"x")),
        (Extension.DATETIME, clock(2, b"")),
        (Extension.DATETIME, clock(6, b"\0" * 8)),
        (Extension.DATETIME, clock(0xFF, b"\0" * 8)),
        (Extension.DATETIME, clock(0, b"", 2**63 - 1)),
        (Extension.DATETIME, clock(2, (86_400_000_000).to_bytes(8, "big"))),
        (Extension.DATETIME, clock(2, b"\0" * 8 + b"\xff")),
        (Extension.DATE, b"\0\0\0\0"),
        (Extension.DATE, b"\x07\xe8\x02\x1e"),
        (Extension.DATE, b"\x07\xe8\x02"),
        (Extension.TIME, clock(0, b"", -1)),
        (Extension.TIME, clock(0, b"", 86_400_000_000)),
        (Extension.TIMEDELTA, b"\x7f\xff\xff\xff" + b"\0" * 8),
        (Extension.TIMEDELTA, b"\0" * 11),
        *((Extension.DECIMAL, text) for text in (b"", b"1.2.3", b"1_0", b" 1", b"\xff", "\u0661".encode())),
        (Extension.UUID, b"\0" * 15),
        *((Extension.TUPLE, data) for data in (b"", b"\x01", b"\x80", b"\x92\x01", b"\x90\x90", b"\xc1")),
        *((Extension.SET, data) for data in (b"\x91\x90", b"\x91\x80", b"\xdd\xff\xff\xff\xff")),
        (Extension.FROZENSET, b"\x91\xd4\x08\x90"),
    ],
    ids=repr,
)
def test_damaged_data_of_an_extension_is_reported_with_the_raw_record(code: int, data: bytes) -> None:
    raw = extension(code, data)
    with pytest.raises(UndecodableValue) as caught:
        decode_record(raw)
    assert caught.value.detail == raw
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("name", ["Atlantis/Capital", "", "../../etc/passwd", "/etc/passwd", "Europe", "\0"])
def test_a_zone_that_is_not_known_here_is_named(name: str) -> None:
    raw = extension(Extension.DATETIME, clock(4, b"\0" * 8 + name.encode()))
    with pytest.raises(UndecodableValue, match=r"a datetime in the time zone .*, which this machine does not know"):
        decode_record(raw)


def test_a_zone_without_a_name_is_refused_where_it_stands() -> None:
    # The smallest file of a zone (RFC 8536, version 1): one type of local time, UTC.
    header = b"TZif" + b"\0" * 16 + struct.pack(">6l", 0, 0, 0, 0, 1, 4)
    unnamed = ZoneInfo.from_file(io.BytesIO(header + struct.pack(">lbb", 0, 0, 0) + b"UTC\0"))
    with pytest.raises(
        UnsupportedValue, match=r"value\['at'\] is a datetime.datetime with a time zone that is a zoneinfo"
    ):
        encode_value({"at": dt.datetime(2024, 1, 1, tzinfo=unnamed)})


@settings(max_examples=200)
@given(st.integers(0, 12), st.binary(max_size=30))
def test_whatever_an_extension_holds_is_either_read_or_reported(code: int, data: bytes) -> None:
    raw = extension(code, data)
    try:
        decode_record(raw)
    except UndecodableValue as error:
        assert error.detail == raw  # noqa: PT017 - some data do decode
