"""Every verb on a cluster in good health, at each replication factor."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from memory_network import MemoryClient, MemoryNetwork

from kvcache_client.protocol.errors import CounterOverflow, KeyNotFound, NotAnInteger
from kvcache_client.protocol.record import is_tombstone
from kvcache_client.protocol.verbs import Verb


@pytest.fixture(params=[1, 2, 3])
def world(request: pytest.FixtureRequest, make_network: Callable[..., MemoryNetwork]) -> MemoryNetwork:
    return make_network(4, request.param)


@pytest.fixture
def client(world: MemoryNetwork) -> MemoryClient:
    return world.client()


def test_a_value_is_read_back_and_lies_on_exactly_the_owners(world: MemoryNetwork, client: MemoryClient) -> None:
    version = client.set("k", {"a": [1, None]})
    assert client.get("k") == {"a": [1, None]}
    entry = client.get_entry("k")
    assert entry is not None
    assert (entry.value, entry.version, entry.ttl) == ({"a": [1, None]}, version, None)
    copies = world.copies("k")
    assert set(copies) == {node.id for node in world.owners("k")}
    assert len(copies) == world.topology.replication_factor
    assert len(set(copies.values())) == 1


def test_a_missing_key_gives_the_default_and_no_entry(client: MemoryClient) -> None:
    assert client.get("k") is None
    assert client.get("k", default=7) == 7
    assert client.get_entry("k") is None
    assert client.exists("k") is False


def test_a_stored_none_is_told_from_a_miss(client: MemoryClient) -> None:
    client.set("k", None)
    assert client.get("k", default="miss") is None
    entry = client.get_entry("k")
    assert entry is not None
    assert entry.value is None
    assert client.exists("k") is True


def test_a_later_write_wins_over_an_earlier_one(client: MemoryClient) -> None:
    first = client.set("k", "old")
    assert client.set("k", "new") > first
    assert client.get("k") == "new"


def test_delete_says_whether_there_was_something_and_leaves_tombstones(
    world: MemoryNetwork, client: MemoryClient
) -> None:
    client.set("k", 1)
    assert client.delete("k") is True
    assert client.delete("k") is False
    assert client.get("k") is None
    copies = world.copies("k")
    assert set(copies) == {node.id for node in world.owners("k")}
    assert all(is_tombstone(copy) for copy in copies.values())


def test_a_value_is_gone_once_its_time_is_over(world: MemoryNetwork, client: MemoryClient) -> None:
    client.set("float", 1, ttl=0.5)
    client.set("delta", 1, ttl=timedelta(seconds=2))
    entry = client.get_entry("float")
    assert entry is not None
    assert entry.ttl is not None
    assert 0.49 < entry.ttl <= 0.5
    world.run(seconds=0.6)
    assert client.get("float", "gone") == "gone"
    assert client.get("delta") == 1
    world.run(seconds=2)
    assert client.exists("delta") is False


def test_touch_gives_another_time_to_live_and_keeps_the_value(world: MemoryNetwork, client: MemoryClient) -> None:
    client.set("k", "value", ttl=1)
    assert client.touch("k", ttl=100) is True
    world.run(seconds=2)
    assert client.get("k") == "value"
    assert client.touch("k", None) is True
    entry = client.get_entry("k")
    assert entry is not None
    assert entry.ttl is None
    assert len(set(world.copies("k").values())) == 1
    assert client.touch("absent", ttl=5) is False


def test_add_writes_only_what_is_absent(world: MemoryNetwork, client: MemoryClient) -> None:
    assert client.add("k", 1, ttl=10) is True
    assert client.add("k", 2) is False
    assert client.get("k") == 1
    client.delete("k")
    assert client.add("k", 3, ttl=1) is True
    world.run(seconds=2)
    assert client.add("k", 4) is True
    assert client.get("k") == 4
    assert len(set(world.copies("k").values())) == 1


def test_replace_writes_only_what_is_there(client: MemoryClient) -> None:
    assert client.replace("k", 1) is False
    assert client.exists("k") is False
    client.set("k", 1)
    assert client.replace("k", 2) is True
    assert client.get("k") == 2
    client.delete("k")
    assert client.replace("k", 3) is False


def test_cas_writes_only_over_the_version_that_was_seen(world: MemoryNetwork, client: MemoryClient) -> None:
    seen = client.set("k", 1)
    assert client.cas("k", 2, version=seen) is True
    assert client.cas("k", 3, version=seen) is False
    entry = client.get_entry("k")
    assert entry is not None
    assert entry.value == 2
    assert client.cas("k", 4, version=entry.version, ttl=1) is True
    world.run(seconds=2)
    assert client.cas("k", 5, version=entry.version) is False
    assert client.get("k") is None


def test_incr_and_decr_count_and_give_a_missing_key_its_start(world: MemoryNetwork, client: MemoryClient) -> None:
    assert client.incr("n") == 1
    assert client.incr("n", by=10) == 11
    assert client.decr("n", by=4) == 7
    assert client.get("n") == 7
    assert client.incr("m", by=2, initial=100, ttl=1) == 102
    assert client.incr("m") == 103
    world.run(seconds=2)
    assert client.incr("m") == 1
    client.delete("n")
    assert client.decr("n") == -1
    for key in ("n", "m"):
        assert len(set(world.copies(key).values())) == 1


def test_incr_keeps_the_time_to_live_that_the_key_has(world: MemoryNetwork, client: MemoryClient) -> None:
    client.set("n", 5, ttl=1)
    client.incr("n", ttl=100)
    world.run(seconds=2)
    assert client.get("n") is None


def test_incr_without_a_start_refuses_a_missing_key(client: MemoryClient) -> None:
    with pytest.raises(KeyNotFound, match="'n' does not exist"):
        client.incr("n", initial=None)


@pytest.mark.parametrize("value", ["text", b"1", 1.5, None, [1]])
def test_incr_refuses_what_is_no_integer_and_leaves_it(client: MemoryClient, value: Any) -> None:
    client.set("n", value)
    with pytest.raises(NotAnInteger):
        client.incr("n")
    assert client.get("n") == value


def test_a_counter_does_not_leave_64_bits(client: MemoryClient) -> None:
    client.set("n", 2**63 - 1)
    with pytest.raises(CounterOverflow, match="9223372036854775807"):
        client.incr("n")
    assert client.get("n") == 2**63 - 1
    client.set("n", -(2**63))
    with pytest.raises(CounterOverflow):
        client.decr("n")


def test_one_call_is_one_round_trip_to_each_node_that_it_needs(world: MemoryNetwork, client: MemoryClient) -> None:
    client.set("k", 1)
    client.get("k")
    asked = [node.asked for node in world.owners("k")]
    assert [counts[Verb.PUT] for counts in asked] == [1] * world.topology.replication_factor
    assert sum(counts[Verb.GET] for counts in asked) == 1


def test_a_namespace_prefixes_every_verb_and_shares_the_client(client: MemoryClient) -> None:
    shop = client.namespace("shop:")
    inner = shop.namespace("eu:")
    inner.set("k", 1)
    assert client.get("shop:eu:k") == 1
    assert inner.get_many(["k"]) == {"k": 1}
    assert shop.get("k") is None
    assert inner.brain is client.brain
