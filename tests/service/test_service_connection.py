"""HELLO, PING, TOPOLOGY, STATS, and taking a new topology."""

import json

import pytest

from kvcache_client.placement.topology import Topology
from kvcache_client.protocol.errors import MalformedFrame, NotReady, VersionMismatch, WrongCluster
from kvcache_client.protocol.verbs import PROTOCOL_VERSION, Reason, Role, Status, Verb

HELLO = (PROTOCOL_VERSION, "test", int(Role.CLIENT), b"", "a test")


def test_hello_tells_who_the_node_is_and_what_it_takes(core):
    reply = core.ask(Verb.HELLO, *HELLO)
    assert reply == (Status.OK, PROTOCOL_VERSION, "test", "n1", core.epoch, core.now_ms, 1000)


def test_hello_without_a_cluster_name_matches_any(core):
    assert core.ask(Verb.HELLO, 1, "", 0, b"", "")[0] == Status.OK


def test_hello_for_another_cluster_is_refused_with_both_names(core):
    with pytest.raises(WrongCluster, match=r"'test'.*'tset'"):
        core.ask(Verb.HELLO, 1, "tset", 0, b"", "")


def test_hello_of_a_later_protocol_is_answered_with_ours(core):
    assert core.ask(Verb.HELLO, 99, "test", 0, b"", "")[1] == PROTOCOL_VERSION


@pytest.mark.parametrize("protocol", [0, -1])
def test_hello_of_no_known_protocol_is_refused(core, protocol):
    with pytest.raises(VersionMismatch, match=str(protocol)):
        core.ask(Verb.HELLO, protocol, "test", 0, b"", "")


@pytest.mark.parametrize("place", range(len(HELLO)))
@pytest.mark.parametrize("wrong", [None, 1.5, (), [1]])
def test_hello_with_a_field_of_another_type_is_malformed(core, place, wrong):
    with pytest.raises(MalformedFrame, match="HELLO carries"):
        core.ask(Verb.HELLO, *HELLO[:place], wrong, *HELLO[place + 1 :])


def test_before_it_has_joined_a_node_says_hello_with_epoch_0(stranger):
    assert stranger.ask(Verb.HELLO, *HELLO)[4] == 0
    assert stranger.ask(Verb.PING) == (Status.OK, 0, stranger.now_ms)


def test_ping_tells_the_epoch_and_the_time_of_the_last_tick(core):
    core.at(1234)
    core.now_ms += 1
    assert core.ask(Verb.PING) == (Status.OK, core.epoch, core.now_ms - 1)


def test_topology_is_handed_out_as_a_document_that_reads_back(core, views):
    status, epoch, document = core.ask(Verb.TOPOLOGY)
    assert (status, epoch) == (Status.OK, views[0].epoch)
    assert Topology.from_json(document) == views[0].topology


def test_topology_is_not_ready_before_there_is_one(stranger):
    with pytest.raises(NotReady):
        stranger.ask(Verb.TOPOLOGY)


def test_stats_are_what_the_node_says_at_that_moment(core):
    core.statistics = {"store": {"records": 3}}
    status, document = core.ask(Verb.STATS)
    assert (status, json.loads(document)) == (Status.OK, {"store": {"records": 3}})


def test_an_older_or_equal_topology_is_not_adopted(half, views):
    assert not half.adopt(views[0])
    assert not half.adopt(views[1])
    assert half.epoch == views[1].epoch
    assert half.adopt(views[2])


def test_the_same_millisecond_is_not_worked_on_twice(core, record):
    for number in range(3000):
        core.put(b"%d" % number, record(0, expiry_ms=core.now_ms + 10))
    core.now_ms += 5000
    assert core.service.tick()
    left = len(core.store)
    assert not core.service.tick()
    assert len(core.store) == left > 0


def test_ticks_reclaim_what_is_due_bit_by_bit_and_say_when_they_are_done(core, record):
    for number in range(3000):
        core.put(b"%d" % number, record(0, expiry_ms=core.now_ms + 10))
    ticks = 0
    core.now_ms += 5000
    while core.service.tick():
        core.now_ms += 1
        ticks += 1
    assert len(core.store) == 0
    assert 2 <= ticks <= 10


def test_a_clock_that_steps_back_brings_nothing_back(core, record):
    core.put(b"k", record(0, expiry_ms=core.now_ms + 1000))
    core.at(1000)
    core.at(0)
    assert core.ask(Verb.GET, b"k") == (Status.MISS, Reason.EXPIRED)


def test_its_repr_tells_node_epoch_and_store(core, stranger):
    assert "n1" in repr(core.service)
    assert "epoch=2" in repr(core.service)
    assert "records=0" in repr(stranger.service)
