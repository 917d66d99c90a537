from __future__ import annotations

import datetime
import decimal
import enum
import json
import math
from collections import Counter, OrderedDict, defaultdict, deque
from typing import Any, NamedTuple

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvcache_client.protocol.codec import INT64_MAX, INT64_MIN, SoftRecord, decode_record, encode_value
from kvcache_client.protocol.errors import UndecodableValue, UnsupportedValue
from kvcache_client.protocol.record import NEVER, TOMBSTONE, PayloadType, make_record, tombstone

UINT64_MAX = (1 << 64) - 1


class Mapping(dict[str, int]):
    pass


class Items(list[int]):
    pass


class Level(enum.IntEnum):
    LOW = 1


class Ratio(float):
    pass


class Plain:
    pass


class Pair(NamedTuple):
    one: int
    two: int


class Tags(set[int]):
    pass


class Moment(datetime.datetime):
    pass


class Price(decimal.Decimal):
    pass


class Odd(datetime.tzinfo):
    def utcoffset(self, moment: datetime.datetime | None) -> datetime.timedelta:
        return datetime.timedelta(0)


def there_and_back(value: Any) -> Any:
    flags, payload = encode_value(value)
    return decode_record(make_record(1, NEVER, flags, payload))


def same(one: Any, other: Any) -> bool:
    """Equality that tells 1 from 1.0 and True, and takes NaN for itself."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        both_nan = math.isnan(one) and math.isnan(other)
        return both_nan or (one == other and math.copysign(1, one) == math.copysign(1, other))
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return len(one) == len(other) and all(
            same(a, b) and same(one[a], other[b]) for a, b in zip(one, other, strict=True)
        )
    return bool(one == other)


texts = st.text(alphabet=st.characters(codec="utf-8"), max_size=20)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(INT64_MIN, UINT64_MAX), st.floats(), texts, st.binary(max_size=20)
)
names = st.one_of(texts, st.integers(INT64_MIN, INT64_MAX), st.binary(max_size=8), st.booleans(), st.none())
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(names, inner, max_size=5)),
    max_leaves=20,
)


@settings(max_examples=120)
@given(values)
def test_every_value_comes_back_as_it_was_type_and_all(value: Any) -> None:
    assert same(there_and_back(value), value)


@pytest.mark.parametrize(
    ("value", "kind", "payload"),
    [
        (b"\x00\xff", PayloadType.BYTES, b"\x00\xff"),
        (b"", PayloadType.BYTES, b""),
        ("", PayloadType.TEXT, b""),
        ("schlüssel", PayloadType.TEXT, "schlüssel".encode()),
        (0, PayloadType.INTEGER, b"0"),
        (-17, PayloadType.INTEGER, b"-17"),
        (INT64_MAX, PayloadType.INTEGER, b"9223372036854775807"),
        (INT64_MIN, PayloadType.INTEGER, b"-9223372036854775808"),
        (UINT64_MAX, PayloadType.MSGPACK, b"\xcf" + b"\xff" * 8),
        (True, PayloadType.MSGPACK, b"\xc3"),
        (None, PayloadType.MSGPACK, b"\xc0"),
        ({"n": [1]}, PayloadType.MSGPACK, b"\x81\xa1n\x91\x01"),
    ],
    ids=repr,
)
def test_integers_text_and_bytes_are_stored_plain_and_all_else_as_msgpack(
    value: Any, kind: PayloadType, payload: bytes
) -> None:
    assert encode_value(value) == (kind, payload)
    assert same(there_and_back(value), value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.0, 5e-324, 1.7976931348623157e308])
def test_floats_come_back_bit_by_bit(value: float) -> None:
    assert same(there_and_back(value), value)
    assert same(there_and_back([value]), [value])


@pytest.mark.parametrize("number", [INT64_MAX + 1, UINT64_MAX])
def test_integers_up_to_64_bits_unsigned_are_kept(number: int) -> None:
    assert same(there_and_back(number), number)
    assert same(there_and_back({"n": number}), {"n": number})


@pytest.mark.parametrize("number", [UINT64_MAX + 1, INT64_MIN - 1, 10**100])
def test_integers_beyond_64_bits_are_refused_where_they_stand(number: int) -> None:
    with pytest.raises(UnsupportedValue, match=r"^value is an integer beyond 64 bits; a value is None"):
        encode_value(number)
    with pytest.raises(UnsupportedValue, match=r"^value\['a'\]\[1\] is an integer beyond 64 bits"):
        encode_value({"a": [0, number]})


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (1j, "a complex"),
        (range(3), "a range"),
        (Pair(1, 2), "Pair"),
        (Tags([1]), "Tags"),
        (Moment(2024, 1, 1), "Moment"),
        (
            datetime.datetime(2024, 1, 1, tzinfo=Odd()),
            r"a datetime.datetime with a time zone that is a .*Odd, where only timezone .*",
        ),
        (datetime.time(1, tzinfo=Odd()), r"a datetime.time with a time zone that is a .*Odd, where only timezone .*"),
        (Price("1.5"), "Price"),
        (Mapping(a=1), "Mapping"),
        (OrderedDict(a=1), "a collections.OrderedDict"),
        (defaultdict(int), "a collections.defaultdict"),
        (Counter("a"), "a collections.Counter"),
        (deque([1]), "a collections.deque"),
        (Items([1]), "Items"),
        (Level.LOW, "Level"),
        (Ratio(0.5), "Ratio"),
        (Plain(), "Plain"),
        (Plain, "a type"),
        (print, "a builtin_function_or_method"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_every_other_type_is_refused_by_name_and_place(value: Any, what: str) -> None:
    with pytest.raises(UnsupportedValue, match=rf"^value is .*{what}; a value is None, bool"):
        encode_value(value)
    with pytest.raises(UnsupportedValue, match=rf"^value\['users'\]\[2\]\['seen'\] is .*{what}; "):
        encode_value({"id": 1, "users": [1, "x", {"name": "Ada", "seen": value}]})


@pytest.mark.parametrize(("key", "what"), [(Pair(1, 2), "Pair"), (range(2), "a range"), (Level.LOW, "Level")])
def test_a_key_of_a_dict_is_refused_by_name_and_place(key: Any, what: str) -> None:
    with pytest.raises(UnsupportedValue, match=rf"^the key .* of value\[0\] is .*{what}; "):
        encode_value([{"good": 1, key: 2}])


def test_a_dict_with_integers_for_keys_comes_back_with_integers() -> None:
    value = {1: "a", -5: "b", UINT64_MAX: "c", None: "d", b"x": 0.5, "x": {2: []}}
    assert same(there_and_back(value), value)


@pytest.mark.parametrize("text", ["\ud800", "ok\udfff"])
def test_text_that_is_no_unicode_is_refused_where_it_stands(text: str) -> None:
    with pytest.raises(UnsupportedValue, match=r"^value is a str that is not valid Unicode"):
        encode_value(text)
    with pytest.raises(UnsupportedValue, match=r"^value\[0\]\['k'\] is a str that is not valid Unicode"):
        encode_value([{"k": text}])
    with pytest.raises(UnsupportedValue, match=r"^the key .* of value is a str that is not valid Unicode"):
        encode_value({text: 1})


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


def depth_of(value: list[Any]) -> int:
    depth = 1
    while value:
        (value,) = value
        depth += 1
    return depth


def test_nesting_is_kept_up_to_what_msgpack_takes_and_refused_beyond() -> None:
    for depth in (100, 600, 1000):
        assert depth_of(there_and_back(nested(depth))) == depth
    for depth in (1100, 100_000):
        with pytest.raises(UnsupportedValue, match=r"^value is a list in which containers stand more than 1024 deep"):
            encode_value(nested(depth))


@pytest.mark.parametrize("depth", [10, 100, 1000])
def test_a_wrong_item_is_found_however_deep_it_stands(depth: int) -> None:
    value: Any = object()
    for _ in range(depth):
        value = [1, {"a": value}] if depth <= 100 else [value]
    with pytest.raises(UnsupportedValue, match=r"^value\[.{,170}\] is a object; a value is None") as caught:
        encode_value([[], value])
    assert str(caught.value).startswith("value[1][")


def test_where_containers_stand_too_deep_is_said() -> None:
    deep = nested(300)
    with pytest.raises(
        UnsupportedValue,
        match=r"^value\['a'\]\[1\] is a tuple in which .* more than 256 deep in each other, down to value\['a'\]\[1\]"
        r"\[2\](\[0\])+\[\.\.\..*\[0\]$",
    ):
        encode_value({"a": [nested(400), (1, 2, deep)]})
    with pytest.raises(UnsupportedValue, match=r"value\['a'\]\[0\]\['b'\] is value\['a'\] again: .* has no end$"):
        circle: list[Any] = [{}]
        circle[0]["b"] = circle
        encode_value({"a": circle})


def test_a_key_that_cannot_be_shown_does_not_hide_what_is_wrong() -> None:
    with pytest.raises(UnsupportedValue, match=r"^the key <int of 16610 bits> of value is an integer beyond 64 bits"):
        encode_value({10**5000: 1})


def test_a_view_that_cannot_be_stored_is_refused_where_it_stands() -> None:
    gaps = memoryview(b"abcdef")[::2]
    released = memoryview(b"ab")
    released.release()
    for view, what in ((gaps, "a memoryview with gaps"), (released, "a memoryview that was released")):
        with pytest.raises(UnsupportedValue, match=rf"^value is {what}"):
            encode_value(view)
        with pytest.raises(UnsupportedValue, match=rf"^value\[0\]\['v'\] is {what}"):
            encode_value(({"v": view},))
    assert there_and_back(memoryview(b"abcdef")[1:3]) == b"bc"


def test_a_value_that_holds_itself_is_refused_in_no_time() -> None:
    once: list[Any] = []
    once.append(once)
    often: list[Any] = [1]
    often += [often, {"again": often, "and again": [often, often]}]
    for endless, where in ((once, r"\[0\]"), (often, r"\[(1|2\]\['again')\]")):
        with pytest.raises(
            UnsupportedValue, match=rf"^value{where} is value again: a value that holds itself has no end$"
        ):
            encode_value(endless)


def test_a_shared_list_is_fine_and_a_wrong_item_in_it_is_found_once() -> None:
    shared = [1, 2]
    assert there_and_back([shared, shared, {"s": shared}]) == [[1, 2], [1, 2], {"s": [1, 2]}]
    wrong = [1j]
    with pytest.raises(UnsupportedValue, match=r"^value\[0\]\[0\] is a complex"):
        encode_value([wrong, wrong])


def test_the_cause_of_a_refusal_stays_visible() -> None:
    with pytest.raises(UnsupportedValue) as caught:
        encode_value([object()])
    assert isinstance(caught.value.__cause__, TypeError)


def test_other_kinds_of_bytes_come_back_as_the_bytes_they_held() -> None:
    assert there_and_back(bytearray(b"ab")) == b"ab"
    assert there_and_back([memoryview(b"ab")]) == [b"ab"]


# Reading what others wrote


def record(flags: int, payload: bytes) -> bytes:
    return make_record(1, NEVER, flags, payload)


@pytest.mark.parametrize(
    ("flags", "payload"),
    [
        (PayloadType.TEXT, b"\xff"),
        (PayloadType.INTEGER, b""),
        (PayloadType.INTEGER, b"12x"),
        (PayloadType.INTEGER, b"1.5"),
        (PayloadType.INTEGER, b"9" * 5000),
        (PayloadType.MSGPACK, b""),
        (PayloadType.MSGPACK, b"\xc1"),
        (PayloadType.MSGPACK, b"\x92\x01"),
        (PayloadType.MSGPACK, b"\x01\x02"),
        (PayloadType.MSGPACK, b"\xa1\xff"),
        (PayloadType.MSGPACK, b"\x81\x90\x01"),
        (PayloadType.MSGPACK, b"\x81\x80\x01"),
        (PayloadType.MSGPACK, b"\xdd\xff\xff\xff\xff"),
        (PayloadType.MSGPACK, b"\xc6\xff\xff\xff\xff"),
        (PayloadType.MSGPACK, b"\x91" * 100_000),
        (PayloadType.MSGPACK, b"\xd7\xff" + b"\xff" * 8),
        (PayloadType.JSON, b""),
        (PayloadType.JSON, b"{"),
        (PayloadType.JSON, b"\xff"),
        (PayloadType.JSON, b"[" * 100_000),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_damaged_payload_is_reported_with_the_raw_record(flags: int, payload: bytes) -> None:
    raw = record(flags, payload)
    with pytest.raises(UndecodableValue, match=f"damaged payload with flags {int(flags):#04x}") as caught:
        decode_record(raw)
    assert caught.value.detail == raw
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("flags", [6, 13, 15, 0x30, 0x70, 0x33, 0x1F, 0x1D, TOMBSTONE | 1, TOMBSTONE | 0x10, 0xFF])
def test_flags_from_the_future_are_named_and_not_guessed_at(flags: int) -> None:
    with pytest.raises(UndecodableValue, match=f"flags {flags:#04x}, which this client does not know") as caught:
        decode_record(record(flags, b"1"))
    assert caught.value.detail == record(flags, b"1")


def test_a_tombstone_has_no_value() -> None:
    with pytest.raises(UndecodableValue):
        decode_record(tombstone(1, NEVER))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | texts,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
        max_leaves=10,
    )
)
def test_json_from_the_http_side_is_read(value: Any) -> None:
    assert decode_record(record(PayloadType.JSON, json.dumps(value).encode())) == value


@settings(max_examples=300)
@given(st.integers(0, 255), st.binary(max_size=40))
def test_whatever_lies_there_is_either_read_or_reported(flags: int, payload: bytes) -> None:
    try:
        decode_record(record(flags, payload))
    except UndecodableValue as error:
        assert error.detail == record(flags, payload)  # noqa: PT017 - most payloads do decode
    except SoftRecord as soft:
        assert soft.record == record(flags, payload)  # noqa: PT017


@settings(max_examples=100)
@given(values, st.data())
def test_a_cut_or_flipped_payload_is_either_read_or_reported(value: Any, data: st.DataObject) -> None:
    payload = bytearray(msgpack.packb([value]))
    place = data.draw(st.integers(0, len(payload) - 1))
    payload[place] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.integers(0, len(payload)))
    damaged = record(PayloadType.MSGPACK, bytes(payload[:cut]))
    try:
        decode_record(damaged)
    except UndecodableValue as error:
        assert error.detail == damaged  # noqa: PT017 - some payloads still decode
        # What can be read, and is of a kind that is not known, is all there is to say; else the decoder has said why.
        assert error.__cause__ is not None or "extension type" in str(error)  # noqa: PT017
