"""A client reads its own writes, whichever owner it asks, also after a node was away."""

from __future__ import annotations

import random
from contextlib import nullcontext
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from memory_network import MemoryNetwork, Weather

from kvcache.cluster.changes import purge
from kvcache_client.core.balancing import POLICIES
from kvcache_client.core.lagging import Lagging
from kvcache_client.protocol.errors import InDoubt, NotApplied
from kvcache_client.protocol.version import version_at


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lagging(clock: Clock) -> Lagging:
    return Lagging(clock, nullcontext, limit=3)


def test_a_node_is_not_believed_until_it_has_that_version_or_a_newer_one(lagging: Lagging) -> None:
    lagging.missed(7, b"k", 10, ["a", "b"])
    assert lagging.of(7, b"k") == {"a", "b"}
    assert lagging.of(7, b"other") == set()
    assert lagging.version(b"k") == 10
    lagging.caught_up(b"k", 9, ["a"])
    assert lagging.of(7, b"k") == {"a", "b"}
    lagging.caught_up(b"k", 10, ["a"])
    assert lagging.of(7, b"k") == {"b"}
    lagging.caught_up(b"k", 11, ["b", "c"])
    assert not lagging.marks


def test_an_older_write_that_ends_late_does_not_hide_a_newer_one_that_was_missed(lagging: Lagging) -> None:
    lagging.missed(7, b"k", 20, ["a"])
    lagging.caught_up(b"k", 10, ["a"])
    assert lagging.of(7, b"k") == {"a"}
    lagging.missed(7, b"k", 5, ["b"])
    assert lagging.version(b"k") == 20


def test_over_the_limit_whole_partitions_are_marked(lagging: Lagging) -> None:
    for number in range(10):
        lagging.missed(number % 2, b"k%d" % number, 10, ["a"])
    assert len(lagging) == 5
    assert lagging.of(0, b"never written") == {"a"}
    lagging.caught_up(b"k9", 99, ["a"])
    assert lagging.of(1, b"k9") == {"a"}  # of the others in that partition nothing is known


def test_another_process_has_pulled_everything(lagging: Lagging) -> None:
    lagging.missed(1, b"k", 10, ["a", "b"])
    lagging.missed(2, b"l", 10, ["a"])
    lagging.replaced(["a"])
    assert lagging.of(1, b"k") == {"b"}
    assert lagging.of(2, b"l") == set()
    assert len(lagging) == 1


def test_marks_go_by_themselves_when_hints_must_have_been_handed_over(lagging: Lagging, clock: Clock) -> None:
    lagging.missed(1, b"k", 10, ["a"])
    clock.now = 899.0
    assert lagging.of(1, b"k") == {"a"}
    clock.now = 901.0
    assert lagging.of(1, b"k") == set()
    assert not lagging.marks


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_an_owner_that_missed_a_write_is_not_read_until_it_has_it(network: MemoryNetwork, policy: str) -> None:
    client = network.client(balancing=policy, zone="z")
    client.set("k", "old")
    for absent in network.owners("k"):
        absent.cut()
        client.set("k", f"new without {absent.id}")
        absent.heal()
        network.run(seconds=3)
        client.get("another")  # tries the connection again, in passing
        network.run(seconds=1)
        assert not client.brain.down
        for _ in range(6):
            assert client.get("k") == f"new without {absent.id}"
            assert client.get_many(["k"]) == {"k": f"new without {absent.id}"}
        assert not client.brain.behind  # the first read has healed it
        assert (
            len({record for id, record in network.copies("k").items() if id in {n.id for n in network.owners("k")}})
            == 1
        )


def test_a_write_that_came_to_nothing_does_not_hide_what_was_acknowledged_before(network: MemoryNetwork) -> None:
    client = network.client()
    client.set("k", "acknowledged")
    for node in network.nodes.values():
        node.cut()
    with pytest.raises((InDoubt, NotApplied)):
        client.set("k", "never arrived")
    for node in network.nodes.values():
        node.heal()
    network.run(seconds=5)
    assert client.get("k") == "acknowledged"
    assert client.get_many(["k"]) == {"k": "acknowledged"}


def test_a_deletion_that_an_owner_missed_stays_a_deletion(network: MemoryNetwork) -> None:
    client = network.client(balancing="round_robin")
    client.set("k", "old")
    second = network.owners("k")[1]
    second.cut()
    assert client.delete("k") is True
    second.heal()
    network.run(seconds=3)
    client.get("another")
    network.run(seconds=1)
    assert [client.get("k") for _ in range(4)] == [None] * 4
    assert not client.brain.behind


def test_a_counter_that_an_owner_missed_does_not_go_back(network: MemoryNetwork) -> None:
    client = network.client(balancing="round_robin")
    assert client.incr("hits") == 1
    for node in network.owners("hits"):
        node.cut()
        total = client.incr("hits")
        node.heal()
        network.run(seconds=3)
        client.get("another")
        network.run(seconds=1)
        assert [client.get("hits") for _ in range(4)] == [total] * 4


def test_the_newest_copy_is_read_from_a_stand_in_when_only_an_owner_that_is_behind_is_left(
    network: MemoryNetwork,
) -> None:
    client = network.client()
    client.set("k", "old")
    first, second = network.owners("k")
    second.cut()
    client.set("k", "new")
    second.heal()
    first.kill()
    network.run(seconds=3)
    assert client.get("k") == "new"


def test_what_all_owners_hold_every_client_sees_anywhere(network: MemoryNetwork) -> None:
    writer = network.client()
    readers = [network.client(balancing=policy, zone="z") for policy in POLICIES]
    for number in range(20):
        writer.set("k", number)
        assert [reader.get("k") for reader in readers for _ in range(3)] == [number] * len(readers) * 3


class OwnWrites(RuleBasedStateMachine):
    """One client, one node away at a time, any policy: a read shows the client's own last acknowledged write."""

    @initialize(seed=st.integers(0, 9999), policy=st.sampled_from(sorted(POLICIES)), factor=st.integers(2, 3))
    def begin(self, seed: int, policy: str, factor: int) -> None:
        self.network = MemoryNetwork(5, factor, seed=seed, weather=Weather(one_way=(0.0001, 0.002)))
        self.dice = random.Random(seed)
        self.client = self.network.client(balancing=policy, zone="z")
        self.client.get_many([str(number) for number in range(50)])
        self.possible: dict[str, set[Any]] = {}
        self.away: Any = None

    def write(self, key: str, value: Any, call: Any) -> None:
        try:
            call()
        except InDoubt:
            self.possible.setdefault(key, {None}).add(value)
        except NotApplied:
            pass
        else:
            self.possible[key] = {value}

    @rule(key=st.sampled_from("abc"), value=st.integers(0, 99))
    def set(self, key: str, value: int) -> None:
        self.write(key, value, lambda: self.client.set(key, value))

    @rule(key=st.sampled_from("abc"))
    def delete(self, key: str) -> None:
        self.write(key, None, lambda: self.client.delete(key))

    @rule(keys=st.lists(st.sampled_from("abc"), min_size=1, unique=True), value=st.integers(0, 99))
    def set_many(self, keys: list[str], value: int) -> None:
        result = self.client.set_many(dict.fromkeys(keys, value))
        for key in result:
            self.possible[str(key)] = {value}
        for key in result.failed:
            self.possible.setdefault(str(key), {None}).add(value)

    @rule(key=st.sampled_from("abc"))
    def get(self, key: str) -> None:
        assert self.client.get(key) in self.possible.get(key, {None}), f"{self.client!r} {self.network.copies(key)}"

    @rule()
    def get_many(self) -> None:
        found = self.client.get_many(list("abc"))
        assert not found.failed
        for key in "abc":
            assert found.get(key) in self.possible.get(key, {None}), f"{self.client!r} {self.network.copies(key)}"

    @rule(silent=st.booleans(), owner=st.integers(0, 1), key=st.sampled_from("abc"))
    def leave(self, silent: bool, owner: int, key: str) -> None:
        if self.away is None:
            self.away = self.network.owners(key)[owner]
            (self.away.pause if silent else self.away.cut)()

    @rule(seconds=st.floats(0.0, 5.0))
    def come_back(self, seconds: float) -> None:
        if self.away is not None:
            self.away.resume()
            self.away.heal()
            self.away = None
        self.network.run(seconds=seconds)

    @rule(seconds=st.floats(0.0, 1.0))
    def wait(self, seconds: float) -> None:
        self.network.run(seconds=seconds)


OwnWrites.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[
        Phase.explicit,
        Phase.generate,
    ],  # a shorter example costs minutes, and the seed is enough to see what happened
)
TestOwnWrites = OwnWrites.TestCase


def test_the_machine_finds_a_client_that_forgets_who_is_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Lagging, "missed", lambda *arguments: None)
    forgetful = settings(OwnWrites.TestCase.settings, max_examples=300, database=None, derandomize=True)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(OwnWrites, settings=forgetful)


@pytest.mark.parametrize("told", [True, False])
def test_what_a_flush_has_taken_is_a_miss_also_when_an_owner_that_missed_the_write_is_away(
    network: MemoryNetwork, told: bool
) -> None:
    client = network.client()
    absent = network.owners("k")[0]
    absent.cut()
    client.set("k", "before the flush")
    version = version_at(network.wall_ms() + 250)
    flushed = purge(network.topology, "", version, 0)
    network.change(flushed, only=None if told else [node.id for node in network.nodes.values() if node is not absent])
    network.run(seconds=0.1)
    assert client.get("k") is None
