"""Calls that are wrong in themselves: refused with the value and the limit named, before anything is sent."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from memory_network import MemoryClient, MemoryNetwork

from kvcache_client.core.locking import check_name, check_seconds
from kvcache_client.core.templates import KeyTemplate
from kvcache_client.protocol.errors import InvalidKey, InvalidOption, InvalidTtl, UnsupportedValue, ValueTooLarge
from kvcache_client.protocol.limits import TTL_SECONDS
from kvcache_client.protocol.serializers import check_serializer


@pytest.fixture
def client(network: MemoryNetwork) -> MemoryClient:
    return network.client()


@pytest.mark.parametrize("ttl", [0, -1, 0.0, float("nan"), float("inf"), TTL_SECONDS + 1, True, "5", timedelta(0)])
def test_a_time_to_live_that_makes_no_sense_is_refused_before_anything_is_sent(
    network: MemoryNetwork, client: MemoryClient, ttl: Any
) -> None:
    for call in (
        lambda: client.set("k", 1, ttl=ttl),
        lambda: client.set_many({"k": 1}, ttl=ttl),
        lambda: client.touch("k", ttl=ttl),
        lambda: client.incr("k", ttl=ttl),
        lambda: client.add("k", 1, ttl=ttl),
    ):
        with pytest.raises(InvalidTtl, match="ttl="):
            call()
    assert not any(node.asked.total() for node in network.nodes.values())


@pytest.mark.parametrize("ttl", [TTL_SECONDS, timedelta(seconds=TTL_SECONDS), 1e-9])
def test_the_longest_and_the_shortest_time_to_live_are_taken(client: MemoryClient, ttl: Any) -> None:
    client.set("k", 1, ttl=ttl)
    entry = client.get_entry("k")
    assert (entry is None) == (ttl == 1e-9)  # it lasts a millisecond, less than the trips took


@pytest.mark.parametrize("number", [1.0, True, "1", None, 2**63, -(2**63) - 1])
def test_incr_takes_only_64_bit_integers(client: MemoryClient, number: Any) -> None:
    with pytest.raises(InvalidOption, match="by="):
        client.incr("n", by=number)
    with pytest.raises(InvalidOption, match="by="):
        client.decr("n", by=number)
    if number is not None:
        with pytest.raises(InvalidOption, match="initial="):
            client.incr("n", initial=number)


@pytest.mark.parametrize("version", [0, 1, -5, True, 1.5, None, "7", 1 << 64])
def test_cas_takes_only_a_version_that_an_entry_can_have(client: MemoryClient, version: Any) -> None:
    with pytest.raises(InvalidOption, match="version="):
        client.cas("k", 1, version=version)


def test_a_value_over_the_limit_is_refused_before_sending(make_network: Callable[..., MemoryNetwork]) -> None:
    world = make_network(1, 1)
    client = world.client(value_limit=100)
    client.set("k", b"x" * 100)
    for call in (
        lambda: client.set("k", b"x" * 101),
        lambda: client.add("k", b"x" * 101),
        lambda: client.set_many({"a": 1, "k": "x" * 101}),
    ):
        with pytest.raises(ValueTooLarge, match="'k' has 101 bytes, the limit is 100") as caught:
            call()
        assert caught.value.detail == 100
    assert client.get("k") == b"x" * 100
    assert client.get("a") is None


def test_bad_keys_and_values_are_refused_before_sending(network: MemoryNetwork, client: MemoryClient) -> None:
    for key in ("", "x" * 1025, 5, None, "\ud800"):
        with pytest.raises(InvalidKey):
            client.get(key)  # type: ignore[arg-type]
        with pytest.raises(InvalidKey):
            client.set(key, 1)  # type: ignore[arg-type]
    with pytest.raises(UnsupportedValue, match=r"value\['a'\]\[1\] is a complex"):
        client.set("k", {"a": [1, 2j]})
    assert not any(node.asked.total() for node in network.nodes.values())


class Unshowable:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


CALLS: dict[str, Callable[[MemoryClient, Any], Any]] = {
    "key": lambda client, bad: client.get(bad),
    "ttl": lambda client, bad: client.set("k", 1, ttl=bad),
    "acks": lambda client, bad: client.set("k", 1, acks=bad),
    "fence": lambda client, bad: client.set("k", 1, fence=bad),
    "version": lambda client, bad: client.cas("k", 1, version=bad),
    "operation": lambda client, bad: client.incr("k", operation=bad),
    "by": lambda client, bad: client.incr("k", by=bad),
    "initial": lambda client, bad: client.incr("k", initial=bad),
    "consistency": lambda client, bad: client.get("k", consistency=bad),
    "balancing": lambda client, bad: client.get("k", balancing=bad),
}


@pytest.mark.parametrize("option", CALLS)
def test_what_cannot_be_shown_is_refused_like_anything_else(client: MemoryClient, option: str) -> None:
    refused = InvalidKey if option == "key" else InvalidTtl if option == "ttl" else InvalidOption
    for bad, what in ((10**5000, "<int of 16610 bits>"), (Unshowable(), "<Unshowable that cannot be shown>")):
        with pytest.raises(refused, match=f"{option}.*{what}"):
            CALLS[option](client, bad)


@pytest.mark.parametrize("bad", [10**5000, Unshowable()], ids=["long", "unshowable"])
@pytest.mark.parametrize(
    "refuse",
    [
        check_name,
        check_serializer,
        lambda bad: check_seconds("wait", bad, 0, 60),
        lambda bad: KeyTemplate(bad, len),
    ],
    ids=["name", "serializer", "wait", "template"],
)
def test_nor_does_it_spoil_what_is_said_of_an_option(refuse: Callable[[Any], Any], bad: Any) -> None:
    with pytest.raises(InvalidOption, match=rf"<{type(bad).__name__} (of 16610 bits|that cannot be shown)>"):
        refuse(bad)
