"""What calls come to when no node can answer and the client fails open."""

from __future__ import annotations

from typing import Any

import pytest
from memory_network import MemoryClient, MemoryNetwork

from kvcache_client.protocol.errors import InvalidKey, InvalidOption, StaleFence, Unavailable, ValueTooLarge


@pytest.fixture
def client(network: MemoryNetwork) -> MemoryClient:
    return network.client(fail_open=True)


def cut_all(network: MemoryNetwork) -> None:
    for node in network.nodes.values():
        node.cut()


def test_reads_become_misses_and_are_counted(network: MemoryNetwork, client: MemoryClient) -> None:
    client.set("k", 1)
    assert client.get("k") == 1
    cut_all(network)
    assert client.get("k", "default") == "default"
    assert client.get("k", consistency="all") is None
    assert client.get_entry("k") is None
    assert client.exists("k") is False
    found = client.get_many(["k", "l"])
    assert (dict(found), found.missing, found.failed) == ({}, {"k", "l"}, {})
    assert client.brain.counters.failed_open_reads == 6
    assert client.brain.counters.failed_open_writes == 0


@pytest.mark.parametrize(
    ("verb", "arguments", "instead"),
    [
        ("set", ("k", 1), 0),
        ("add", ("k", 1), False),
        ("replace", ("k", 1), False),
        ("cas", ("k", 1, 77), False),
        ("delete", ("k",), False),
        ("touch", ("k", 5), False),
        ("incr", ("k",), 0),
        ("decr", ("k",), 0),
    ],
)
def test_writes_become_no_ops_and_are_counted(
    network: MemoryNetwork, client: MemoryClient, verb: str, arguments: tuple[Any, ...], instead: object
) -> None:
    cut_all(network)
    assert getattr(client, verb)(*arguments) == instead
    assert client.brain.counters.failed_open_writes == 1
    with pytest.raises(Unavailable):
        getattr(network.client(), verb)(*arguments)


def test_batches_of_writes_raise_nothing_and_find_nothing(network: MemoryNetwork, client: MemoryClient) -> None:
    cut_all(network)
    for batch in (client.set_many({"k": 1, "l": 2}), client.delete_many(["k", "l"])):
        assert (dict(batch), batch.missing, batch.failed) == ({}, {"k", "l"}, {})
    assert client.brain.counters.failed_open_writes == 4


def test_a_client_that_knows_no_cluster_yet_goes_on_too(client: MemoryClient) -> None:
    client.brain.view = None
    assert client.get("k", 7) == 7
    assert client.get_many(["k"]) == {}
    assert client.set("k", 1) == 0
    assert client.incr("k") == 0


def test_the_callers_own_mistakes_are_raised_all_the_same(network: MemoryNetwork, client: MemoryClient) -> None:
    cut_all(network)
    with pytest.raises(InvalidKey):
        client.get("")
    with pytest.raises(InvalidKey):
        client.set("", 1)
    with pytest.raises(ValueTooLarge):
        client.set("k", b"x" * (2 << 20))
    with pytest.raises(InvalidOption):
        client.get("k", consistency="most")
    with pytest.raises(InvalidOption):
        client.set("k", 1, acks=3)
    assert client.brain.counters.failed_open_writes == 0


def test_who_has_lost_a_lock_hears_of_it(client: MemoryClient) -> None:
    client.set("k", 1, fence=9)
    with pytest.raises(StaleFence):
        client.set("k", 2, fence=8)
