"""Heartbeats: who speaks is found, who falls silent is not, and nonsense harms nobody."""

from __future__ import annotations

import asyncio
import re
import time
from datetime import datetime

import pytest

from kvcache.cluster.heartbeat import BODY_BYTES, Heartbeats
from kvcache_client.protocol.errors import InvalidOption


@pytest.fixture
def heartbeats(coordinator):
    return Heartbeats(coordinator, "test")


async def test_nobody_lives_on_an_empty_server(heartbeats):
    assert await heartbeats.alive() == {}


async def test_each_member_is_found_with_what_it_said_last(heartbeats):
    await heartbeats.beat("node-1", {"epoch": 1}, 60_000)
    await heartbeats.beat("node-2", {"epoch": 2}, 60_000)
    await heartbeats.beat("node-1", {"epoch": 3, "name": "Zoë"}, 60_000)
    assert await heartbeats.alive() == {"node-1": {"epoch": 3, "name": "Zoë"}, "node-2": {"epoch": 2}}


async def test_a_member_that_falls_silent_is_gone_and_leaves_nothing_behind(heartbeats, server):
    await heartbeats.beat("node-1", {}, 20)
    async with asyncio.timeout(10):
        while await heartbeats.alive():
            await asyncio.sleep(0.005)
    await heartbeats.beat("node-2", {}, 60_000)
    assert await server("ZRANGE", "kvcache:test:nodes", 0, -1) == [b"node-2"]


async def test_a_member_that_says_goodbye_is_gone_at_once(heartbeats):
    await heartbeats.beat("node-1", {}, 60_000)
    assert await heartbeats.forget("node-1")
    assert not await heartbeats.forget("node-1")
    assert await heartbeats.alive() == {}


async def test_after_an_emptied_server_the_next_beat_is_seen_again(heartbeats, server):
    await heartbeats.beat("node-1", {}, 60_000)
    await server("FLUSHALL")
    assert await heartbeats.alive() == {}
    await heartbeats.beat("node-1", {}, 60_000)
    assert await heartbeats.alive() == {"node-1": {}}


async def test_members_of_other_clusters_are_not_ours(heartbeats, coordinator):
    await Heartbeats(coordinator, "other").beat("node-1", {}, 60_000)
    assert await heartbeats.alive() == {}


DAMAGED = [b"no json", b"[]", b'{"a": NaN}', b"\xff", b"[" * 10_000, b'{"a": "' + b"x" * BODY_BYTES + b'"}']


@pytest.mark.parametrize("damaged", DAMAGED, ids=[repr(each[:12]) for each in DAMAGED])
async def test_a_damaged_heartbeat_is_left_out_and_logged_once(heartbeats, server, caplog, damaged):
    await heartbeats.beat("node-1", {}, 60_000)
    await heartbeats.beat("node-2", {}, 60_000)
    await server("SET", "kvcache:test:node:node-1", damaged)
    for _ in range(2):
        assert await heartbeats.alive() == {"node-2": {}}
    assert caplog.text.count("damaged heartbeat of node-1") == 1
    await heartbeats.beat("node-1", {}, 60_000)
    assert set(await heartbeats.alive()) == {"node-1", "node-2"}


async def test_a_key_of_another_type_and_a_bad_id_cost_the_others_nothing(heartbeats, server, caplog):
    await heartbeats.beat("node-1", {}, 60_000)
    await heartbeats.beat("node-2", {}, 60_000)
    await server("DEL", "kvcache:test:node:node-1")
    await server("RPUSH", "kvcache:test:node:node-1", "entry")
    await server("ZADD", "kvcache:test:nodes", 9e15, b"bad\nid\xff")
    await server("SET", b"kvcache:test:node:bad\nid\xff", "{}")
    assert await heartbeats.alive() == {"node-2": {}}


@pytest.fixture
def unconnected(coordinators):
    return Heartbeats(coordinators("redis://127.0.0.1:1"), "test")


@pytest.mark.parametrize("bad", ["", "a b", "a:b", "x" * 65, None, b"bytes"])
async def test_a_bad_member_id_is_refused(unconnected, bad):
    with pytest.raises(InvalidOption, match="member id"):
        await unconnected.beat(bad, {}, 1000)
    with pytest.raises(InvalidOption, match="member id"):
        await unconnected.forget(bad)


@pytest.mark.parametrize("body", [{"a": object()}, {"a": float("nan")}, {"a": "x" * BODY_BYTES}, 5])
async def test_a_body_that_is_no_small_json_object_is_refused(unconnected, body):
    with pytest.raises(InvalidOption, match="heartbeat"):
        await unconnected.beat("node-1", body, 1000)


@pytest.mark.parametrize("ttl_ms", [0, -1, 1.5, True, 10**9])
async def test_a_bad_time_to_live_is_refused(unconnected, ttl_ms):
    with pytest.raises(InvalidOption, match="ttl_ms"):
        await unconnected.beat("node-1", {}, ttl_ms)


# Clocks


@pytest.mark.parametrize("behind_ms", [-3_600_000, -400, 400, 3_600_000])
async def test_a_clock_that_is_apart_is_told_with_both_times(coordinator, caplog, behind_ms):
    heartbeats = Heartbeats(coordinator, "clocks", lambda: time.time_ns() // 1_000_000 - behind_ms)
    await heartbeats.beat("node-1", {}, 1000)
    (line,) = caplog.messages
    mine, theirs = re.findall(r"\d{4}-\d\d-\d\dT[\d:.]+\+00:00", line)
    apart = datetime.fromisoformat(theirs) - datetime.fromisoformat(mine)
    assert abs(apart.total_seconds() * 1000 - behind_ms) < 100
    assert "the clock of node-1 says" in line


async def test_a_clock_that_is_right_is_not_told_of(coordinator, caplog):
    await Heartbeats(coordinator, "clocks").beat("node-1", {}, 1000)
    assert caplog.messages == []
