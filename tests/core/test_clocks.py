"""Bad clocks: of clients, of nodes, at the start and in the middle."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from memory_network import START_MS, MemoryClient, MemoryNetwork

from kvcache_client.protocol.errors import KvCacheError
from kvcache_client.protocol.record import version_of
from kvcache_client.protocol.version import MAX_CLOCK_OFFSET_MS, version_ms

HOUR_MS = 3_600_000


def with_clock(network: MemoryNetwork, skew_ms: int) -> MemoryClient:
    client = network.client()
    client.session.skew_ms = skew_ms
    return client


@pytest.mark.parametrize("skew_ms", [HOUR_MS, -HOUR_MS, 24 * 365 * HOUR_MS])
def test_a_wrong_clock_is_healed_by_the_greeting(network: MemoryNetwork, skew_ms: int) -> None:
    client, other = with_clock(network, skew_ms), network.client()
    client.get("k")  # the greeting tells the time
    version = client.set("k", 1, ttl=5)
    assert abs(version_ms(version) - network.wall_ms()) < 10
    assert other.set("k", 2) > version
    client.set("k", 3, ttl=5)
    entry = other.get_entry("k")
    assert entry is not None
    assert entry.ttl is not None
    assert 4.9 < entry.ttl <= 5
    network.run(seconds=5.1)
    assert other.get("k") is None


@pytest.mark.parametrize("skew_ms", [HOUR_MS, -HOUR_MS])
def test_the_very_first_write_by_a_wrong_clock_is_healed_too(network: MemoryNetwork, skew_ms: int) -> None:
    client, other = with_clock(network, skew_ms), network.client()
    other.set("k", "before")
    client.set("k", "mine")  # stamped before any greeting
    assert other.get("k") == "mine"
    assert (
        abs(version_ms(version_of(network.copies("k")["n1" if "n1" in network.copies("k") else "n2"])) - START_MS)
        < 1000
    )
    other.set("k", "after")
    assert client.get("k") == "after"
    assert client.delete("k") is True
    assert other.get("k") is None


@pytest.mark.parametrize("skew_ms", [HOUR_MS, 510, 600, 10_000])
def test_a_clock_that_jumps_ahead_is_refused_corrected_and_the_write_succeeds(
    network: MemoryNetwork, skew_ms: int
) -> None:
    client, other = network.client(), network.client()
    client.get("k")
    client.session.skew_ms = skew_ms
    version = client.set("k", "ahead")
    assert version_ms(version) <= network.wall_ms() + MAX_CLOCK_OFFSET_MS
    assert client.brain.counters.restamped_writes == 1
    assert other.set("k", "later") > version
    assert client.get("k") == "later"
    for number in range(5):
        client.set(f"k{number}", number)
    assert client.brain.counters.restamped_writes == 1  # once corrected, it stays right


def test_a_clock_within_the_bound_cannot_make_a_key_undeletable(network: MemoryNetwork) -> None:
    client, other = network.client(), network.client()
    client.get("k")
    client.session.skew_ms = 490
    client.set("k", 1)
    assert other.delete("k") is True
    assert client.get("k") is None
    assert other.get("k") is None


def test_a_clock_that_falls_back_does_not_order_the_clients_own_writes_wrongly(network: MemoryNetwork) -> None:
    client = network.client()
    versions = []
    for number in range(50):
        client.session.skew_ms = network.random.choice([0, -200, -HOUR_MS, 100])
        versions.append(client.set("k", number))
        assert client.get("k") == number
    assert versions == sorted(set(versions))


def test_a_batch_by_a_clock_that_jumped_ahead_succeeds(network: MemoryNetwork) -> None:
    client = network.client()
    keys = [f"{number}" for number in range(50)]
    client.get_many(keys)
    client.session.skew_ms = HOUR_MS
    assert set(client.set_many(dict.fromkeys(keys, 1))) == set(keys)
    assert dict(network.client().get_many(keys)) == dict.fromkeys(keys, 1)


@pytest.mark.parametrize("skew_ms", [-300, 300])
def test_nodes_whose_clocks_differ_within_the_bound_are_no_trouble(network: MemoryNetwork, skew_ms: int) -> None:
    network.nodes["n2"].skew_ms = skew_ms
    clients = [network.client() for _ in range(3)]
    for number in range(60):
        key = f"k{number % 7}"
        clients[number % 3].set(key, number)
        assert clients[(number + 1) % 3].get(key) == number
        assert clients[(number + 2) % 3].incr(key) == number + 1
        assert clients[number % 3].get(key) == number + 1


def test_a_node_an_hour_behind_makes_writes_fail_loudly_or_work_never_vanish(
    make_network: Callable[..., MemoryNetwork],
) -> None:
    network = make_network(3, 2)
    network.nodes["n2"].skew_ms = -HOUR_MS
    client = network.client()
    for number in range(40):
        try:
            client.set(f"k{number}", number)
        except KvCacheError:
            continue
        assert client.get(f"k{number}") == number


def test_decided_writes_are_newer_than_what_a_faster_clock_wrote(network: MemoryNetwork) -> None:
    client = network.client()
    client.get("n")
    client.session.skew_ms = 450
    version = client.set("n", 1)
    assert network.client().incr("n") == 2
    entry = client.get_entry("n")
    assert entry is not None
    assert entry.version > version
    assert len(set(network.copies("n").values())) == 1
