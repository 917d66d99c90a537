from __future__ import annotations

import enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvcache_client.protocol.codec import encode_key
from kvcache_client.protocol.errors import InvalidKey
from kvcache_client.protocol.limits import KEY_BYTES


class Word(str):
    """A str with more to it."""


class Colour(enum.StrEnum):
    RED = "red"


@pytest.mark.parametrize(
    "key",
    [
        b"\x00",
        b"a\x00b",
        b"set x 0 0 1\r\nboo",
        b" ",
        b"a key with spaces",
        b"\xff\xfe\xc3\x28",
        bytes(range(256)) * 4,
        b"x" * KEY_BYTES,
    ],
    ids=repr,
)
def test_any_bytes_of_1_to_1024_are_a_key(key: bytes) -> None:
    assert encode_key(key) is key


@pytest.mark.parametrize("key", ["a", "\x00", "user:1\r\n", " ", "schlüssel", "鍵", "🔑", "é" * 512])
def test_text_is_a_key_in_utf8(key: str) -> None:
    assert encode_key(key) == key.encode("utf-8")


@pytest.mark.parametrize("key", ["", b""])
def test_an_empty_key_is_refused(key: str | bytes) -> None:
    with pytest.raises(InvalidKey, match="empty; a key has 1 to 1024 bytes"):
        encode_key(key)


@pytest.mark.parametrize("key", [b"x" * 1025, "x" * 1025, "é" * 513, b"x" * 10_000_000])
def test_a_key_over_the_limit_is_refused_with_its_size_and_the_limit(key: str | bytes) -> None:
    size = len(key if isinstance(key, bytes) else key.encode())
    with pytest.raises(InvalidKey, match=f"has {size} bytes, the limit is 1024") as caught:
        encode_key(key)
    assert caught.value.detail == KEY_BYTES
    assert len(str(caught.value)) < 250


def test_text_that_is_no_unicode_is_refused() -> None:
    with pytest.raises(InvalidKey, match=r"'user:\\ud800' is not valid Unicode") as caught:
        encode_key("user:\ud800")
    assert isinstance(caught.value.__cause__, UnicodeEncodeError)


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        (1, "int"),
        (None, "NoneType"),
        (1.5, "float"),
        (True, "bool"),
        (("user", 1), "tuple"),
        (["user"], "list"),
        (bytearray(b"user"), "bytearray"),
        (memoryview(b"user"), "memoryview"),
        (Word("user"), "Word"),
        (Colour.RED, "Colour"),
    ],
    ids=lambda it: it if isinstance(it, str) else type(it).__name__,  # not repr: a memoryview says where it lies
)
def test_anything_but_str_and_bytes_is_refused_by_name(key: Any, kind: str) -> None:
    with pytest.raises(InvalidKey, match=f"a key is str or bytes, not {kind}"):
        encode_key(key)


def test_a_huge_wrong_key_makes_no_huge_message() -> None:
    with pytest.raises(InvalidKey) as caught:
        encode_key(["x" * 1000] * 1000)  # type: ignore[arg-type]
    assert len(str(caught.value)) < 200


@given(st.one_of(st.text(alphabet=st.characters(codec="utf-8"), max_size=300), st.binary(max_size=1100)))
def test_a_key_is_either_taken_as_it_is_or_refused(key: str | bytes) -> None:
    raw = key.encode() if isinstance(key, str) else key
    if 1 <= len(raw) <= KEY_BYTES:
        assert encode_key(key) == raw
    else:
        with pytest.raises(InvalidKey):
            encode_key(key)
