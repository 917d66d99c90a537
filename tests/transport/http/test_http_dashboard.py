"""The dashboard's files and its stream of events, as they come over the wire."""

from __future__ import annotations

import asyncio
import json
import re
from html.parser import HTMLParser

import pytest

from kvcache.transport.http.event_stream import EventStreams
from kvcache.transport.http.page import FILES
from kvcache_client.protocol.errors import Overloaded

PATHS = ["/", *(f"/dashboard/{name}" for name in FILES if name != "index.html")]


class Tags(HTMLParser):
    """All tags of a page with their attributes."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


@pytest.mark.parametrize("path", PATHS)
async def test_a_file_is_served_with_a_policy_and_a_tag(world, path):
    answer = await world.ask("GET", path)
    assert answer.status == 200
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert (await world.ask("GET", path, If_None_Match=answer.headers["ETag"])).status == 304
    head = await world.ask("HEAD", path)
    assert (head.status, head.headers["Content-Length"]) == (200, str(len(answer.body)))


async def test_the_first_paint_is_under_100_kilobytes_and_asks_nobody_else(world):
    bodies = [(await world.ask("GET", path)).body for path in PATHS]
    assert sum(map(len, bodies)) < 100_000
    addresses = set(re.findall(rb"https?://[^\s'\"]+", b"".join(bodies)))
    assert addresses == {b"http://www.w3.org/2000/svg"}


async def test_the_page_has_no_script_or_style_inside_and_loads_only_its_own_files(world):
    tags = Tags((await world.ask("GET", "/")).body.decode()).found
    for tag, attributes in tags:
        assert not {name for name in attributes if name.startswith("on") or name == "style"}, tag
        assert tag != "style"
        assert tag != "script" or attributes["src"].startswith("/dashboard/")
        if "href" in attributes and tag == "link":
            assert attributes["href"].startswith(("/dashboard/", "data:image/svg+xml,"))
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    labels = {name for _, at in tags for name in at.get("aria-labelledby", "").split()}
    assert labels <= set(ids)


async def test_the_scripts_make_no_markup_of_text(world):
    for path in PATHS[1:]:
        body = (await world.ask("GET", path)).body
        assert not re.search(rb"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", body), path


@pytest.mark.parametrize("path", ["/dashboard/", "/dashboard/..%2f", "/dashboard/../page.py", "/dashboard/nothing.js"])
async def test_nothing_else_is_served(world, path):
    assert (await world.ask("GET", path)).status == 404


# The stream


async def overviews(wire, count):
    """Return that many overviews of a stream."""
    found = []
    async with asyncio.timeout(10):
        while len(found) < count:
            line = await wire.reader.readline()
            assert line, "the stream has ended"
            if line.startswith(b"data: "):
                found.append(json.loads(line[6:]))
    return found


@pytest.fixture
def quick(world):
    """Streams that tell ten times as fast."""
    world.door._events._every = 0.02
    return world


async def test_a_stream_tells_of_the_cluster_again_and_again(quick):
    wire = await quick.connect()
    wire.ask("GET", "/v1/events")
    head = await wire.reader.readuntil(b"\r\n\r\n")
    assert b"200 OK" in head
    assert b"text/event-stream" in head
    first, second = await overviews(wire, 2)
    assert first["cluster"] == second["cluster"] == "test"
    assert [node["id"] for node in second["nodes"]] == ["n1"]


async def test_however_many_pages_are_open_the_nodes_are_asked_once(quick):
    wires = [await quick.connect() for _ in range(5)]
    for wire in wires:
        wire.ask("GET", "/v1/events")
    await asyncio.gather(*(overviews(wire, 3) for wire in wires))
    asked = quick.node.client.told
    assert asked < 3 * 5


async def test_nobody_is_asked_when_no_page_is_open(quick):
    wire = await quick.connect()
    wire.ask("GET", "/v1/events")
    await overviews(wire, 1)
    await wire.close()
    collecting = quick.door._events._collecting
    await quick.until(collecting.done)
    asked = quick.node.client.told
    again = await quick.connect()
    again.ask("GET", "/v1/events")
    await overviews(again, 1)
    assert quick.node.client.told > asked


async def test_one_page_too_many_is_refused_and_a_place_becomes_free_again(quick):
    quick.door._events._limit = 1
    first = await quick.connect()
    first.ask("GET", "/v1/events")
    await overviews(first, 1)
    refused = await quick.ask("GET", "/v1/events")
    assert (refused.status, json.loads(refused.body)["error"]) == (503, Overloaded.__name__)
    await first.close()
    await quick.until(lambda: not quick.door._events._open)
    second = await quick.connect()
    second.ask("GET", "/v1/events")
    await overviews(second, 1)


async def test_a_node_that_stops_ends_its_streams(quick):
    wire = await quick.connect()
    wire.ask("GET", "/v1/events")
    await overviews(wire, 1)
    await quick.door.stop(grace=5)
    assert (await wire.closed()).endswith(b"0\r\n\r\n")
    assert quick.door.counters.cut_off == 0


async def test_a_failure_is_told_and_the_stream_goes_on(quick):
    quick.node.client.failure = Overloaded("too much")
    wire = await quick.connect()
    wire.ask("GET", "/v1/events")
    async with asyncio.timeout(10):
        while b"event: failure" not in await wire.reader.readline():
            pass
    quick.node.client.failure = None
    async with asyncio.timeout(10):
        while b"event: overview" not in await wire.reader.readline():
            pass


async def test_head_of_the_stream_has_no_body(world):
    wire = await world.connect()
    wire.ask("HEAD", "/v1/events")
    head = await wire.reader.readuntil(b"\r\n\r\n")
    assert b"text/event-stream" in head
    wire.ask("GET", "/healthz")
    assert (await wire.answer()).status == 200


def test_a_repr_says_how_many_are_open(world):
    assert repr(EventStreams(world.node.client, streams=3)) == "<EventStreams open=0 of 3>"
