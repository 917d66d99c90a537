"""What comes over a socket: good, bad, slow, too much, and cut off."""

import asyncio
import contextlib
import json
import logging

import aiohttp
import pytest

from kvcache_client.protocol.record import NEVER, PayloadType, make_record

KEY = "/v1/kv/user:1"
HALF = b"GET /healthz HTTP/1.1\r\nHo"


async def refused(world, data, status):
    """Send ``data``; it must be answered with ``status`` in our form, and the connection closed."""
    wire = await world.connect()
    wire.send(data)
    answer = await wire.answer()
    assert answer.status == status
    assert answer.headers["Server"] == "kvcache"
    assert set(json.loads(answer.body)) == {"error", "message", "retryable", "detail"}
    assert await wire.closed() == b""
    return json.loads(answer.body)


@pytest.mark.parametrize(
    "data",
    [
        b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\nHost: x\n\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nNo colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: \x00\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET * HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"HELO example.org\r\n",
        b"GET " + b"A" * 100_000,
    ],
    ids=lambda data: repr(data[:60]),
)
async def test_what_is_not_http_is_a_400_and_closes(world, data, caplog):
    status = 431 if len(data) > 8190 else 400
    document = await refused(world, data, status)
    assert document["error"] in ("BadRequest", "RequestHeaderFieldsTooLarge")
    assert world.door.counters.malformed == 1
    assert world.node.client.records == {}
    assert caplog.records == []  # anybody can send garbage as fast as they like; it must not fill a log


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 9000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"x" * 9000 + b": 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 100 + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 1_000_000,
    ],
    ids=["line", "value", "name", "count", "endless"],
)
async def test_a_huge_header_is_a_431_and_closes(world, head):
    assert (await refused(world, head, 431))["error"] == "RequestHeaderFieldsTooLarge"


@pytest.mark.parametrize("head", [b"GET /healthz HTTP/2.0\r\nHost: x\r\n\r\n", b"GET /healthz\r\n\r\n"])
async def test_other_versions_of_http_are_not_spoken(world, head):
    wire = await world.connect()
    wire.send(head)
    assert (await wire.answer()).status == 505
    assert await wire.closed() == b""


async def test_an_unknown_path_is_a_404_in_our_form(world):
    for path in ("/dashboard", "/v1/kv", "/v1", "//v1/kv/a", "/healthz/", "/v1/admin/flush"):
        answer = await world.ask("GET", path)
        assert (answer.status, json.loads(answer.body)["error"]) == (404, "NotFound")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", KEY, "GET, HEAD, PUT, DELETE"),
        ("PATCH", KEY, "GET, HEAD, PUT, DELETE"),
        ("OPTIONS", KEY, "GET, HEAD, PUT, DELETE"),
        ("GET", "/v1/batch", "POST"),
        ("DELETE", "/v1/topology", "GET, HEAD"),
        ("POST", "/metrics", "GET, HEAD"),
    ],
)
async def test_a_wrong_method_is_told_which_are_right(world, method, path, allowed):
    answer = await world.ask(method, path)
    assert (answer.status, answer.headers["Allow"]) == (405, allowed)
    assert json.loads(answer.body)["error"] == "MethodNotAllowed"
    assert not any(name.startswith("Access-Control") for name in answer.headers)


async def test_requests_sent_at_once_are_answered_in_order(world):
    wire = await world.connect()
    for number in range(100):
        wire.ask("PUT", f"/v1/kv/k{number}", b"%d" % number)
    for number in range(100):
        wire.ask("GET", f"/v1/kv/k{number}")
    assert [(await wire.answer()).status for _ in range(100)] == [204] * 100
    assert [(await wire.answer()).body for _ in range(100)] == [b"%d" % number for number in range(100)]


async def test_a_request_may_come_byte_by_byte(world):
    wire = await world.connect()
    await world.ask("PUT", KEY, b"Ada")
    for byte in f"GET {KEY} HTTP/1.1\r\nHost: x\r\n\r\n".encode():
        wire.send(bytes([byte]))
        await asyncio.sleep(0)
    assert (await wire.answer()).body == b"Ada"


async def test_a_large_value_makes_the_round_trip(world):
    value = bytes(range(256)) * 800
    assert (await world.ask("PUT", KEY, value)).status == 204
    assert (await world.ask("GET", KEY)).body == value


async def test_a_chunked_body_is_put_together(world):
    wire = await world.connect()
    wire.ask("PUT", KEY, b"3\r\nabc\r\n5\r\ndefgh\r\n0\r\n\r\n", Transfer_Encoding="chunked")
    assert (await wire.answer()).status == 204
    assert (await world.ask("GET", KEY)).body == b"abcdefgh"


async def test_a_chunked_body_without_end_stops_at_the_limit(make_world):
    world = await make_world(value_limit=10_000)
    wire = await world.connect()
    wire.ask("PUT", KEY, b"400\r\n" + b"x" * 1024 + b"\r\n", Transfer_Encoding="chunked")
    for _ in range(20):
        wire.send(b"400\r\n" + b"x" * 1024 + b"\r\n")
    answer = await wire.answer()
    assert (answer.status, json.loads(answer.body)["error"]) == (413, "ValueTooLarge")
    assert world.node.client.records == {}


async def test_a_client_that_asks_first_is_told_to_go_on(world):
    wire = await world.connect()
    wire.ask("PUT", KEY, Content_Length="3", Expect="100-continue")
    assert (await wire.answer()).status == 100
    wire.send(b"Ada")
    assert (await wire.answer()).status == 204
    assert (await world.ask("GET", KEY)).body == b"Ada"


async def test_an_unknown_expectation_is_a_417(world):
    assert (await world.ask("PUT", KEY, b"x", Expect="a miracle")).status == 417


async def test_an_upgrade_is_not_taken_up(world):
    answer = await world.ask("GET", "/healthz", Upgrade="websocket", Connection="Upgrade")
    assert answer.status == 200


async def test_an_http_1_0_client_is_answered_and_closed(world):
    wire = await world.connect()
    wire.send(b"GET /healthz HTTP/1.0\r\n\r\n")
    assert (await wire.answer()).status == 200
    assert await wire.closed() == b""


async def test_a_common_http_client_works_on_one_connection(world):
    base = f"http://127.0.0.1:{world.port}"
    async with aiohttp.ClientSession() as session:
        for number in range(5):
            async with session.put(f"{base}/v1/kv/k{number}", json={"n": number}) as put:
                assert put.status == 204
            async with session.get(f"{base}/v1/kv/k{number}") as got:
                assert await got.json() == {"n": number}
    assert world.door.counters.accepted == 1
    await world.until(lambda: world.door.counters.connections == 0)


@pytest.mark.parametrize("data", [b"G", HALF, b"GET /healthz HTTP/1.1\r\nHost: x\r\n"])
async def test_half_a_header_is_given_up_and_counted(make_world, data):
    world = await make_world(head_seconds=0.05)
    await refused(world, data, 408)
    assert world.door.counters.late_heads == 1


async def test_a_header_that_drips_is_given_up_while_it_drips(make_world):
    world = await make_world(head_seconds=0.1)
    wire = await world.connect()
    wire.send(b"GET /healthz HTTP/1.1\r\n")
    while not wire.reader.at_eof() and world.door.counters.late_heads == 0:
        wire.send(b"a")
        await asyncio.sleep(0.002)
    with contextlib.suppress(
        ConnectionResetError
    ):  # a byte on its way to a closed socket: the reader then gives no answer
        assert (await wire.answer()).status == 408
    assert world.door.counters.late_heads == 1


@pytest.mark.parametrize("together", [True, False], ids=["in one segment", "later"])
async def test_half_a_header_after_a_request_is_given_up_too(make_world, together):
    world = await make_world(head_seconds=0.3)
    wire = await world.connect()
    first = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    wire.send(first + HALF if together else first)
    assert (await wire.answer()).status == 200
    if not together:
        wire.send(HALF)
    assert (await wire.answer()).status == 408
    assert await wire.closed() == b""


async def test_half_a_header_sent_while_a_request_is_served_is_given_up_after_it(make_world):
    world = await make_world(head_seconds=0.3)
    world.node.client.gate.clear()
    wire = await world.connect()
    wire.ask("PUT", KEY, b"x")
    await world.until(lambda: world.node.client.waiting == 1)
    wire.send(HALF)
    served = world.door.counters.in_flight
    world.node.client.gate.set()
    assert (await wire.answer()).status == 204
    assert (await wire.answer()).status == 408
    assert (served, await wire.closed()) == (1, b"")


async def test_a_quiet_connection_outlives_the_deadline_of_a_header(make_world):
    world = await make_world(head_seconds=0.3)
    wire = await world.connect()
    for body in (b"x", b"y" * 100_000):
        wire.ask("PUT", KEY, body)
        assert (await wire.answer()).status == 204
    other = await world.connect()
    other.send(HALF)
    assert (await other.answer()).status == 408  # by now the quiet one has been quiet for longer
    wire.ask("GET", KEY)
    assert (await wire.answer()).status == 200


async def test_an_idle_connection_is_closed_in_the_end(make_world):
    world = await make_world(keepalive_seconds=0.3)
    wire = await world.connect()
    wire.ask("GET", "/healthz")
    assert (await wire.answer()).status == 200
    assert await wire.closed() == b""
    assert world.door.counters.late_heads == 0


async def test_a_body_that_does_not_come_is_a_408_and_counted(make_world):
    world = await make_world(body_seconds=0.05)
    wire = await world.connect()
    wire.ask("PUT", KEY, Content_Length="100")
    wire.send(b"half")
    answer = await wire.answer()
    assert (answer.status, json.loads(answer.body)["error"]) == (408, "RequestTimeout")
    assert await wire.closed() == b""
    assert (world.door.counters.late_bodies, world.door.counters.late_heads) == (1, 0)
    assert world.node.client.records == {}


@pytest.mark.parametrize("damage", [b"zz\r\n", b"3\r\nabcdef\r\n", b"-1\r\n", b"\r\n\r\n"])
async def test_a_chunk_that_is_damaged_later_on_is_told_at_once_and_writes_nothing(world, caplog, damage):
    wire = await world.connect()
    wire.ask("PUT", KEY, b"3\r\nabc\r\n", Transfer_Encoding="chunked")
    await world.until(lambda: world.door.counters.buffered_bytes == 3)
    wire.send(damage)
    answer = await wire.answer()
    assert (answer.status, json.loads(answer.body)["message"][:19]) == (400, "the body is damaged")
    assert await wire.closed() == b""
    assert world.node.client.records == {}
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_body_that_breaks_while_its_request_still_waits_for_its_turn_is_damaged(world):
    world.node.client.gate.clear()
    wire = await world.connect()
    wire.ask("PUT", KEY, b"Ada")
    await world.until(lambda: world.node.client.waiting == 1)
    wire.ask("PUT", "/v1/kv/other", b"3\r\nabc\r\n", Transfer_Encoding="chunked")
    await world.until(lambda: len(next(iter(world.door._connections))._messages) == 1)
    wire.send(b"zz\r\n")
    await world.until(lambda: len(next(iter(world.door._connections))._messages) == 2)
    world.node.client.gate.set()
    assert [(await wire.answer()).status for _ in range(2)] == [204, 400]
    assert await wire.closed() == b""
    assert set(world.node.client.records) == {b"user:1"}


async def test_what_comes_of_a_refused_body_is_no_trouble_even_if_damaged(world, caplog):
    wire = await world.connect()
    wire.ask("PUT", "/v1/kv/%", b"3\r\nabc\r\n", Transfer_Encoding="chunked")
    assert (await wire.answer()).status == 400
    wire.send(b"zz\r\n")
    assert await wire.closed() == b""
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_client_that_hangs_up_in_its_body_writes_nothing(world, caplog):
    wire = await world.connect()
    wire.ask("PUT", KEY, Content_Length="100")
    wire.send(b"half")
    await world.until(lambda: world.door.counters.buffered_bytes == 4)
    await wire.close()
    await world.until(lambda: world.door.counters.in_flight == 0)
    assert world.node.client.records == {}
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_write_goes_on_when_its_client_hangs_up(world):
    world.node.client.gate.clear()
    wire = await world.connect()
    wire.ask("PUT", KEY, b"Ada")
    await world.until(lambda: world.node.client.waiting == 1)
    await wire.close()
    await world.until(lambda: world.door.counters.connections == 0)
    world.node.client.gate.set()
    await world.until(lambda: b"user:1" in world.node.client.records)
    await world.until(lambda: world.door.counters.in_flight == 0)


async def test_a_client_that_does_not_read_is_dropped(make_world):
    world = await make_world(reply_seconds=0.05)
    record = make_record(9 << 21, NEVER, PayloadType.BYTES, b"x" * (16 << 20))
    world.node.client.records[b"user:1"] = record
    wire = await world.connect()
    wire.writer.transport.pause_reading()
    wire.ask("GET", KEY)
    await world.until(lambda: world.door.counters.late_readers == 1)
    await world.until(lambda: world.door.counters.connections == 0)


async def test_bodies_over_the_shared_budget_are_shed(make_world):
    world = await make_world(buffered_bytes=10_000)
    holder = await world.connect()
    holder.ask("PUT", KEY, Content_Length="9001")
    holder.send(b"x" * 9000)
    await world.until(lambda: world.door.counters.buffered_bytes == 9000)
    answer = await world.ask("PUT", KEY, b"y" * 2000)
    assert (answer.status, json.loads(answer.body)["error"]) == (503, "Overloaded")
    assert answer.headers["Retry-After"] == "1"
    holder.send(b"x")
    assert (await holder.answer()).status == 204
    assert world.door.counters.shed == 1


async def test_too_many_requests_are_shed_but_health_is_still_told(make_world):
    world = await make_world(requests_in_flight=2)
    world.node.client.gate.clear()
    for wire in (await world.connect(), await world.connect()):
        wire.ask("GET", KEY)
    await world.until(lambda: world.node.client.waiting == 2)
    shed = await world.ask("GET", KEY)
    assert (shed.status, json.loads(shed.body)["retryable"]) == (503, True)
    assert (await world.ask("GET", "/healthz")).status == 200
    assert (await world.ask("GET", "/metrics")).status == 200


async def test_a_bug_costs_one_answer_and_leaves_a_traceback(world, caplog):
    world.node.client.failure = ZeroDivisionError("a bug")
    wire = await world.connect()
    wire.ask("GET", KEY)
    answer = await wire.answer()
    assert (answer.status, json.loads(answer.body)["error"]) == (500, "NodeFault")
    assert "a bug" not in answer.body.decode()
    assert "ZeroDivisionError: a bug" in caplog.text
    world.node.client.failure = None
    wire.ask("PUT", KEY, b"x")
    assert (await wire.answer()).status == 204
    assert world.door.counters.faults == 1
