"""The syntax of seeds."""

from __future__ import annotations

from typing import Any

import pytest

from kvcache_client.protocol.errors import ConnectFailed, InvalidOption
from kvcache_client.seeds import asks_for_tls, parse_seeds, split_address

GOOD: list[tuple[Any, tuple[str, ...], str]] = [
    ("127.0.0.1:7700", ("127.0.0.1:7700",), ""),
    ("kvcache://127.0.0.1:7700", ("127.0.0.1:7700",), ""),
    ("kvcache://a:1,b:2", ("a:1", "b:2"), ""),
    ("kvcache://a:1,b:2/main", ("a:1", "b:2"), "main"),
    (" a:1 , b:2 ,", ("a:1", "b:2"), ""),
    ("a", ("a:7700",), ""),
    ("kvcache://a/main", ("a:7700",), "main"),
    ("[::1]:7701", ("[::1]:7701",), ""),
    ("[::1]", ("[::1]:7700",), ""),
    ("fe80::1", ("[fe80::1]:7700",), ""),
    ("a:1,a:1,b:2", ("a:1", "b:2"), ""),
    (["a:1", "b"], ("a:1", "b:7700"), ""),
    (("kvcache://a:1", "kvcache://b:2"), ("a:1", "b:2"), ""),
    ("a:65535", ("a:65535",), ""),
    ([" a:1", "b:2\n", " kvcaches://c:3"], ("a:1", "b:2", "c:3"), ""),
    (" kvcache://a:1/main ", ("a:1",), "main"),
    ("[fe80::1%eth0]:5,[::ffff:127.0.0.1]", ("[fe80::1%eth0]:5", "[::ffff:127.0.0.1]:7700"), ""),
    ("bücher.example:1", ("bücher.example:1",), ""),
]

BAD: list[Any] = [
    *("", "kvcache://", " , ", "kvcache:///main", [], ()),
    *("a:0", "a:65536", "a:-1", "a:x", "a:1.5", "a:", ":7700", "[]:7700", "a:٣"),
    *("redis://a:1", "http://a:1", ["redis://a:1"], ["a:1/main"]),
    *(
        None,
        5,
        True,
        [5],
        [None],
        [b"a:1"],
        b"a:1",
        [["a:1"]],
        bytearray(b"a:1"),
        pytest.param(memoryview(b"a:1"), id="a memoryview"),
    ),
    *("[::1:5", "::1]:5", "[[::1]]:5", "[::1", "a[::1]:5", "[a]:5", "a:1:2", "1::2::3", "[127.0.0.1]:5"),
    *("a b:1", "a\0b:1", "a\tb:1", "\ud800:1", [""], ["  "]),
]


@pytest.mark.parametrize(("seeds", "addresses", "cluster"), GOOD)
def test_good_seeds_become_addresses_and_a_cluster_name(seeds: Any, addresses: tuple[str, ...], cluster: str) -> None:
    assert parse_seeds(seeds) == (addresses, cluster)


@pytest.mark.parametrize("seeds", BAD, ids=repr)
def test_bad_seeds_are_refused_by_name(seeds: Any) -> None:
    with pytest.raises(InvalidOption, match="seed"):
        parse_seeds(seeds)


WITH_PASSWORDS = [
    *("user:hunter2@a:1", "kvcache://user:hunter2@a:1/main", "kvcaches://hunter2@a", "redis://:hunter2@a:1"),
    *("kvcache://user:hun/hunter2@a", "a:1,user:hunter2@b:2", "kvcache://a:1/hunter2@main", "user:@hunter2@a"),
    *(["a:1", "user:hunter2@b:2"], [" kvcache://user:hunter2@b"], ("kvcache://user:hunter2@b:2/main",)),
    *([["user:hunter2@b:2"]], [b"user:hunter2@b:2"], b"user:hunter2@b:2", {"user:hunter2@b:2"}),
]


@pytest.mark.parametrize("seeds", WITH_PASSWORDS, ids=range(len(WITH_PASSWORDS)))
def test_a_password_in_seeds_is_refused_and_not_repeated(seeds: Any) -> None:
    with pytest.raises(InvalidOption, match="seed") as caught:
        parse_seeds(seeds)
    assert "hunter2" not in str(caught.value)


def test_bytes_are_refused_as_such_and_not_by_their_first_number() -> None:
    with pytest.raises(InvalidOption, match="seeds of type bytes: must be text or a list"):
        parse_seeds(b"127.0.0.1:7700")  # type: ignore[arg-type]


@pytest.mark.parametrize("seeds", [" kvcaches://a", ["a:1", " kvcaches://b:2"], ["\tkvcaches://b:2"]])
def test_space_before_the_scheme_does_not_turn_encryption_off(seeds: Any) -> None:
    assert parse_seeds(seeds)
    assert asks_for_tls(seeds)


@pytest.mark.parametrize("host", ["a..b", ".a", "x" * 64, "\u3002a"])
def test_a_host_that_no_resolver_takes_is_one_that_cannot_be_reached(host: str) -> None:
    (address,), _ = parse_seeds([f"{host}:1"])
    with pytest.raises(ConnectFailed, match="no host name"):
        split_address(address)
