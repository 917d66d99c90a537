"""How both clients find their cluster: by any living seed, and never by a wrong one."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kvcache_client import Unavailable, WrongCluster


@pytest.fixture
def dead_address() -> Iterator[str]:
    """An address where nobody listens, and nobody can begin to: the port is bound all the while."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


@pytest.fixture
def deaf_address() -> Iterator[str]:
    """An address where connections are taken and nothing is ever answered."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"127.0.0.1:{listener.getsockname()[1]}"


async def test_one_living_seed_among_dead_ones_is_enough(
    open_client: Callable[..., Any], cluster: Any, dead_address: str, deaf_address: str
) -> None:
    for living in cluster.addresses:
        cache = open_client([dead_address, living, deaf_address, "127.0.0.1:1"], connect_timeout=0.3)
        await cache.set("bootstrap", 1)
        assert await cache.get("bootstrap") == 1


async def test_seeds_that_are_all_dead_are_named_each_with_its_reason(
    open_client: Callable[..., Any], dead_address: str, deaf_address: str
) -> None:
    cache = open_client([dead_address, deaf_address, "no-such-host.invalid:7700"], connect_timeout=0.2, timeout=0.2)
    with pytest.raises(Unavailable, match="no seed answered") as caught:
        await cache.get("k")
    text = str(caught.value)
    assert f"{dead_address}: Connection refused" in text
    assert f"{deaf_address}: " in text
    assert "no-such-host.invalid:7700: " in text


async def test_a_seed_with_a_malformed_host_name_is_one_more_that_does_not_answer(
    open_client: Callable[..., Any], cluster: Any
) -> None:
    malformed = ["a..b:1", ".a:1", "x" * 64 + ":1"]
    with pytest.raises(Unavailable, match="no seed answered") as caught:
        await open_client(malformed).get("k")
    assert all(f"{seed}: no host name" in str(caught.value) for seed in malformed)
    assert await open_client([*malformed, *cluster.addresses]).exists("never set") is False


async def test_a_client_that_found_nobody_finds_the_cluster_once_it_is_there(
    open_client: Callable[..., Any], start_node: Callable[..., Any]
) -> None:
    node = start_node()
    address = node.address
    node.stop()
    cache = open_client(address)
    with pytest.raises(Unavailable):
        await cache.get("k")
    node.start()
    await cache.set("k", 1)
    assert await cache.get("k") == 1


async def test_seeds_are_taken_as_text_or_as_a_list(open_client: Callable[..., Any], cluster: Any) -> None:
    for seeds in (cluster.seeds, ",".join(cluster.addresses), cluster.addresses, tuple(cluster.addresses)):
        assert await open_client(seeds).exists("never set") is False


async def test_the_right_cluster_name_is_taken(open_client: Callable[..., Any], cluster: Any) -> None:
    for cache in (open_client(cluster.seeds, cluster=cluster.name), open_client(f"{cluster.seeds}/{cluster.name}")):
        assert await cache.exists("never set") is False


async def test_a_wrong_cluster_name_is_refused(open_client: Callable[..., Any], cluster: Any) -> None:
    for cache in (open_client(cluster.seeds, cluster="other"), open_client(f"{cluster.seeds}/other")):
        with pytest.raises(WrongCluster, match=f"belongs to cluster '{cluster.name}', not 'other'"):
            await cache.get("k")


async def test_something_that_is_no_node_is_named_with_what_it_did(open_client: Callable[..., Any]) -> None:
    import threading

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        address = f"127.0.0.1:{listener.getsockname()[1]}"

        def answer_like_a_web_server() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

        server = threading.Thread(target=answer_like_a_web_server)
        server.start()
        with pytest.raises(Unavailable) as caught:
            await open_client(address, connect_timeout=2.0).get("k")
        server.join(10)
    assert address in str(caught.value)
