"""Random histories: clients read, write and delete at random while nodes fail at random, and what they saw is judged.

Every value is unique, every run follows from its seed. Two kinds of runs, for two kinds of promises:

- Nodes die and stay dead, connections break after the request was applied. Then every read must show the newest
  acknowledged write, or one that ran beside it (``stale_reads``).
- Nodes are cut off, fall silent and come back, requests get lost. Until records are handed over to owners that were away,
  such an owner answers with its past; but the newest copy of each key must be at least the newest acknowledged version.

At most as many nodes are bad at a time as the cluster promises to survive: replication factor - 1.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from memory_network import CLEAR, Call, MemoryClient, MemoryNetwork, MemoryNode, Weather, cluster_of

from kvcache_client.placement.topology import Topology
from kvcache_client.protocol.errors import InDoubt, KvCacheError
from kvcache_client.protocol.record import is_tombstone, payload_of, version_of
from kvcache_client.protocol.verbs import Message, Verb

KEYS = [f"key-{number}" for number in range(6)]
FOREVER = float("inf")


@dataclass
class Operation:
    """One read or write of one key. ``value`` is what was written or read, None for a delete or a miss."""

    kind: str
    key: str
    value: Any
    began: float
    ended: float = FOREVER
    """When it was acknowledged; a write that never was may take effect at any later time."""
    version: int = 0
    error: KvCacheError | None = None


class Worker:
    """A client that does one random thing after the other."""

    def __init__(self, network: MemoryNetwork, client: MemoryClient, dice: random.Random, count: int) -> None:
        self.history: list[Operation] = []
        self.left = count
        self._network = network
        self._client = client
        self._dice = dice
        self._begin()

    def _begin(self) -> None:
        if not self.left:
            return
        self.left -= 1
        getattr(self, f"_{self._dice.choice(['set', 'set', 'delete', 'get', 'get', 'get', 'set_many', 'get_many'])}")()

    def _unique(self, key: str) -> str:
        return f"{key}|{self._client.session.name}|{self.left}"

    def _follow(self, call: Call, operations: list[Operation], note: Callable[[Any, Operation], None]) -> None:
        self.history += operations
        if call.done:
            self._ended(operations, note, call)
        else:
            call.then = partial(self._ended, operations, note)

    def _ended(self, operations: list[Operation], note: Callable[[Any, Operation], None], call: Call) -> None:
        for operation in operations:
            if call.error is not None:
                operation.error = call.error
            else:
                operation.ended = self._network.now
                note(call.result(), operation)
        self._network.after(self._dice.uniform(0, 0.01), self._begin)

    def _operation(self, kind: str, key: str, value: Any = None) -> Operation:
        return Operation(kind, key, value, self._network.now)

    def _get(self) -> None:
        key = self._dice.choice(KEYS)

        def note(result: Any, operation: Operation) -> None:
            operation.value = result

        self._follow(self._client.later.get(key), [self._operation("get", key)], note)

    def _set(self) -> None:
        key = self._dice.choice(KEYS)
        operation = self._operation("set", key, self._unique(key))

        def note(result: Any, operation: Operation) -> None:
            operation.version = result

        self._follow(self._client.later.set(key, operation.value), [operation], note)

    def _delete(self) -> None:
        key = self._dice.choice(KEYS)
        self._follow(self._client.later.delete(key), [self._operation("delete", key)], lambda result, operation: None)

    def _get_many(self) -> None:
        keys = self._dice.sample(KEYS, 3)

        def note(result: Any, operation: Operation) -> None:
            operation.value = result.get(operation.key)
            operation.error = result.failed.get(operation.key)

        self._follow(self._client.later.get_many(keys), [self._operation("get", key) for key in keys], note)

    def _set_many(self) -> None:
        keys = self._dice.sample(KEYS, 3)
        operations = [self._operation("set", key, self._unique(key)) for key in keys]

        def note(result: Any, operation: Operation) -> None:
            operation.error = result.failed.get(operation.key)
            operation.version = result.get(operation.key, 0)
            if operation.error is not None:
                operation.ended = FOREVER

        self._follow(self._client.later.set_many({it.key: it.value for it in operations}), operations, note)


def play(
    network: MemoryNetwork, dice: random.Random, *, believed: Topology | None = None, **options: Any
) -> list[Operation]:
    """Let three clients, whose clocks differ, work until they are done; returns all that they did.

    ``believed`` is a topology that they take for the true one; ``options`` as ``ClientConfig``.
    """
    workers = []
    for _ in range(3):
        client = network.client(topology=believed, **options)
        client.get_many([f"{number}" for number in range(50)])
        client.session.skew_ms = dice.randrange(-200, 200)  # after the greeting, which would have healed it
        workers.append(Worker(network, client, random.Random(dice.random()), 60))
    network.run(until=lambda: not any(worker.left for worker in workers))
    network.weather = CLEAR
    for node in network.nodes.values():
        if node.silent:
            node.resume()
    network.run()
    return [operation for worker in workers for operation in worker.history]


def stale_reads(history: list[Operation]) -> list[str]:
    """Return what each read saw that it must not have seen: a phantom, or what was replaced before the read began."""
    complaints = []
    for key in KEYS:
        writes = [operation for operation in history if operation.key == key and operation.kind != "get"]
        writes.append(Operation("delete", key, None, -2.0, -1.0))  # nothing was there in the beginning
        acknowledged = [write for write in writes if write.ended < FOREVER]
        for read in history:
            if read.key != key or read.kind != "get" or read.error is not None or read.ended == FOREVER:
                continue
            sources = [write for write in writes if write.value == read.value and write.began <= read.ended]
            replaced = [write for write in acknowledged if write.ended < read.began]
            if not any(all(later.began <= source.ended for later in replaced) for source in sources):
                newest = max(replaced, key=lambda write: write.began)
                complaints.append(f"{read} after {newest}" if sources else f"phantom: {read}")
    return complaints


def failed_reads(history: list[Operation]) -> list[Operation]:
    """Return the reads that were not answered."""
    return [operation for operation in history if operation.kind == "get" and operation.error is not None]


def lost_writes(network: MemoryNetwork, history: list[Operation]) -> list[str]:
    """Return the acknowledged versions that are newer than every copy of their key, and copies that nobody wrote."""
    complaints = []
    for key in KEYS:
        writes = [operation for operation in history if operation.key == key and operation.kind == "set"]
        newest = max(network.copies(key).values(), default=None)
        if newest is None:
            complaints += [f"nothing is left of {write}" for write in writes if write.ended < FOREVER]
            continue
        complaints += [f"lost: {write}" for write in writes if write.version > version_of(newest)]
        if not is_tombstone(newest) and payload_of(newest).decode() not in {write.value for write in writes}:
            complaints.append(f"phantom: {newest!r} under {key}")
    return complaints


def deaths(network: MemoryNetwork, dice: random.Random) -> None:
    """Kill as many nodes as the cluster promises to survive, at random times."""
    for node in dice.sample(list(network.nodes.values()), network.topology.replication_factor - 1):
        network.after(dice.uniform(0.0, 0.3), node.kill)


def absences(network: MemoryNetwork, dice: random.Random) -> None:
    """Let nodes be away and come back again and again, at most replication factor - 1 at a time."""
    away: set[str] = set()

    def leave() -> None:
        if len(away) < network.topology.replication_factor - 1:
            node = dice.choice([node for node in network.nodes.values() if node.id not in away])
            away.add(node.id)
            silent = dice.random() < 0.5
            (node.pause if silent else node.cut)()
            network.after(dice.uniform(0.02, 0.4), partial(come_back, node, silent))
        if network.now < 5.0:
            network.after(dice.uniform(0.01, 0.2), leave)

    def come_back(node: MemoryNode, silent: bool) -> None:
        (node.resume if silent else node.heal)()
        away.discard(node.id)

    leave()


@pytest.mark.parametrize("replication_factor", [2, 3])
@pytest.mark.parametrize("seed", range(8))
def test_when_nodes_die_no_acknowledged_write_is_lost_and_nothing_deleted_comes_back(
    make_network: Callable[..., MemoryNetwork], seed: int, replication_factor: int
) -> None:
    dice = random.Random(seed)
    network = make_network(5, replication_factor, seed=seed)
    deaths(network, dice)
    history = play(network, dice)
    assert stale_reads(history) == [], f"{network!r}"
    assert lost_writes(network, history) == [], f"{network!r}"
    failed = [operation for operation in history if operation.error is not None]
    assert failed_reads(history) == [], f"{network!r}"
    assert len(failed) <= len(history) // 10, f"{network!r}"


@pytest.mark.parametrize("seed", range(8))
def test_the_same_holds_while_answers_get_lost(make_network: Callable[..., MemoryNetwork], seed: int) -> None:
    dice = random.Random(seed)
    network = make_network(5, 3, seed=seed, weather=Weather(lose=0.04, one_way=(0.0001, 0.004)))
    deaths(network, dice)
    history = play(network, dice)
    assert stale_reads(history) == [], f"{network!r}"
    assert lost_writes(network, history) == [], f"{network!r}"


@pytest.mark.parametrize("replication_factor", [2, 3])
@pytest.mark.parametrize("seed", range(8))
def test_when_nodes_come_and_go_reads_go_on_and_the_newest_copy_is_never_lost(
    make_network: Callable[..., MemoryNetwork], seed: int, replication_factor: int
) -> None:
    dice = random.Random(seed)
    network = make_network(5, replication_factor, seed=seed)
    absences(network, dice)
    history = play(network, dice)
    assert lost_writes(network, history) == [], f"{network!r}"
    assert [it for it in stale_reads(history) if it.startswith("phantom")] == [], f"{network!r}"
    assert failed_reads(history) == [], f"{network!r}"


@pytest.mark.parametrize("seed", range(8))
def test_when_everything_goes_wrong_at_once_the_newest_copy_is_never_lost(
    make_network: Callable[..., MemoryNetwork], seed: int
) -> None:
    dice = random.Random(seed)
    foul = Weather(refuse=0.05, drop=0.03, lose=0.03, one_way=(0.0001, 0.01), stall=0.02)
    network = make_network(5, 3, seed=seed, weather=foul)
    absences(network, dice)
    history = play(network, dice)
    assert lost_writes(network, history) == [], f"{network!r}"
    assert [it for it in stale_reads(history) if it.startswith("phantom")] == [], f"{network!r}"
    doubts = [it for it in history if it.error is not None]
    assert all(isinstance(it.error, InDoubt) or it.error.retryable for it in doubts if it.error), f"{network!r}"


# Judges that have never convicted anybody prove nothing: each must find the bug planted for it.


def test_the_judge_finds_writes_that_a_single_node_holds(make_network: Callable[..., MemoryNetwork]) -> None:
    found: list[Operation] = []
    for seed in range(5):
        dice = random.Random(seed)
        network = make_network(5, 2, seed=seed)
        deaths(network, dice)
        found += failed_reads(play(network, dice, believed=cluster_of(5, 1)))
    assert found


def test_the_judge_finds_deleted_values_that_come_back(make_network: Callable[..., MemoryNetwork]) -> None:
    network = make_network(5, 2)
    liar = network.owners(KEYS[0])[0]
    honest = liar.answer

    def lie(message: Message) -> Message:
        if message[1] == Verb.PUT and is_tombstone(message[4]):
            return message[0], 0
        return honest(message)

    liar.answer = lie  # type: ignore[method-assign]
    assert stale_reads(play(network, random.Random(1), balancing="primary"))


def test_the_judge_finds_the_value_of_another_key(make_network: Callable[..., MemoryNetwork]) -> None:
    network = make_network(3, 2)
    node = network.owners(KEYS[0])[0]
    honest = node.answer

    def mix_up(message: Message) -> Message:
        if message[1] == Verb.GET and message[2] == KEYS[0].encode():
            for other in KEYS[1:]:
                reply = honest((message[0], message[1], other.encode()))
                if reply[1] == 0:
                    return reply
        return honest(message)

    node.answer = mix_up  # type: ignore[method-assign]
    assert any(it.startswith("phantom") for it in stale_reads(play(network, random.Random(1), balancing="primary")))
