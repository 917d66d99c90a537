"""Serializers beside the default: what they write, what a reader without them says, and the signature before pickle."""

from __future__ import annotations

import os
import pickle
from typing import Any

import pytest

from kvcache_client.protocol.codec import Known, decode_record
from kvcache_client.protocol.errors import InvalidOption, UndecodableValue, UnsupportedValue
from kvcache_client.protocol.limits import VALUE_BYTES_CAP
from kvcache_client.protocol.record import NEVER, PayloadType, fenced, make_record
from kvcache_client.protocol.serializers import (
    Serializer,
    bytes_encode,
    check_serializer,
    json_encode,
    load_with,
    serialize,
)
from kvcache_client.protocol.signed_pickle import SignedPickle
from kvcache_client.protocol.value_errors import ForgedValue, UnknownSerializer

SECRET, OTHER = b"0123456789abcdef", b"fedcba9876543210"


class Upper:
    """Text in capitals."""

    name = "upper"

    def dumps(self, value: Any) -> bytes:
        return value.upper().encode()

    def loads(self, data: bytes) -> Any:
        return data.decode().lower()


class Broken(Upper):
    name = "broken"

    def dumps(self, value: Any) -> bytes:
        raise ZeroDivisionError("no bytes today")

    def loads(self, data: bytes) -> Any:
        raise MemoryError("no value today")


class Wrong(Upper):
    name = "wrong"

    def dumps(self, value: Any) -> Any:
        return "text"


def read(flags: int, payload: bytes, *serializers: Serializer) -> Any:
    return decode_record(
        make_record(1, NEVER, flags, payload), Known({each.name: each for each in serializers}, VALUE_BYTES_CAP)
    )


def test_what_a_serializer_wrote_carries_its_name_and_is_read_by_whoever_has_it():
    flags, payload = serialize(Upper(), "ada")
    assert (flags, payload) == (PayloadType.SERIALIZED, b"\x05upperADA")
    assert read(flags, payload, Upper()) == "ada"
    assert read(*fenced(5, flags, payload), Upper()) == "ada"


def test_a_reader_without_it_names_it_and_has_the_raw_record():
    flags, payload = serialize(Upper(), "ada")
    with pytest.raises(UnknownSerializer, match="by serializer 'upper', which this client was not given") as caught:
        read(flags, payload, Broken())
    assert caught.value.detail == make_record(1, NEVER, flags, payload)


@pytest.mark.parametrize("payload", [b"", b"\0", b"\x05uppe", b"\x41" + b"x" * 80, b"\xff", b"\x01\xff"])
def test_a_payload_without_a_whole_name_is_damaged(payload):
    with pytest.raises(UndecodableValue, match="damaged payload") as caught:
        read(PayloadType.SERIALIZED, payload)
    assert caught.value.detail == make_record(1, NEVER, PayloadType.SERIALIZED, payload)


def test_a_serializer_that_raises_becomes_our_error_from_its_cause():
    with pytest.raises(UnsupportedValue, match="'broken' could not store a str: ZeroDivisionError: no bytes") as caught:
        serialize(Broken(), "ada")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    with pytest.raises(UndecodableValue, match="'broken' could not read it: MemoryError: no value") as unread:
        read(PayloadType.SERIALIZED, b"\x06brokenX", Broken())
    assert isinstance(unread.value.__cause__, MemoryError)
    assert unread.value.detail == make_record(1, NEVER, PayloadType.SERIALIZED, b"\x06brokenX")
    with pytest.raises(UnsupportedValue, match="'wrong' made str of the value, not bytes"):
        serialize(Wrong(), "ada")


class Nameless:
    def dumps(self, value: Any) -> bytes:
        return b""

    def loads(self, data: bytes) -> Any:
        return None


def named(name: Any) -> Any:
    return type("Named", (Nameless,), {"name": name})()


@pytest.mark.parametrize(
    ("serializer", "why"),
    [
        (Nameless(), "must have a name, dumps and loads"),
        (pickle, "must have a name, dumps and loads"),
        (object(), "must have a name, dumps and loads"),
        (named(""), "text of 1 to 64 bytes"),
        (named("x" * 65), "text of 1 to 64 bytes"),
        (named("ü" * 33), "text of 1 to 64 bytes"),
        (named(5), "text of 1 to 64 bytes"),
        *((named(name), f"cannot be called '{name}', which is built in") for name in ("msgpack", "json", "bytes")),
    ],
)
def test_what_is_no_serializer_is_refused(serializer, why):
    with pytest.raises(InvalidOption, match=why):
        check_serializer(serializer)


@pytest.mark.parametrize("value", [None, True, 1.5, "ü", [1, {"a": None}], {"a": 2**70}, 7, -7, 2**64])
def test_json_is_read_by_every_client(value):
    assert read(*json_encode(value)) == value


def test_json_leaves_integers_countable_and_refuses_what_it_has_no_form_for():
    assert json_encode(7) == (PayloadType.INTEGER, b"7")
    assert json_encode(True) == (PayloadType.JSON, b"true")
    endless: list[Any] = []
    endless.append(endless)
    for bad in (b"x", {1, 2}, float("nan"), {(1, 2): 3}, endless, "\ud800", object()):
        with pytest.raises(UnsupportedValue, match="serializer 'json' cannot store a"):
            json_encode(bad)


def test_bytes_takes_bytes_and_nothing_else():
    assert read(*bytes_encode(b"\x00")) == b"\x00"
    for bad in ("x", 5, None, bytearray(b"x")):
        with pytest.raises(UnsupportedValue, match="'bytes' stores bytes, not"):
            bytes_encode(bad)


# Signed pickle


class Trap:
    """Unpickling this creates a directory: the mark of code that ran."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (self.path,)


def test_a_signed_pickle_comes_back():
    form = SignedPickle(SECRET)
    value = {"complex": 1j, "range": range(3)}
    assert form.loads(form.dumps(value)) == value
    assert read(*serialize(form, value), form) == value
    assert "0123" not in repr(form)


def test_a_forged_pickle_is_refused_before_it_can_do_anything(tmp_path):
    mark = tmp_path / "it ran"
    pickled = pickle.dumps(Trap(str(mark)))
    form = SignedPickle(SECRET)
    forgeries = [
        pickled,
        b"\0" * 32 + pickled,
        SignedPickle(OTHER).dumps(Trap(str(mark))),
        form.dumps("harmless")[:32] + pickled,
        form.dumps(Trap(str(mark)))[:-1],
        b"",
    ]
    for forged in forgeries:
        with pytest.raises(ForgedValue, match="it was not unpickled"):
            form.loads(forged)
        raw = b"\x0dsigned-pickle" + forged
        with pytest.raises(ForgedValue) as caught:
            read(PayloadType.SERIALIZED, raw, form)
        assert caught.value.detail == make_record(1, NEVER, PayloadType.SERIALIZED, raw)
    assert not mark.exists()
    form.loads(form.dumps(Trap(str(mark))))  # and the trap works: with the right signature it springs
    assert mark.exists()


def test_secrets_can_be_changed_while_old_values_live():
    old, between, new = SignedPickle(OTHER), SignedPickle(SECRET, OTHER), SignedPickle(SECRET)
    assert between.loads(old.dumps(1)) == 1
    assert new.loads(between.dumps(2)) == 2
    with pytest.raises(ForgedValue):
        new.loads(old.dumps(3))


@pytest.mark.parametrize("secrets", [(b"",), (b"short",), ("0123456789abcdef",), (SECRET, b"short"), (None,)])
def test_a_secret_that_can_be_guessed_is_refused_and_not_shown(secrets):
    with pytest.raises(InvalidOption, match="a secret of SignedPickle is bytes, at least 16 of them, not") as caught:
        SignedPickle(*secrets)
    assert "short" not in str(caught.value)


def test_what_cannot_be_pickled_is_refused_from_its_cause():
    with pytest.raises(UnsupportedValue, match="serializer 'signed-pickle' could not store a function"):
        serialize(SignedPickle(SECRET), lambda: None)


def test_a_signed_pickle_that_does_not_unpickle_is_reported():
    form = SignedPickle(SECRET)
    signed = SignedPickle(SECRET).dumps(1)
    assert load_with({form.name: form}, b"\x0dsigned-pickle" + signed) == 1
    import kvcache_client.protocol.signed_pickle as module

    junk = b"not a pickle"
    with pytest.raises(UndecodableValue, match="'signed-pickle' could not read it"):
        load_with({form.name: form}, b"\x0dsigned-pickle" + module._sign(SECRET, junk) + junk)
