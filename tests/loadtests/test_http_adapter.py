"""The adapter of the HTTP API: what each status means, and that it goes from node to node."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from serving import ServingCluster, ServingNode

from loadtests import CannotRun
from loadtests.adapters import CacheAdapter, NoSuchCall, open_adapter
from loadtests.adapters.kvcache_http import HttpFailed, HttpInDoubt
from loadtests.server_process import free_ports


def test_what_is_put_is_got_from_any_node_and_each_is_asked_in_turn(three_nodes: ServingCluster) -> None:
    cache: CacheAdapter = open_adapter("kvcache-http", three_nodes.seeds, 5.0)
    asked = set()
    try:
        cache.set("http adapter/1?", b"\x00value", None)
        for _ in range(3):
            assert cache.get("http adapter/1?") == b"\x00value"
            asked.add(cache.answered_by())
        assert cache.delete("http adapter/1?")
        assert cache.get("http adapter/1?") is None
        assert not cache.set_many({"http adapter 2": b"2"}, 60.0).failed
        assert cache.get("http adapter 2") == b"2"
    finally:
        cache.close()
    assert asked == {"trio-1", "trio-2", "trio-3"}


def test_a_refusal_is_failed_and_a_node_that_is_gone_is_passed_over(start_node: Callable[..., ServingNode]) -> None:
    node = start_node(cluster="http-alone")
    cache = open_adapter("kvcache-http", node.address, 2.0)
    try:
        with pytest.raises(HttpFailed, match="PUT: status 400") as caught:
            cache.set("x" * 2000, b"1", None)
        assert not cache.in_doubt(caught.value)
        assert cache.in_doubt(HttpInDoubt("PUT"))
        node.stop()
        with pytest.raises((HttpFailed, HttpInDoubt)):
            cache.set("a", b"1", None)
        with pytest.raises(HttpFailed, match="no node answered"):
            cache.get("a")
    finally:
        cache.close()


def test_what_http_has_not_is_said(one_node: ServingCluster) -> None:
    cache = open_adapter("kvcache-http", one_node.seeds, 2.0)
    try:
        for call in (lambda: cache.touch("a", 1), lambda: cache.incr("a", 1), lambda: cache.get_many(["a"])):
            with pytest.raises(NoSuchCall, match="HTTP"):
                call()
        assert cache.node_figures() is None
    finally:
        cache.close()


@pytest.mark.parametrize("address", ["127.0.0.1:FREE", "http://", "ftp://x"])
def test_no_cluster_is_one_line(address: str) -> None:
    address = address.replace("FREE", str(free_ports(1)[0]))
    with pytest.raises(CannotRun):
        open_adapter("kvcache-http", address, 1.0)
