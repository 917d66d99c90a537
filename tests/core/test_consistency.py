"""Reads and writes at a level: how many copies, what the newest is, and what is said when there are too few."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from memory_network import MemoryNetwork

from kvcache_client.core.config import ClientConfig, configured
from kvcache_client.core.consistency import LEVELS, copies_needed, needed_acks
from kvcache_client.protocol.errors import InDoubt, InvalidOption, TooFewCopies, Unavailable
from kvcache_client.protocol.verbs import Verb


@pytest.mark.parametrize(
    ("owners", "one", "quorum", "all_"), [(1, 1, 1, 1), (2, 1, 2, 2), (3, 1, 2, 3), (4, 1, 3, 4), (5, 1, 3, 5)]
)
def test_levels_are_counted_in_owners(owners: int, one: int, quorum: int, all_: int) -> None:
    assert [copies_needed(level, owners) for level in LEVELS] == [one, quorum, all_]
    assert [needed_acks(level, owners) for level in LEVELS] == [one, quorum, all_]


def test_two_quorums_always_meet() -> None:
    for owners in range(1, 9):
        assert 2 * copies_needed("quorum", owners) > owners


@pytest.fixture
def three_copies(make_network: Callable[..., MemoryNetwork]) -> MemoryNetwork:
    return make_network(5, 3)


@pytest.mark.parametrize(("level", "peeked"), [("one", 0), ("quorum", 2), ("all", 3)])
def test_a_read_asks_as_many_owners_as_its_level_takes(three_copies: MemoryNetwork, level: str, peeked: int) -> None:
    client = three_copies.client()
    client.set("k", 1)
    assert client.get("k", consistency=level) == 1
    assert client.get_entry("k", consistency=level).value == 1  # type: ignore[union-attr]
    assert client.get_many(["k", "absent"], consistency=level) == {"k": 1}
    assert sum(node.asked[Verb.PEEK] for node in three_copies.owners("k")) >= 3 * peeked
    assert three_copies.client(consistency=level).get("k") == 1


@pytest.mark.parametrize("level", ["quorum", "all"])
def test_the_newest_wins_and_owners_that_are_behind_are_brought_up(three_copies: MemoryNetwork, level: str) -> None:
    writer = three_copies.client()
    writer.set("k", "old")
    behind = three_copies.owners("k")[0]
    behind.cut()
    writer.set("k", "new")
    behind.heal()
    reader = three_copies.client()  # it knows nothing of that
    assert reader.get("k", consistency=level) == "new"
    copies = three_copies.copies("k")
    assert len({copies[node.id] for node in three_copies.owners("k")}) == 1
    assert reader.brain.counters.repaired_copies == 1


@pytest.mark.parametrize("level", ["quorum", "all"])
def test_a_deletion_that_one_owner_missed_stays_a_deletion(three_copies: MemoryNetwork, level: str) -> None:
    writer = three_copies.client()
    writer.set("k", "old")
    behind = three_copies.owners("k")[0]
    behind.cut()
    writer.delete("k")
    behind.heal()
    reader = three_copies.client()
    assert reader.get("k", consistency=level) is None
    assert reader.get("k", balancing="primary") is None  # the owner that was behind has the tombstone now


def test_an_owner_that_still_loads_does_not_count(three_copies: MemoryNetwork) -> None:
    client = three_copies.client(timeout=0.05)
    client.set("k", 1)
    loading = three_copies.owners("k")[1]
    loading.service.begin_loading(range(16384))
    assert client.get("k", consistency="quorum") == 1
    with pytest.raises(TooFewCopies, match="'all' takes 3 owners, 2 answered"):
        client.get("k", consistency="all")


def test_a_level_that_cannot_be_reached_is_a_typed_error_and_one_node_away_leaves_a_quorum(
    three_copies: MemoryNetwork,
) -> None:
    client = three_copies.client()
    client.set("k", 1)
    first, second, _ = three_copies.owners("k")
    first.cut()
    assert client.get("k", consistency="quorum") == 1
    with pytest.raises(TooFewCopies, match="consistency 'all' takes 3 owners, 2 answered"):
        client.get("k", consistency="all")
    second.cut()
    with pytest.raises(TooFewCopies, match="consistency 'quorum' takes 2 owners, 1 answered") as caught:
        client.get("k", consistency="quorum")
    assert isinstance(caught.value, Unavailable)
    assert caught.value.retryable
    assert client.get("k") == 1
    assert isinstance(client.get_many(["k"], consistency="quorum").failed["k"], TooFewCopies)


def test_stand_ins_count_for_a_number_and_not_for_a_level(three_copies: MemoryNetwork) -> None:
    client = three_copies.client()
    client.set("k", 1)
    first, second, _ = three_copies.owners("k")
    first.cut()
    assert client.set("k", 2, acks=3)
    assert client.set("k", 2, acks="quorum")
    with pytest.raises(InDoubt, match="held by 2 of 3"):
        client.set("k", 2, acks="all")
    second.cut()
    with pytest.raises(InDoubt, match="of 2 nodes"):
        client.set("k", 2, acks="quorum")
    assert client.set("k", 2, acks="one")
    assert client.set("k", 3, acks=1)
    assert client.get("k") == 3


@pytest.mark.parametrize("acks", [1, 2, 3, "one", "quorum", "all"])
def test_every_write_takes_an_acknowledgement_level(three_copies: MemoryNetwork, acks: Any) -> None:
    client = three_copies.client()
    assert client.set("k", 1, acks=acks) > 0
    assert client.add("l", 1, acks=acks) is True
    assert client.replace("l", 2, acks=acks) is True
    assert client.touch("l", 60, acks=acks) is True
    assert client.incr("n", acks=acks) == 1
    assert client.decr("n", acks=acks) == 0
    assert set(client.set_many({"x": 1}, acks=acks)) == {"x"}
    assert set(client.delete_many(["x"], acks=acks)) == {"x"}
    assert client.delete("k", acks=acks) is True
    assert three_copies.client(acks=acks).set("k", 1) > 0


@pytest.mark.parametrize("acks", [0, -1, 9, 1.5, True, "most", None.__class__])
def test_acks_that_make_no_sense_are_refused_before_anything_is_sent(network: MemoryNetwork, acks: Any) -> None:
    client = network.client()
    for write in (client.set, client.add, client.replace):
        with pytest.raises(InvalidOption, match="acks="):
            write("k", 1, acks=acks)
    with pytest.raises(InvalidOption, match="acks="):
        client.incr("k", acks=acks)
    with pytest.raises(InvalidOption, match="acks="):
        client.set_many({"k": 1}, acks=acks)
    assert not any(node.asked[Verb.PUT] or node.asked[Verb.INCR] for node in network.nodes.values())


def test_more_acks_than_there_are_copies_are_refused_by_that_number(network: MemoryNetwork) -> None:
    with pytest.raises(InvalidOption, match="acks=3: there are only 2 copies of a key"):
        network.client().set("k", 1, acks=3)


@pytest.mark.parametrize("level", ["two", "", 2, None.__class__])
def test_a_consistency_that_does_not_exist_is_refused(network: MemoryNetwork, level: Any) -> None:
    client = network.client()
    for read in (client.get, client.get_entry):
        with pytest.raises(InvalidOption, match="must be one of one, quorum, all"):
            read("k", consistency=level)
    with pytest.raises(InvalidOption, match="must be one of one, quorum, all"):
        ClientConfig(consistency=level)


def test_options_given_beside_a_config_fill_it_in_and_must_not_contradict_it() -> None:
    config = ClientConfig(timeout=0.5, zone="a")
    assert configured(config, acks=1) == ClientConfig(timeout=0.5, zone="a", acks=1)
    assert configured(config, timeout=0.5) == config
    assert configured(None, "main", timeout=2.0) == ClientConfig(timeout=2.0, cluster="main")
    with pytest.raises(InvalidOption, match=r"timeout=2.0 contradicts config=ClientConfig\(timeout=0.5\)"):
        configured(config, timeout=2.0)
    with pytest.raises(InvalidOption, match=r"cluster='a' contradicts the cluster in the seeds, 'b'"):
        configured(None, "b", cluster="a")
    with pytest.raises(InvalidOption, match=r"cluster='b' contradicts config=ClientConfig\(cluster='a'\)"):
        configured(ClientConfig(cluster="a"), "b")
