"""Writes while nodes fail: stand-ins, too few copies, and versions that stand in the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from memory_network import CLEAR, MemoryNetwork, Weather

from kvcache.cluster.changes import purge
from kvcache_client.core.effects import Within
from kvcache_client.core.tallying import Tally
from kvcache_client.core.writing import write, write_carefully
from kvcache_client.protocol.errors import ConnectFailed, InDoubt, NotApplied, Superseded, Unavailable, ValueTooLarge
from kvcache_client.protocol.record import NEVER, PayloadType, make_record, version_of
from kvcache_client.protocol.verbs import Message, Status, Verb
from kvcache_client.protocol.version import version_at


@pytest.mark.parametrize("failure", ["kill", "cut", "pause"])
@pytest.mark.parametrize("which", [0, 1])
def test_an_owner_that_is_away_is_replaced_by_a_stand_in(network: MemoryNetwork, failure: str, which: int) -> None:
    client = network.client()
    client.set("k", "before")
    away = network.owners("k")[which]
    getattr(away, failure)()
    call = client.later.set("k", "after")
    network.run(until=lambda: call.done)
    version = call.result()
    assert call.took < client.brain.config.timeout
    holders = {id for id, copy in network.copies("k").items() if version_of(copy) == version}
    assert holders == {network.owners("k")[1 - which].id, network.stand_ins("k")[0].id}
    assert network.stand_ins("k")[0].service.hints.noted_count == 1
    assert client.brain.counters.stand_in_writes == 1


def test_such_a_write_is_still_readable_when_the_other_owner_dies_as_well(network: MemoryNetwork) -> None:
    client = network.client()
    first, second = network.owners("k")
    first.kill()
    client.set("k", 1)
    second.kill()
    assert client.get("k") == 1
    assert network.client().get("k") == 1


def test_the_next_stand_in_is_taken_when_the_first_is_away_too(network: MemoryNetwork) -> None:
    client = network.client()
    network.owners("k")[0].kill()
    nearest, next_one = network.stand_ins("k")
    nearest.kill()
    client.set("k", 1)
    assert set(network.copies("k")) == {network.owners("k")[1].id, next_one.id}


def test_with_three_copies_two_acknowledge_when_no_stand_in_is_left(
    make_network: Callable[..., MemoryNetwork],
) -> None:
    network = make_network(3, 3)
    client = network.client()
    network.owners("k")[0].kill()
    client.set("k", 1)
    assert len(network.copies("k")) == 2


def test_a_write_that_reached_nobody_is_unavailable_and_not_applied(network: MemoryNetwork) -> None:
    client = network.client()
    for node in network.nodes.values():
        node.cut()
    with pytest.raises(Unavailable) as caught:
        client.set("k", 1)
    assert isinstance(caught.value, NotApplied)
    assert all(node.id in str(caught.value) for node in network.owners("k"))
    assert network.copies("k") == {}


def test_a_write_that_too_few_hold_is_in_doubt(make_network: Callable[..., MemoryNetwork]) -> None:
    network = make_network(2, 2)
    client = network.client()
    network.owners("k")[1].kill()
    with pytest.raises(InDoubt, match="held by 1 of 2 nodes") as caught:
        client.set("k", 1)
    assert network.owners("k")[1].id in str(caught.value)
    assert set(network.copies("k")) == {network.owners("k")[0].id}


def test_a_write_whose_fate_nobody_told_is_in_doubt(make_network: Callable[..., MemoryNetwork]) -> None:
    network = make_network(1, 1)
    client = network.client()
    client.get("k")
    (node,) = network.owners("k")
    node.pause()
    with pytest.raises(InDoubt, match="held by 0 of 1"):
        client.set("k", 1)
    node.resume()
    network.run()
    assert client.get("k") == 1  # it was applied after all


def test_one_copy_is_enough_for_a_client_that_asks_for_one(make_network: Callable[..., MemoryNetwork]) -> None:
    network = make_network(2, 2)
    client = network.client(acks=1)
    network.owners("k")[0].kill()
    client.set("k", 1)
    assert client.get("k") == 1


@pytest.mark.parametrize("fate", [Weather(drop=1.0), Weather(lose=1.0)])
def test_a_write_is_sent_again_when_its_connection_broke(
    make_network: Callable[..., MemoryNetwork], fate: Weather
) -> None:
    """A repeated write is the same write. Without it, an owner that is well would miss what was acknowledged."""
    network = make_network(4, 2)
    client = network.client()
    client.set("k", "before")
    owner = network.owners("k")[0]
    network.local_weather[(client.session.name, owner.id)] = fate
    call = client.later.set("k", "after")
    network.run(until=lambda: client.session.wires.get(owner.id) is None)
    network.local_weather.clear()
    network.run(until=lambda: call.done)
    version = call.result()
    assert {version_of(copy) for copy in network.copies("k").values()} == {version}
    assert set(network.copies("k")) == {node.id for node in network.owners("k")}
    assert network.client().get("k") == "after"


def test_a_connection_that_breaks_every_time_ends_at_a_stand_in(network: MemoryNetwork) -> None:
    client = network.client()
    owner = network.owners("k")[0]
    network.local_weather[(client.session.name, owner.id)] = Weather(lose=1.0)
    client.set("k", 1)
    assert set(network.copies("k")) >= {network.owners("k")[1].id, network.stand_ins("k")[0].id}


def test_a_client_with_a_slow_clock_still_overwrites_what_was_there_before(network: MemoryNetwork) -> None:
    fast, slow = network.client(), network.client()
    slow.get("k")
    slow.session.skew_ms = -400  # after the greeting, which would have healed it
    newer = fast.set("k", "first")
    version = slow.set("k", "second")
    assert version > newer
    assert fast.get("k") == "second"
    assert slow.brain.counters.restamped_writes == 1
    assert slow.delete("k") is True
    assert fast.get("k") is None


def test_a_slow_clock_does_not_bring_a_deleted_value_back_or_lose_a_new_one(network: MemoryNetwork) -> None:
    fast, slow = network.client(), network.client()
    slow.get("k")
    slow.session.skew_ms = -400
    fast.set("k", 1)
    fast.delete("k")
    slow.set("k", 2)
    assert fast.get("k") == 2


def test_two_writes_at_once_leave_the_same_record_on_every_owner(make_network: Callable[..., MemoryNetwork]) -> None:
    for seed in range(30):
        network = make_network(3, 3, seed=seed)
        calls = [network.client().later.set("k", number) for number in range(5)]
        network.run(until=lambda calls=calls: all(call.done for call in calls))
        copies = network.copies("k")
        assert len(copies) == 3, f"seed {seed}"
        assert len(set(copies.values())) == 1, f"seed {seed}"
        assert max(call.result() for call in calls) == version_of(copies["n1"]), f"seed {seed}"


def test_a_refusal_of_the_record_itself_is_raised_as_it_is(network: MemoryNetwork) -> None:
    client = network.client(value_limit=4 << 20)  # more than the nodes take
    with pytest.raises(ValueTooLarge, match="the limit is 1048576"):
        client.set("k", b"x" * ((1 << 20) + 1))
    assert network.copies("k") == {}


def test_a_silent_stand_in_does_not_make_a_write_hang(network: MemoryNetwork) -> None:
    client = network.client()
    client.get_many([f"{number}" for number in range(100)])
    network.owners("k")[0].pause()
    network.stand_ins("k")[0].pause()
    call = client.later.set("k", 1)
    network.run(until=lambda: call.done)
    assert call.took <= client.brain.config.timeout + 0.01
    network.weather = CLEAR
    if call.error is None:
        assert client.get("k") == 1
    else:
        assert isinstance(call.error, InDoubt)


def test_a_hint_names_the_owner_that_it_is_for(network: MemoryNetwork) -> None:
    client = network.client()
    network.owners("k")[0].kill()
    client.set("k", 1)
    stand_in = network.stand_ins("k")[0]
    assert stand_in.asked[Verb.HINT] == 1
    assert stand_in.asked[Verb.PUT] == 0


def test_a_write_that_was_stamped_again_is_never_said_to_be_not_applied(network: MemoryNetwork) -> None:
    """One owner took the first version; that nobody can be reached for the second does not undo that."""
    brain = network.client().brain
    name = b"k"
    plan = write(brain, name, make_record(brain.hlc.stamp(), NEVER, 1, b"v"))
    owners = [node for node, _ in plan.send(None)]  # type: ignore[misc, union-attr]
    asked = plan.send([(1, int(Status.OK)), (1, int(Status.SUPERSEDED), brain.hlc.stamp() + (1 << 30))])
    assert isinstance(asked, Within)
    refused = ConnectFailed("refused")
    for node in owners:
        brain.health.failed(node, refused)
    with pytest.raises(InDoubt):  # the stand-ins are asked too
        hints = plan.send([refused, refused])
        plan.send([refused for _ in hints.round])  # type: ignore[union-attr]


def test_a_write_that_meets_a_newer_one_of_the_same_time_again_is_superseded_and_says_so_if_asked(
    network: MemoryNetwork,
) -> None:
    client = network.client()
    for node in network.owners("k"):
        honest = node.answer

        def newer(message: Message, honest: Any = honest) -> Message:
            if message[1] == Verb.PUT:
                return message[0], int(Status.SUPERSEDED), version_of(message[4]) + 1
            answer: Message = honest(message)
            return answer

        node.answer = newer  # type: ignore[method-assign]
    assert client.set("k", 1) > 0
    with pytest.raises(Superseded, match="'k'") as caught:
        client.set("k", 1, strict=True)
    assert isinstance(caught.value.detail, int)
    assert client.brain.counters.superseded_writes == 2


def test_a_flush_that_only_a_stand_in_has_heard_of_does_not_take_a_write_that_begins_after_it(
    network: MemoryNetwork,
) -> None:
    client = network.client()
    first, second = network.owners("k")
    second.cut()
    flushed_to = version_at(network.wall_ms() + 250)
    others = {node.id for node in network.nodes.values()} - {first.id}
    flushed = purge(network.topology, "", flushed_to, 0)
    network.change(flushed, only=others)
    version = client.set("k", "after the flush")
    assert version > flushed_to
    first.adopt(flushed)
    assert client.get("k") == network.client().get("k") == "after the flush"


def test_without_time_to_get_above_a_newer_version_a_write_is_in_doubt(network: MemoryNetwork) -> None:
    client = network.client()
    brain = client.brain
    record = make_record(brain.hlc.stamp(), NEVER, PayloadType.BYTES, b"value")
    owners = {node.id for node in network.owners("k")}
    overtaken = Tally(acked=set(owners), newer=version_of(record) + 1)
    with pytest.raises(InDoubt, match="no time is left"):
        client.session.run(write_carefully(brain, b"k", record, overtaken, spent=brain.config.timeout))
    overtaken = Tally(acked=set(owners), newer=version_of(record) + 1)
    written = client.session.run(write_carefully(brain, b"k", record, overtaken))
    assert written.version > version_of(record) + 1
