"""Documents, health, start and stop."""

import asyncio
import json

import pytest

from kvcache.transport.http import HttpFrontDoor, HttpLimits
from kvcache_client.placement.topology import Topology
from kvcache_client.protocol.errors import InvalidOption, NotReady

KEY = "/v1/kv/user:1"


async def test_the_topology_is_served_as_clients_read_it(world):
    answer = await world.ask("GET", "/v1/topology")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    assert Topology.from_json(answer.body) == world.node.document


async def test_statistics_are_the_node_s_with_a_section_of_http(world):
    world.node.counters = {"node": {"id": "n1"}, "store": {"records": 3}}
    document = json.loads((await world.ask("GET", "/v1/stats")).body)
    assert document["store"] == {"records": 3}
    assert document["http"]["requests"] == document["http"]["in_flight"] == 1


async def test_readiness_follows_the_node_and_health_does_not(world):
    assert (await world.ask("GET", "/readyz")).status == 200
    world.node.is_ready = False
    answer = await world.ask("GET", "/readyz")
    assert (answer.status, json.loads(answer.body)["error"]) == (503, "NotReady")
    assert answer.headers["Retry-After"] == "1"
    assert (await world.ask("HEAD", "/readyz")).status == 503
    assert (await world.ask("GET", "/healthz")).status == 200


async def test_metrics_show_what_was_just_served(world):
    await world.ask("GET", KEY)
    answer = await world.ask("GET", "/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    assert 'kvcache_http_responses_total{status="4xx"} 1.0' in answer.body.decode()


async def test_the_counters_add_up(world):
    await world.ask("PUT", KEY, b"x")
    await world.ask("GET", KEY)
    await world.ask("GET", "/nowhere")
    assert world.door.statistics()["http"]["responses"] == {"2xx": 2, "3xx": 0, "4xx": 1, "5xx": 0}
    assert "in_flight=0" in repr(world.door)


async def test_how_long_requests_take_is_counted_by_what_they_ask_for(world):
    await world.ask("PUT", KEY, b"x")
    await world.ask("GET", KEY)
    await world.ask("HEAD", KEY)
    for path in ("/nowhere", "/v1/kv", "/elsewhere/1", "/elsewhere/2"):
        await world.ask("GET", path)
    await world.ask("PATCH", KEY)
    times = world.door.statistics()["http"]["serving_seconds"]
    assert {name: it["count"] for name, it in times.items()} == {"kv.put": 1, "kv.get": 2, "nothing": 5}
    scraped = (await world.ask("GET", "/metrics")).body.decode()
    assert 'kvcache_http_serving_seconds_bucket{le="+Inf",operation="kv.get"} 2.0' in scraped
    assert "counted=9" in repr(world.door._times)


async def test_stopping_lets_a_request_finish_and_closes_idle_connections(world):
    world.node.client.gate.clear()
    idle, busy = await world.connect(), await world.connect()
    idle.ask("GET", "/healthz")
    assert (await idle.answer()).status == 200
    busy.ask("PUT", KEY, b"Ada")
    await world.until(lambda: world.node.client.waiting == 1)
    stopping = asyncio.create_task(world.door.stop(grace=10))
    assert await idle.closed() == b""
    assert not stopping.done()
    world.node.client.gate.set()
    answer = await busy.answer()
    assert (answer.status, answer.headers["Connection"]) == (204, "close")
    assert await busy.closed() == b""
    await stopping
    assert b"user:1" in world.node.client.records


async def test_stopping_waits_for_a_body_that_is_on_its_way(world):
    wire = await world.connect()
    wire.ask("PUT", KEY, Content_Length="3")
    wire.send(b"Ad")
    await world.until(lambda: world.door.counters.buffered_bytes == 2)
    stopping = asyncio.create_task(world.door.stop(grace=10))
    await asyncio.sleep(0)
    wire.send(b"a")
    assert (await wire.answer()).status == 204
    await stopping
    assert b"user:1" in world.node.client.records


async def test_stopping_says_that_it_is_not_ready_any_more(world):
    world.node.client.gate.clear()
    busy, probe = await world.connect(), await world.connect()
    busy.ask("GET", KEY)
    await world.until(lambda: world.node.client.waiting == 1)
    probe.send(b"GET /readyz HTTP/1.1\r\n")
    await world.until(lambda: world.door.counters.connections == 2)
    stopping = asyncio.create_task(world.door.stop(grace=10))
    await asyncio.sleep(0)
    probe.send(b"Host: x\r\n\r\n")
    answer = await probe.answer()
    assert (answer.status, json.loads(answer.body)["message"]) == (503, "the node is stopping")
    world.node.client.gate.set()
    await stopping


async def test_stopping_ends_what_outlives_its_grace(world):
    world.node.client.gate.clear()
    stuck, half = await world.connect(), await world.connect()
    stuck.ask("PUT", KEY, b"x")
    half.send(b"GET / HT")
    await world.until(lambda: world.node.client.waiting == 1 and world.door.counters.connections == 2)
    await world.door.stop(grace=0.01)
    assert await stuck.closed() == b""
    assert await half.closed() == b""
    await world.until(lambda: world.door.counters.connections == 0)
    assert world.door.counters.cut_off == 1
    assert world.node.client.records == {}


async def test_a_door_that_was_not_opened_takes_no_connections(world):
    door = HttpFrontDoor(world.node)
    with pytest.raises(NotReady):
        door.connection()
    await door.stop(grace=1)


@pytest.mark.parametrize(
    "limits", [{"head_seconds": 0}, {"body_seconds": float("nan")}, {"batch_keys": -1}, {"value_limit": (16 << 20) + 1}]
)
def test_limits_that_make_no_sense_are_refused_by_name(limits):
    with pytest.raises(InvalidOption, match=next(iter(limits))):
        HttpLimits(**limits)
