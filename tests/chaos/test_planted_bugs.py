"""A judge that has never convicted anybody proves nothing: whole clusters with a bug planted in them, and without."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from memory_network import MemoryNetwork, MemoryNode, cluster_of

from chaos.checkers import check, counted
from chaos.simulated import KEYS, final_state, simulate
from kvcache_client.placement.partitions import partition_of
from kvcache_client.protocol.record import is_tombstone
from kvcache_client.protocol.verbs import Message, Status, Verb

SEEDS = range(3)


def judge(network: MemoryNetwork, seed: int) -> dict[str, int]:
    history = simulate(network, seed)
    return counted(check(history, final_state(network)))


def found_with(plant: Callable[[MemoryNode], None], *, everywhere: bool = True) -> set[str]:
    """The checkers that speak up when the bug is in all nodes, or only in the primary of one key."""
    found: set[str] = set()
    for seed in SEEDS:
        network = MemoryNetwork(3, 2, seed=seed)
        for node in network.nodes.values() if everywhere else network.owners(KEYS[0])[:1]:
            plant(node)
        found |= {name for name, number in judge(network, seed).items() if number}
    return found


@pytest.mark.parametrize("seed", SEEDS)
def test_a_cluster_without_a_bug_is_acquitted(seed: int) -> None:
    assert not any(judge(MemoryNetwork(3, 2, seed=seed), seed).values())


@pytest.mark.parametrize("seed", SEEDS)
def test_the_death_of_one_node_is_no_crime(seed: int) -> None:
    network = MemoryNetwork(5, 2, seed=seed)
    victim = random.Random(seed).choice(list(network.nodes.values()))
    network.after(0.3, victim.kill)
    found = judge(network, seed)
    assert not {name: number for name, number in found.items() if number and name != "counter_bounds"}


def forget(node: MemoryNode, key: bytes) -> None:
    """Let a node lose all that it knows of a key's partition, tombstones included."""
    assert node.service.ownership is not None
    node.store.drop(partition_of(key, node.service.ownership.seed))


def version_check_off(node: MemoryNode) -> None:
    honest = node.answer

    def keep_anyway(message: Message) -> Message:
        if message[1] == Verb.PUT:
            forget(node, message[3])
        return honest(message)

    node.answer = keep_anyway  # type: ignore[method-assign]


def tombstones_forgotten(node: MemoryNode) -> None:
    honest = node.answer

    def delete_and_forget(message: Message) -> Message:
        reply = honest(message)
        if message[1] == Verb.PUT and is_tombstone(message[4]):
            forget(node, message[3])
        return reply

    node.answer = delete_and_forget  # type: ignore[method-assign]


def writes_dropped(node: MemoryNode) -> None:
    honest = node.answer

    def lie(message: Message) -> Message:
        return (message[0], int(Status.OK)) if message[1] == Verb.PUT else honest(message)

    node.answer = lie  # type: ignore[method-assign]


def ids_off(node: MemoryNode) -> None:
    """Every reader gets what was meant for the one before."""
    honest, meant_for_another = node.answer, [(int(Status.MISS),)]

    def late(message: Message) -> Message:
        reply = honest(message)
        if message[1] != Verb.GET:
            return reply
        meant_for_another.append(reply[1:])
        return (reply[0], *meant_for_another.pop(0))

    node.answer = late  # type: ignore[method-assign]


def counted_twice(node: MemoryNode) -> None:
    honest = node.answer

    def twice(message: Message) -> Message:
        if message[1] != Verb.INCR:
            return honest(message)
        nameless = (*message[:-1], 0)  # without the number by which it would be recognised
        return (honest(nameless), honest(nameless))[1]

    node.answer = twice  # type: ignore[method-assign]


def test_a_store_that_lets_older_versions_win_is_found_out() -> None:
    assert found_with(version_check_off) >= {"lost", "stale"}


def test_a_store_that_forgets_its_tombstones_is_found_out() -> None:
    assert "resurrected" in found_with(tombstones_forgotten)


def test_a_node_that_acknowledges_writes_and_drops_them_is_found_out() -> None:
    assert found_with(writes_dropped) >= {"lost", "false_miss"}
    assert found_with(writes_dropped, everywhere=False) >= {"diverged", "false_miss"}


def test_replies_that_reach_another_caller_are_found_out() -> None:
    assert found_with(ids_off) >= {"phantom", "false_miss"}


def test_an_increment_that_is_applied_twice_is_found_out() -> None:
    assert found_with(counted_twice) == {"counter_bounds"}


def test_owners_that_change_without_a_move_are_found_out() -> None:
    found: set[str] = set()
    for seed in SEEDS:
        network = MemoryNetwork(3, 2, seed=seed)
        grown = network.topology
        for member in cluster_of(6, 2).members[3:]:
            grown = grown.with_member(member)
        network.after(0.4, lambda network=network, grown=grown: network.change(grown.settled()))
        found |= {name for name, number in judge(network, seed).items() if number}
    assert "false_miss" in found


def test_writes_that_one_process_alone_holds_are_found_out() -> None:
    found: set[str] = set()
    for seed in SEEDS:
        network = MemoryNetwork(3, 1, seed=seed)
        network.after(0.8, network.owners(KEYS[0])[0].kill)  # late: what is written again afterwards is not lost
        found |= {name for name, number in judge(network, seed).items() if number}
    assert "lost" in found
