"""The life of a node process: start, signals, a port that is taken, and coordination that comes and goes."""

import os
import signal
import threading
import time

import pytest

from kvcache.cluster.embedded import EmbeddedValkey
from kvcache_client import AsyncClient
from kvcache_client.placement.topology import Topology
from kvcache_client.protocol.errors import NotReady
from kvcache_client.protocol.framing import pack_message
from kvcache_client.protocol.record import NEVER, PayloadType, make_record
from kvcache_client.protocol.verbs import Push, Status, Verb
from kvcache_client.protocol.version import version_at

SIGNALS = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)


def put(wire, key, payload):
    record = make_record(version_at(time.time_ns() // 1_000_000), NEVER, PayloadType.BYTES, payload)
    assert wire.ask(int(Verb.PUT), 99, key, record) == (Status.OK,)
    return record


def topology_of(node):
    status, body = node.get("/v1/topology")
    return Topology.from_json(body) if status == 200 else None


# Signals


@SIGNALS
def test_a_signal_stops_an_idle_node_with_code_0(start_process, number):
    node = start_process().serving()
    node.signal(number)
    assert node.ended() == 0
    assert "Traceback" not in node.log


@SIGNALS
def test_every_request_that_was_read_is_answered_before_the_end(start_process, number):
    node = start_process().serving()
    with node.wire().introduce() as wire:
        record = put(wire, b"k", b"x" * 3_000)
        # 35 kB, which the node takes in one read; 15 MB of replies, which it cannot send until we read them.
        wire.send(b"".join(pack_message(number, int(Verb.GET), b"k") for number in range(1, 5001)))
        assert wire.message() == (1, Status.OK, record)
        node.signal(number)
        replies = wire.messages_to_the_end()
    assert [reply[0] for reply in replies] == list(range(2, 5001))
    assert {reply[1:] for reply in replies} == {(Status.OK, record)}
    assert not wire.reset
    assert node.ended() == 0


def test_a_client_that_goes_on_asking_sees_replies_without_a_gap_and_then_the_end(start_process):
    node = start_process().serving()
    with node.wire().introduce() as wire:
        put(wire, b"k", b"x" * 1000)

        def ask_on():
            number = 0
            while not wire.reset:
                burst = range(number + 1, number + 101)
                wire.send(b"".join(pack_message(id, int(Verb.GET), b"k") for id in burst))
                number += 100

        asking = threading.Thread(target=ask_on)
        asking.start()
        try:
            first = [wire.message()[0] for _ in range(1000)]
            node.signal(signal.SIGTERM)
            replies = first + [reply[0] for reply in wire.messages_to_the_end()]
        finally:
            wire.socket.close()
            asking.join()
    assert replies == list(range(1, len(replies) + 1))
    assert node.ended() == 0
    assert "Traceback" not in node.log


def test_an_http_request_under_way_is_answered_before_the_end(start_process, eventually):
    node = start_process().serving()
    assert node.get("/v1/kv/k")[0] == 404  # the node's own client has found the node by now
    with node.wire() as wire:
        wire.send(b"PUT /v1/kv/k HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345")
        eventually(lambda: node.statistics()["http"]["in_flight"] == 2, "the node reads the body")
        node.signal(signal.SIGTERM)
        eventually(lambda: not connects(node), "the node accepts no more")
        wire.send(b"67890")
        answer = wire.rest()
    assert answer.split(b" ", 2)[1] in (b"200", b"201", b"204")
    assert b"connection: close" in answer.lower()
    assert node.ended() == 0


def connects(node):
    try:
        with node.wire():
            return True
    except ConnectionRefusedError:
        return False


def test_a_client_that_never_reads_does_not_keep_a_node_alive(start_process):
    node = start_process().serving()
    with node.wire().introduce() as wire:
        put(wire, b"k", b"x" * 1_000_000)
        wire.send(pack_message(7, int(Verb.GET), b"k") * 100)
        assert node.statistics()["node"]["ready"]
        node.signal(signal.SIGTERM)
        assert node.ended() == 0


def test_a_second_signal_changes_nothing(start_process):
    node = start_process().serving()
    with node.wire().introduce():
        node.signal(signal.SIGTERM)
        node.signal(signal.SIGINT)
        assert node.ended() == 0


# The start


def test_a_port_that_is_taken_is_told_in_one_line_with_code_2(start_process):
    first = start_process().serving()
    second = start_process(port=first.port)
    assert second.ended() == 2
    (line,) = second.log.strip().splitlines()
    assert f"cannot listen on {first.address}" in line
    assert "in use" in line
    assert first.statistics()["node"]["ready"]


def test_a_node_without_a_coordinator_is_a_cluster_of_its_own(start_process):
    node = start_process("--id", "solo", "--cluster", "island").serving()
    topology = topology_of(node)
    assert [member.id for member in topology.members] == ["solo"]
    assert topology.cluster == "island"
    assert node.get("/readyz")[0] == 200


def test_a_node_answers_the_same_under_python_o(start_process):
    plain, optimised = start_process("--id", "n").serving(), start_process("--id", "n", python=("-O",)).serving()
    now = version_at(time.time_ns() // 1_000_000)
    record = make_record(now, NEVER, PayloadType.BYTES, b"value")
    requests = [
        (int(Verb.PUT), 99, b"k", record),
        (int(Verb.GET), b"k"),
        (int(Verb.GET), b""),
        (int(Verb.HEAD), b"k"),
        (int(Verb.GET_MANY), b"k", b"", b"missing"),
        (int(Verb.PUT_MANY), 99, b"a", record, b"b", b"short"),
        (int(Verb.PUT), 99, b"k", make_record(now - 1, NEVER, PayloadType.BYTES, b"older")),
        (int(Verb.SWAP), 99, b"k", 12345, record, 0),
        (int(Verb.INCR), 99, b"k", 1, 0, NEVER, 0),
        (int(Verb.TOUCH), 99, b"missing", NEVER, 0),
        (99,),
        (int(Verb.GET),),
    ]
    answers = []
    for node in (plain, optimised):
        with node.wire().introduce() as wire:
            answers.append([wire.ask(*request) for request in requests])
    assert answers[0] == answers[1]


# Coordination


async def test_a_node_joins_when_coordination_comes_up_later(start_process, free, eventually):
    port = free()
    node = start_process("--coordinator", f"redis://127.0.0.1:{port}", port=free())
    eventually(lambda: connects(node), "the node listens")
    eventually(lambda: "cannot register" in node.log, "the node says what it waits for")
    with node.wire().introduce() as wire:
        assert wire.ask(int(Verb.TOPOLOGY))[0] == NotReady.code
        assert wire.ask(int(Verb.GET), b"k")[0] == NotReady.code
        assert (node.get("/healthz")[0], node.get("/readyz")[0]) == (200, 503)
        async with EmbeddedValkey(port):
            node.serving()
            assert wire.message()[:2] == (0, Push.EPOCH)
            assert wire.ask(int(Verb.GET), b"k") == (Status.MISS,)
            assert node.get("/readyz")[0] == 200
    assert node.log.count("cannot register") == 1


@SIGNALS
def test_a_signal_ends_a_node_that_still_waits_for_coordination(start_process, free, eventually, number):
    node = start_process("--coordinator", f"redis://127.0.0.1:{free()}", port=free())
    eventually(lambda: "cannot register" in node.log, "the node says what it waits for")
    with node.wire().introduce():
        node.signal(number)
        assert node.ended() == 0
    assert "Traceback" not in node.log


async def test_a_damaged_document_is_told_and_left_as_it_is(start_process):
    import redis.asyncio as redis

    async with EmbeddedValkey() as valkey, redis.Redis.from_url(valkey.url) as client:
        await client.set("kvcache:default:topology", b"not json")
        node = start_process("--coordinator", valkey.url)
        assert node.ended() not in (0, 1)
        assert "TopologyError" in node.log
        assert "Traceback" not in node.log
        assert await client.get("kvcache:default:topology") == b"not json"


async def test_two_nodes_with_one_coordinator_share_one_topology(start_process, eventually):
    async with EmbeddedValkey() as valkey:
        options = ("--coordinator", valkey.url, "--cluster", "pair", "--replication-factor", "2")
        first = start_process("--id", "one", *options).serving()
        with first.wire().introduce() as wire:
            second = start_process("--id", "two", *options).serving()
            eventually(lambda: len(topology_of(first).layout.nodes) == 2, "the second has joined")
            eventually(lambda: topology_of(first) == topology_of(second), "both have the same document")
            pushed = wire.message()
        topology = topology_of(first)
        assert [member.id for member in topology.members] == ["one", "two"]
        assert [member.address for member in topology.members] == [first.address, second.address]
        assert pushed[:2] == (0, Push.EPOCH)
        assert pushed[2] <= topology.epoch
        async with AsyncClient([first.address], timeout=5) as cache:
            for number in range(50):
                await cache.set(f"key-{number}", number)
        for node in (first, second):
            assert node.statistics()["store"]["records"] == 50


async def test_data_is_served_when_coordination_is_killed(start_process, eventually):
    async with EmbeddedValkey() as valkey:
        node = start_process("--coordinator", valkey.url).serving()
        async with AsyncClient([node.address], timeout=5) as cache:
            await cache.set("before", 1)
            os.kill(valkey.pid, signal.SIGKILL)
            await valkey.wait()
            eventually(lambda: "does not hear of changes" in node.log, "the node notices")
            assert await cache.get("before") == 1
            await cache.set("after", 2)
            assert await cache.incr("count") == 1
        async with AsyncClient([node.address], timeout=5) as newcomer:
            assert await newcomer.get("after") == 2
        assert node.get("/v1/kv/after") == (200, b"2")
        assert node.get("/readyz")[0] == 200
    node.signal(signal.SIGTERM)
    assert node.ended() == 0
    assert "Traceback" not in node.log


async def test_a_node_that_restarts_takes_its_place_again(start_process):
    async with EmbeddedValkey() as valkey:
        options = ("--coordinator", valkey.url, "--id", "phoenix")
        first = start_process(*options).serving()
        before = topology_of(first)
        first.signal(signal.SIGTERM)
        assert first.ended() == 0
        second = start_process(*options, port=first.port).serving()
        after = topology_of(second)
    assert [member.id for member in after.members] == ["phoenix"]
    assert after.cluster_id == before.cluster_id
    assert after.epoch > before.epoch
    assert after.members[0].incarnation != before.members[0].incarnation
