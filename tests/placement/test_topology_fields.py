from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvcache_client.placement.fields import NAME, ZONE, check_address, check_choice, check_integer, check_text, take
from kvcache_client.protocol.errors import TopologyError


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1:7700",
        "localhost:1",
        "node_1.kv-cache.svc:65535",
        "example.org.:80",
        "[::1]:7700",
        "[2001:db8::7]:7700",
        "[::ffff:10.0.0.1]:7700",
    ],
)
def test_hosts_and_ports_are_addresses(address: str) -> None:
    check_address("here", address)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "host",
        "host:",
        ":7700",
        "host:0",
        "host:65536",
        "host:999999",
        "host:-1",
        "host:+1",
        "host:\u0661",
        "host:1 ",
        " host:1",
        "host:1\n",
        "ho st:1",
        "host/x:1",
        "-host:1",
        "host-:1",
        "a..b:1",
        "::1:7700",
        "[::1]",
        "[::1]:",
        "[::1%eth0]:7700",
        "[:::]:7700",
        "[]:7700",
        "[host]:7700",
        "http://host:80",
        "user@host:80",
        "a" * 64 + ":80",
        "a." * 130 + "b:80",
        None,
        7700,
        b"host:80",
        ["host", 80],
    ],
)
def test_everything_else_is_no_address(address: object) -> None:
    with pytest.raises(TopologyError, match=r"^here is .* must be host:port"):
        check_address("here", address)


@given(st.text(max_size=40))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        check_address("here", text)
    except TopologyError:
        return
    host, port = text.rsplit(":", 1)
    assert host
    assert 1 <= int(port) <= 65535


@pytest.mark.parametrize("value", [0, 11, -1, True, 5.0, "5", None, 10**4000])
def test_an_integer_out_of_range_or_of_another_type_is_refused_with_the_range(value: object) -> None:
    with pytest.raises(TopologyError, match=r"^it is .*; it must be an integer in 1\.\.10$"):
        check_integer("it", value, 1, 10)


def test_both_ends_of_a_range_belong_to_it() -> None:
    check_integer("it", 1, 1, 10)
    check_integer("it", 10, 1, 10)


def test_a_name_must_match_from_end_to_end() -> None:
    check_text("it", "n-1.a_b", NAME)
    check_text("it", "", ZONE)
    for value in ("", "a\n", "a b", "\u0430", None):
        with pytest.raises(TopologyError):
            check_text("it", value, NAME)


def test_a_choice_names_what_there_is_to_choose() -> None:
    check_choice("it", "up", ("up", "down"))
    with pytest.raises(TopologyError, match="it is 'left'; it must be one of up, down"):
        check_choice("it", "left", ("up", "down"))


def test_take_leaves_out_what_was_not_asked_for() -> None:
    assert take({"a": 1, "b": 2}, "it", ["a"]) == {"a": 1}
    with pytest.raises(TopologyError, match="it has no field 'c'"):
        take({"a": 1}, "it", ["a", "c"])
    with pytest.raises(TopologyError, match=r"it is .*; it must be a JSON object"):
        take([], "it", ["a"])
