"""stats() while nodes fail: who is avoided and why, and misses that nobody could answer for."""

from __future__ import annotations

from collections.abc import Callable

from memory_network import MemoryNetwork

from kvcache_client.core.lookups import Lookups, MissReason


def test_a_node_that_is_down_is_shown_with_the_reason(make_network: Callable[..., MemoryNetwork]) -> None:
    network = make_network(3, 2)
    client = network.client()
    client.set("k", 1)
    first, second = network.owners("k")
    first.cut()
    assert client.get("k") == 1
    stats = client.stats()
    assert stats.nodes[first.id].state == "down"
    assert stats.nodes[first.id].reason
    assert stats.nodes[first.id].retry_in is not None
    assert stats.nodes[second.id].state == "up"
    assert stats.namespaces[""].hits == 1


def test_a_miss_while_an_owner_is_away_says_that_a_node_is_down(make_network: Callable[..., MemoryNetwork]) -> None:
    network = make_network(3, 2)
    client = network.client()
    network.owners("never")[0].cut()
    assert client.get("never") is None
    assert client.get_many(["never"]) == {}
    assert client.stats().misses["node_down"] == 2
    assert sum(client.stats().misses.values()) == 2


def test_what_an_owner_says_of_a_miss_counts_also_while_others_are_away(
    make_network: Callable[..., MemoryNetwork],
) -> None:
    network = make_network(4, 2)
    client = network.client()
    client.set("k", 1)
    client.delete("k")
    others = [node for node in network.nodes.values() if node not in network.owners("k")]
    others[0].cut()
    elsewhere = next(f"k{n}" for n in range(100) if network.owners(f"k{n}")[0] is others[0])
    client.set(elsewhere, 1)
    assert client.get(elsewhere) == 1
    assert client.brain.avoided
    assert client.get("k") is None
    assert client.stats().misses["deleted"] == 1


def test_a_node_whose_breaker_is_open_is_shown_with_the_reason(make_network: Callable[..., MemoryNetwork]) -> None:
    client = make_network(3, 2).client()
    for _ in range(3):
        client.brain.breaker.failed("n2", "it said Overloaded")
    node = client.stats().nodes["n2"]
    assert (node.state, node.reason) == ("open", "it said Overloaded")
    assert node.retry_in is not None


def test_a_reason_from_the_future_counts_as_none() -> None:
    lookups = Lookups()
    for odd in (9, -1, None, "x", True, [1], 6):
        lookups.missed(odd)
    lookups.missed(3)
    lookups.missed(MissReason.TIMEOUT)
    assert lookups.misses == [7, 0, 0, 1, 0, 1]
    assert repr(lookups) == "<Lookups hits=0 misses=9>"


def test_what_fails_open_is_a_miss_by_its_reason(make_network: Callable[..., MemoryNetwork]) -> None:
    network = make_network(1, 1)
    client = network.client(fail_open=True)
    client.set("k", 1)
    (node,) = network.nodes.values()
    node.pause()
    assert client.get("k") is None
    assert client.stats().misses["timeout"] == 1
    node.resume()
    node.cut()
    assert client.get("k", default="none") == "none"
    assert client.get_many(["k", "j"]) == {}
    stats = client.stats()
    assert stats.misses["node_down"] == 3
    assert stats.counters["failed_open_reads"] == 4
    assert sum(stats.misses.values()) == 4
