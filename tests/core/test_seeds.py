"""The syntax of seeds."""

from __future__ import annotations

from typing import Any

import pytest

from kvcache_client.protocol.errors import InvalidOption
from kvcache_client.seeds import parse_seeds

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
]

BAD: list[Any] = [
    *("", "kvcache://", " , ", "kvcache:///main", [], ()),
    *("a:0", "a:65536", "a:-1", "a:x", "a:1.5", "a:", ":7700", "[]:7700", "a:٣"),
    *("redis://a:1", "http://a:1", ["redis://a:1"], ["a:1/main"]),
    *(None, 5, True, [5], [None], [b"a:1"], b"a:1", [["a:1"]]),
]


@pytest.mark.parametrize(("seeds", "addresses", "cluster"), GOOD)
def test_good_seeds_become_addresses_and_a_cluster_name(seeds: Any, addresses: tuple[str, ...], cluster: str) -> None:
    assert parse_seeds(seeds) == (addresses, cluster)


@pytest.mark.parametrize("seeds", BAD, ids=repr)
def test_bad_seeds_are_refused_by_name(seeds: Any) -> None:
    with pytest.raises(InvalidOption, match="seed"):
        parse_seeds(seeds)
