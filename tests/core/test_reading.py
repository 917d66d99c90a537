"""Reads while nodes fail: the next owner, the stand-ins, and what is said when nobody is left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from memory_network import CLEAR, MemoryNetwork, Weather

from kvcache.cluster.changes import purge
from kvcache_client.placement.partitions import PARTITIONS
from kvcache_client.protocol.errors import (
    ClockSkew,
    DeadlineExceeded,
    NotApplied,
    NotReady,
    Unavailable,
    UndecodableValue,
)
from kvcache_client.protocol.record import make_record
from kvcache_client.protocol.verbs import Verb
from kvcache_client.protocol.version import version_at


@pytest.mark.parametrize("failure", ["kill", "cut", "pause"])
def test_a_read_falls_over_to_the_next_owner(network: MemoryNetwork, failure: str) -> None:
    client = network.client(balancing="primary")
    client.set("k", 1)
    getattr(network.owners("k")[0], failure)()
    call = client.later.get("k")
    network.run(until=lambda: call.done)
    assert call.result() == 1
    assert call.took < client.brain.config.timeout
    assert client.brain.counters.failed_over_reads + client.brain.counters.hedges_won >= 1


def test_a_node_that_failed_is_not_asked_again_until_its_wait_is_over(network: MemoryNetwork) -> None:
    client = network.client(balancing="primary")
    client.set("k", 1)
    primary = network.owners("k")[0]
    primary.cut()
    client.get("k")
    asked = primary.asked[Verb.GET]
    primary.heal()
    began = network.now
    assert client.get("k") == 1
    assert primary.asked[Verb.GET] == asked
    assert network.now - began < 0.01
    network.run(seconds=3)
    client.get("k")  # tries the connection again, in passing
    network.run(seconds=1)
    client.get("k")
    assert primary.asked[Verb.GET] == asked + 1
    assert not client.brain.down


def test_a_miss_at_one_owner_is_not_believed_while_the_other_is_away(network: MemoryNetwork) -> None:
    client = network.client()
    primary, second = network.owners("k")
    primary.kill()
    client.set("k", 1)  # held by the second owner and a stand-in
    second.kill()
    second.restart()
    assert client.get("k") == 1
    assert network.stand_ins("k")[0].asked[Verb.PEEK] >= 1


def test_what_a_node_shows_that_has_not_heard_of_a_flush_is_not_believed(network: MemoryNetwork) -> None:
    client = network.client()
    client.set("k", "old")
    second = network.owners("k")[1]
    second.cut()
    client.set("k", "newer")  # which the second owner lacks: this client does not take its word for the key
    flushed = purge(network.topology, "", version_at(network.wall_ms() + 1), 0)
    network.change(flushed, only={node.id for node in network.nodes.values()} - {second.id})
    second.heal()
    network.run(seconds=3)
    client.get("another")  # tries the connection again, in passing
    network.run(seconds=1)
    assert not client.brain.down
    for _ in range(6):
        assert client.get("k") is None
    assert second.asked[Verb.PEEK]


@pytest.mark.parametrize("stood_still", [True, False])
def test_an_owner_that_answers_no_reads_yet_is_not_talked_into_it(network: MemoryNetwork, stood_still: bool) -> None:
    client = network.client(timeout=0.5)
    first, second = network.owners("k")
    client.set("k", "old")
    second.cut()
    client.set("k", "new")  # held by the first owner and a stand-in
    network.stand_ins("k")[0].kill()
    if stood_still:
        second.heal()
    else:
        second.kill()
        second.restart()
    second.service.begin_loading(range(PARTITIONS))
    first.pause()
    for _ in range(3):
        with pytest.raises((Unavailable, DeadlineExceeded, NotReady)):
            client.get("k")
    first.resume()
    network.run(seconds=3)
    assert client.get("k") == "new"


def test_what_one_stand_in_keeps_is_not_the_last_word_while_no_owner_answers(network: MemoryNetwork) -> None:
    client = network.client()
    gone, loading = network.owners("k")
    keeps_older, keeps_newer = network.stand_ins("k")
    gone.kill()
    client.set("k", "older")  # held by the second owner and a stand-in
    keeps_older.cut()
    client.set("k", "newer")  # held by the second owner and another stand-in
    keeps_older.heal()
    loading.service.begin_loading(range(PARTITIONS))
    reader = network.client(timeout=0.5)
    reader.get_many([f"{number}" for number in range(50)])  # connects to all of them
    assert reader.get("k") == "newer"
    keeps_newer.pause()
    with pytest.raises((Unavailable, DeadlineExceeded, NotReady)):
        reader.get("k")
    keeps_newer.kill()
    assert reader.get("k") == "newer"  # as the owner that still loads has it


def test_an_owner_that_turns_out_to_be_behind_is_brought_up_to_date(network: MemoryNetwork) -> None:
    client = network.client()
    primary, second = network.owners("k")
    primary.kill()
    client.set("k", 1, ttl=600)  # held by the second owner and a stand-in
    written = network.copies("k")[second.id]
    second.kill()
    second.restart()
    assert client.get("k") == 1
    assert network.copies("k")[second.id] == written  # version and expiry as they were
    assert client.brain.counters.repaired_copies == 1
    assert client.get("k") == 1
    assert client.brain.counters.repaired_copies == 1


def test_of_several_copies_the_newest_is_returned(network: MemoryNetwork) -> None:
    client = network.client()
    primary, second = network.owners("k")
    client.set("k", "old")
    second.cut()
    client.set("k", "new")
    second.heal()  # it still holds "old", and nobody has told it
    primary.kill()
    other = network.client()
    other.get("another key")
    assert other.get("k", "miss") in ("old", "new")  # a client that has seen no failure yet asks one owner
    network.owners("k")[1].store.drop(other.brain.require_view().partition(b"k"))
    assert other.get("k") == "new"


def test_a_deletion_on_a_stand_in_hides_an_older_value(network: MemoryNetwork) -> None:
    client = network.client()
    client.set("k", 1)
    primary, second = network.owners("k")
    primary.kill()
    assert client.delete("k") is True
    second.kill()
    second.restart()
    assert client.get("k") is None


def test_a_miss_is_a_miss_when_all_owners_are_there(network: MemoryNetwork) -> None:
    client = network.client()
    assert client.get("k") is None
    assert sum(node.asked[Verb.GET] for node in network.nodes.values()) == 1
    assert not any(node.asked[Verb.PEEK] for node in network.nodes.values())


@pytest.mark.parametrize("replication_factor", [1, 2, 3])
def test_a_read_fails_only_when_no_copy_can_be_reached(
    make_network: Callable[..., MemoryNetwork], replication_factor: int
) -> None:
    network = make_network(4, replication_factor)
    client = network.client()
    client.set("k", 1)
    owners = network.owners("k")
    for node in owners[:-1]:
        node.kill()
        assert client.get("k") == 1
    owners[-1].kill()
    with pytest.raises(Unavailable) as caught:
        client.get("k")
    for node in owners:
        assert f"{node.id} (10.0.0.{node.id[1:]}:7700): " in str(caught.value)
    assert "Connection refused" in str(caught.value)
    assert isinstance(caught.value, NotApplied)
    assert caught.value.retryable


def test_a_read_that_nobody_answers_in_time_says_so(network: MemoryNetwork) -> None:
    client = network.client()
    client.set("k", 1)
    client.get_many([f"{number}" for number in range(100)])  # a connection to every node
    for node in network.nodes.values():
        node.pause()
    with pytest.raises(DeadlineExceeded, match=r"no owner answered in 0\.25 s") as caught:
        client.get("k")
    assert isinstance(caught.value, TimeoutError)


def test_an_owner_in_its_back_off_is_the_last_resort(make_network: Callable[..., MemoryNetwork]) -> None:
    network = make_network(1, 1)
    client = network.client()
    client.set("k", 1)
    (node,) = network.owners("k")
    node.cut()
    with pytest.raises(Unavailable):
        client.get("k")
    node.heal()
    assert client.brain.down
    assert client.get("k") == 1


def test_a_connection_that_broke_is_made_anew_and_the_read_asked_again(
    make_network: Callable[..., MemoryNetwork],
) -> None:
    """The node is well: that an old connection to it broke must not fail a read."""
    network = make_network(1, 1)
    client = network.client()
    client.set("k", 1)
    (node,) = network.owners("k")
    for fate in (Weather(drop=1.0), Weather(lose=1.0)):
        network.weather = fate
        call = client.later.get("k")
        network.run(until=lambda node=node: client.session.wires.get(node.id) is None)
        network.weather = CLEAR
        network.run(until=lambda call=call: call.done)
        assert call.result() == 1


def test_a_node_that_refuses_the_key_is_believed(network: MemoryNetwork) -> None:
    """A refusal that no other node would answer differently is raised as it is."""
    client = network.client()
    record = make_record(version_at(network.wall_ms()), (1 << 48) - 1, 9, b"from the future")
    view = client.brain.require_view()
    for node in network.owners("k"):
        node.store.put(view.partition(b"k"), b"k", record)
    with pytest.raises(UndecodableValue) as caught:
        client.get("k")
    assert caught.value.detail == record
    assert client.exists("k") is True


def test_one_client_cut_off_from_one_node_reads_on_and_others_see_nothing(network: MemoryNetwork) -> None:
    near, far = network.client(), network.client()
    near.set("k", 1)
    primary = network.owners("k")[0]
    network.local_weather[(far.session.name, primary.id)] = replace(CLEAR, refuse=1.0)
    assert far.get("k") == 1
    assert set(far.brain.down) == {primary.id}
    assert near.get("k") == 1
    assert not near.brain.down


def test_errors_of_a_read_are_typed_and_never_those_of_a_write(network: MemoryNetwork) -> None:
    assert not issubclass(Unavailable, ClockSkew)
    for node in network.nodes.values():
        node.cut()
    client = network.client()
    for read in (client.get, client.get_entry, client.exists):
        with pytest.raises(Unavailable, match="no copy of partition"):
            read("k")
