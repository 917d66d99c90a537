"""A cluster that changes under its clients: who asks the wrong node is told, looks again, and finds the right one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from memory_network import MemoryNetwork, Weather, cluster_of, placed

from kvcache_client.placement.topology import Member, Topology
from kvcache_client.protocol.errors import NotApplied, NotOwner
from kvcache_client.protocol.verbs import Verb


def moving_keys(old: Topology, new: Topology) -> Iterator[str]:
    """Yield keys whose primary in ``old`` owns them no more in ``new``."""
    before, after = placed(old), placed(new)
    for number in range(10_000):
        name = b"key-%d" % number
        if before.owners_of(name)[0] not in after.owners_of(name):
            yield name.decode()


@pytest.fixture
def grown(make_network: Callable[..., MemoryNetwork]) -> tuple[MemoryNetwork, str]:
    """A network about to grow from three nodes to five, and a key whose primary then owns it no more."""
    network = make_network(3, 2)
    return network, next(moving_keys(network.topology, cluster_of(5, 2)))


@pytest.mark.parametrize("verb", ["set", "incr", "add", "delete", "touch", "get", "set_many", "get_many"])
def test_a_client_with_an_old_topology_finds_the_new_owners(grown: tuple[MemoryNetwork, str], verb: str) -> None:
    network, key = grown
    client = network.client()
    client.get_many([f"{number}" for number in range(100)])  # connected before the change: nothing tells it
    old = network.owners(key)[0]
    network.change(cluster_of(5, 2))
    arguments = {"set": (key, 1), "add": (key, 1), "set_many": ({key: 1},), "get_many": ([key],)}
    call = getattr(client.later, verb)(*arguments.get(verb, (key,)))
    network.run(until=lambda: call.done)
    assert call.error is None
    assert call.took < client.brain.config.timeout
    assert client.brain.require_view().epoch == network.topology.epoch
    assert client.brain.counters.refreshes >= 1
    assert old.id not in network.copies(key)
    if verb in ("set", "incr", "add", "set_many"):
        assert set(network.copies(key)) == {node.id for node in network.owners(key)}
        assert client.get(key) == 1


def test_a_node_that_no_longer_owns_a_key_never_says_miss(grown: tuple[MemoryNetwork, str]) -> None:
    network, key = grown
    network.change(cluster_of(5, 2))
    (old_primary,) = {placed(cluster_of(3, 2)).owners_of(key.encode())[0]}
    reply = network.nodes[old_primary].answer((1, int(Verb.GET), key.encode()))
    assert reply[1] == NotOwner.code
    assert reply[3] == network.topology.epoch


def test_a_write_routed_by_a_topology_that_is_too_old_is_refused_even_by_an_owner(
    make_network: Callable[..., MemoryNetwork],
) -> None:
    """Else it would be acknowledged by owners of the past only."""
    network = make_network(3, 2)
    grown = cluster_of(5, 2)
    before, after = placed(network.topology), placed(grown)
    names = (b"key-%d" % number for number in range(10_000))
    name = next(
        name
        for name in names
        if before.owners_of(name)[0] == after.owners_of(name)[0] and before.owners_of(name) != after.owners_of(name)
    )
    client = network.client()
    client.get(name)
    network.change(grown)
    client.set(name, 1)
    assert set(network.copies(name.decode())) == {node.id for node in network.owners(name.decode())}


def test_a_node_that_lags_behind_is_asked_until_it_has_caught_up(grown: tuple[MemoryNetwork, str]) -> None:
    network, key = grown
    newer = cluster_of(5, 2)
    network.change(newer, only=["n4"])
    client = network.client(topology=newer)
    call = client.later.set(key, 1)
    network.after(0.03, lambda: network.change(newer))
    network.run(until=lambda: call.done)
    assert call.error is None
    assert call.took < client.brain.config.timeout
    assert set(network.copies(key)) >= {node.id for node in network.owners(key)}


def test_a_client_hears_of_a_newer_topology_when_it_connects(make_network: Callable[..., MemoryNetwork]) -> None:
    network = make_network(3, 2)
    client = network.client()
    network.change(cluster_of(4, 2))
    client.get("k")
    client.get("k")
    assert client.brain.require_view().epoch == network.topology.epoch


def test_a_node_with_a_new_address_is_found_again(make_network: Callable[..., MemoryNetwork]) -> None:
    network = make_network(3, 2)
    client = network.client()
    client.set("k", 1)
    moved = network.topology.with_member(Member("n1", "10.7.7.7:7700"))
    network.change(moved)
    client.get_many([f"{number}" for number in range(100)])
    network.break_wires("n1")
    client.get_many([f"{number}" for number in range(100)])
    client.get("k")
    assert client.brain.require_view().addresses["n1"] == "10.7.7.7:7700"


def test_a_cluster_that_sends_the_client_round_in_circles_ends_with_an_error(network: MemoryNetwork) -> None:
    client = network.client()
    for node in network.nodes.values():
        node.disown()
    for call in (lambda: client.set("k", 1), lambda: client.incr("k")):
        with pytest.raises(NotApplied, match="does not own"):
            call()
    refreshes = client.brain.counters.refreshes
    assert 2 <= refreshes <= 100  # with a pause in between: the cluster is not hammered


@pytest.mark.parametrize("seed", range(10))
def test_writes_during_a_change_are_never_acknowledged_by_the_past_alone(
    make_network: Callable[..., MemoryNetwork], seed: int
) -> None:
    """Nodes learn of the change one by one while clients write; whatever is acknowledged after it lies on its owners."""
    network = make_network(3, 2, seed=seed, weather=Weather(one_way=(0.0001, 0.003)))
    newer = cluster_of(5, 2)
    keys = [key for key, _ in zip(moving_keys(network.topology, newer), range(20), strict=False)]
    clients = [network.client() for _ in range(3)]
    network.change(newer, only=["n4", "n5"])
    for order, id in enumerate(["n1", "n2", "n3"]):
        network.after(order * 0.004, lambda id=id: network.nodes[id].adopt(newer))
    network.run(seconds=0.009)
    calls = {key: clients[number % 3].later.set(key, key) for number, key in enumerate(keys)}
    network.run(until=lambda: all(call.done for call in calls.values()))
    for key, call in calls.items():
        if call.error is None:
            assert set(network.copies(key)) >= {node.id for node in network.owners(key)}, f"{network!r}"
