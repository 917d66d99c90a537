"""How the text of an option becomes a value."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvcache.option_values import (
    format_size,
    parse_address,
    parse_advertised,
    parse_choice,
    parse_coordinator,
    parse_integer,
    parse_name,
    parse_name_or_nothing,
    parse_seconds,
    parse_size,
    within,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1000", 1000),
        ("7B", 7),
        ("256MiB", 256 << 20),
        ("256 mib", 256 << 20),
        ("1.5GiB", 3 << 29),
        ("1.1GB", 1_100_000_000),
        ("2TiB", 2 << 40),
        ("3kB", 3000),
        (4096, 4096),
    ],
)
def test_a_size_is_bytes_or_a_number_with_a_unit(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MiB", "-1", "1 parsec", "1e3", "0x10", "1,5GiB", "1.GiB", "٣", True, None, 1.5])
def test_what_is_no_size_is_refused_with_the_value(text):
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)


@given(st.integers(0, 1 << 60))
def test_a_formatted_size_is_read_back_nearly_the_same(size):
    assert abs(parse_size(format_size(size)) - size) <= size / 100


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:7700", ("127.0.0.1", 7700)),
        ("[::1]:0", ("::1", 0)),
        (" cache-1.local:65535 ", ("cache-1.local", 65535)),
    ],
)
def test_an_address_is_a_host_and_a_port(text, address):
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text", ["", ":", "host", "host:", ":7700", "::1:7700", "host:65536", "host:-1", "ho st:1", "h:٣", 7]
)
def test_what_is_no_address_is_refused_with_the_value(text):
    with pytest.raises(ValueError, match=r"is not an address|has no valid port"):
        parse_address(text)


@pytest.mark.parametrize("text", ["0.0.0.0:7700", "[::]:7700", "host:0"])
def test_an_address_that_nobody_can_reach_is_not_advertised(text):
    with pytest.raises(ValueError, match=r"every address|port 0"):
        parse_advertised(text)


@pytest.mark.parametrize(("raw", "number"), [("12", 12), (" -3 ", -3), (5, 5)])
def test_a_whole_number_is_read(raw, number):
    assert parse_integer(raw) == number


@pytest.mark.parametrize("raw", ["", "1.0", "1_000", "ten", "9" * 19, True, 2.0, None])
def test_what_is_no_whole_number_is_refused(raw):
    with pytest.raises(ValueError, match="is not a whole number"):
        parse_integer(raw)


@pytest.mark.parametrize(("raw", "seconds"), [("0.0001", 1e-4), (" 1e-4 ", 1e-4), (0, 0.0), (0.5, 0.5)])
def test_seconds_are_a_number(raw, seconds):
    assert parse_seconds(raw) == seconds


@pytest.mark.parametrize("raw", ["", "1 s", "soon", "1_0", "٣", True, None])
def test_what_is_no_number_of_seconds_is_refused(raw):
    with pytest.raises(ValueError, match="is not a number of seconds"):
        parse_seconds(raw)


def test_bounds_are_inclusive_and_named():
    bounded = within(1, 8, parse_integer)
    assert [bounded("1"), bounded("8")] == [1, 8]
    with pytest.raises(ValueError, match=r"'9' is not within 1\.\.8"):
        bounded("9")


@pytest.mark.parametrize("name", ["a", "A-1.b_c", "7", "x" * 64])
def test_a_name_is_letters_digits_and_a_few_signs(name):
    assert parse_name(name) == parse_name_or_nothing(name) == name


@pytest.mark.parametrize("name", ["", "-a", ".a", "a b", "a\n", "ä", "x" * 65, None, 3])
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match="is not a name"):
        parse_name(name)


def test_the_error_of_a_coordinator_keeps_its_password():
    with pytest.raises(ValueError, match="redis://") as caught:
        parse_coordinator("http://user:secret@host")
    assert "secret" not in str(caught.value)


def test_a_choice_is_taken_in_any_case():
    level = parse_choice("debug", "info")
    assert level("DEBUG") == "debug"
    with pytest.raises(ValueError, match="'loud' is not one of debug, info"):
        level("loud")
