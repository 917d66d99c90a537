"""No call takes longer than its timeout, whatever nodes and network do."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from memory_network import Call, MemoryClient, MemoryNetwork, Weather

from kvcache_client.protocol.errors import InDoubt, NotApplied

TIMEOUT = 0.25
SLACK = 0.02
"""Seconds: a pause before rerouting and the least time that a round gets."""

CALLS: dict[str, Callable[[MemoryClient], Call]] = {
    "get": lambda client: client.later.get("k"),
    "get_entry": lambda client: client.later.get_entry("k"),
    "set": lambda client: client.later.set("k", 1),
    "delete": lambda client: client.later.delete("k"),
    "add": lambda client: client.later.add("k", 1),
    "incr": lambda client: client.later.incr("n"),
    "touch": lambda client: client.later.touch("k", 5),
    "get_many": lambda client: client.later.get_many([f"k{number}" for number in range(40)]),
    "set_many": lambda client: client.later.set_many({f"k{number}": number for number in range(40)}),
    "delete_many": lambda client: client.later.delete_many([f"k{number}" for number in range(40)]),
}


def connected(network: MemoryNetwork, **options: Any) -> MemoryClient:
    """Return a client that has a connection to every node already."""
    client = network.client(timeout=TIMEOUT, **options)
    client.get_many([f"{number}" for number in range(200)])
    assert len(client.session.wires) == len(network.nodes)
    return client


def finish(network: MemoryNetwork, call: Call) -> None:
    network.run(until=lambda: call.done)
    assert call.error is None or isinstance(call.error, InDoubt | NotApplied), repr(call.error)


@pytest.mark.parametrize("verb", CALLS)
@pytest.mark.parametrize("nodes", [1, 4])
def test_when_all_nodes_are_silent(make_network: Callable[..., MemoryNetwork], verb: str, nodes: int) -> None:
    network = make_network(nodes, 2)
    client = connected(network)
    for node in network.nodes.values():
        node.pause()
    call = CALLS[verb](client)
    finish(network, call)
    assert call.took <= TIMEOUT + SLACK


@pytest.mark.parametrize("verb", CALLS)
def test_when_one_node_is_silent_the_call_still_succeeds(make_network: Callable[..., MemoryNetwork], verb: str) -> None:
    for number in range(4):
        network = make_network(4, 2)
        client = connected(network)
        list(network.nodes.values())[number].pause()
        call = CALLS[verb](client)
        finish(network, call)
        assert call.took <= TIMEOUT + SLACK
        if verb not in ("add", "incr", "touch"):  # these may be in doubt
            failed = getattr(call.result(), "failed", {})
            assert not failed


@pytest.mark.parametrize("verb", CALLS)
def test_when_every_answer_comes_just_in_time(make_network: Callable[..., MemoryNetwork], verb: str) -> None:
    network = make_network(4, 3)
    client = connected(network)
    network.weather = Weather(one_way=(0.045, 0.055))
    call = CALLS[verb](client)
    finish(network, call)
    assert call.took <= TIMEOUT + SLACK


@pytest.mark.parametrize("verb", CALLS)
def test_when_no_connection_can_be_made(make_network: Callable[..., MemoryNetwork], verb: str) -> None:
    network = make_network(4, 2)
    client = network.client(timeout=TIMEOUT)
    network.weather = Weather(one_way=(10.0, 10.0))
    call = CALLS[verb](client)
    finish(network, call)
    assert call.took <= TIMEOUT + SLACK


@pytest.mark.parametrize("verb", CALLS)
def test_when_the_cluster_keeps_sending_the_client_elsewhere(
    make_network: Callable[..., MemoryNetwork], verb: str
) -> None:
    network = make_network(4, 2)
    client = connected(network)
    for node in network.nodes.values():
        node.disown()  # answers NotOwner to everything
    call = CALLS[verb](client)
    finish(network, call)
    assert call.took <= TIMEOUT + SLACK


@pytest.mark.parametrize("seed", range(20))
def test_when_anything_may_happen(make_network: Callable[..., MemoryNetwork], seed: int) -> None:
    dice = random.Random(seed)
    network = make_network(4, dice.randrange(1, 4), seed=seed)
    client = connected(network)
    for _ in range(60):
        network.weather = Weather(
            refuse=dice.choice([0, 0, 0.5]),
            drop=dice.choice([0, 0.1]),
            lose=dice.choice([0, 0.1]),
            one_way=(0.0001, dice.choice([0.001, 0.02, 0.1])),
            stall=dice.choice([0, 0.1]),
        )
        verb = dice.choice(list(CALLS))
        call = CALLS[verb](client)
        network.run(until=lambda call=call: call.done)
        assert call.took <= TIMEOUT + SLACK, f"{network!r}: {verb} {call!r}"
