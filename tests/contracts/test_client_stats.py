"""What both clients say of themselves: hits and misses per namespace, reasons, and each node as they see it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from kvcache_client import ClientStats


async def test_hits_and_misses_are_counted_per_namespace_and_reason(cache: Any, request: pytest.FixtureRequest) -> None:
    shop = cache.namespace("shop:")
    await shop.set("a", 1)
    await shop.set("b", 2)
    assert await shop.get("a") == 1
    assert (await shop.get_entry("a")).value == 1
    assert len(await shop.get_many(["a", "b", "never"])) == 2
    await shop.delete("b")
    assert await shop.get("b") is None
    assert await shop.exists("b") is False
    assert await shop.get("never", default=5) == 5
    assert dict(await shop.get_many(["b"])) == {}
    stats = cache.client.stats()
    assert isinstance(stats, ClientStats)
    prefix = f"{request.node.name}:shop:"
    found = stats.namespaces[prefix]
    assert (found.prefix, found.hits) == (prefix, 4)
    assert dict(found.misses) == {
        "absent": 2,
        "deleted": 3,
        "expired": 0,
        "evicted": 0,
        "node_down": 0,
        "timeout": 0,
    }
    assert found.hit_ratio == pytest.approx(4 / 9)
    assert shop.client.stats().namespaces[prefix] == found
    assert stats.hits >= 4
    assert stats.misses["deleted"] >= 3


async def test_an_expired_value_is_a_miss_of_its_own_kind(cache: Any, request: pytest.FixtureRequest) -> None:
    await cache.set("k", 1, ttl=0.6)  # longer than clocks may differ
    async with asyncio.timeout(20):
        while await cache.get("k") is not None:
            await asyncio.sleep(0.005)
    assert cache.client.stats().namespaces[f"{request.node.name}:"].misses["expired"] == 1


async def test_every_node_is_shown_with_what_was_measured_of_it(cache: Any, cluster: Any) -> None:
    for number in range(60):
        await cache.set(f"k{number}", number)
        await cache.get(f"k{number}")
    stats = cache.client.stats()
    assert stats.cluster == cluster.name
    assert stats.epoch == cluster.nodes[0].epoch
    assert {node.address for node in stats.nodes.values()} == set(cluster.addresses)
    for name, node in stats.nodes.items():
        assert (node.node, node.state, node.reason, node.retry_in) == (name, "up", "", None)
        assert 0 < node.ewma < 60
        assert (0 < node.p50 < 60) is (node.replies > 0)
        assert node.hedge_after > 0
        assert node.in_flight >= 0
    assert sum(node.replies for node in stats.nodes.values()) >= 60  # some may be left alone: others were faster
    assert (stats.retries, stats.hedges) == (stats.counters["retries"], stats.counters["hedged_reads"])
    assert stats.counters["late_replies"] == 0
    assert json.loads(json.dumps(stats.as_dict()))["nodes"]


def test_a_client_that_was_not_used_yet_has_nothing_to_tell(open_client: Any) -> None:
    stats = open_client("127.0.0.1:1").client.stats()
    assert (stats.cluster, stats.epoch, dict(stats.nodes), stats.hits) == ("", 0, {}, 0)
    assert stats.namespaces[""].hit_ratio == 0.0


async def test_explain_says_where_a_key_lives_and_why(cache: Any, cluster: Any) -> None:
    await cache.set("k", (1, 2), ttl=60)
    told = await cache.explain("k")
    assert (told.cluster, told.move, told.balancing) == (cluster.name, None, "least_response_time")
    owners = [copy for copy in told.copies if copy.role in ("primary", "owner")]
    assert told.read_from in {copy.node for copy in owners}
    assert len({(copy.version, copy.expiry_ms) for copy in owners}) == 1
    assert all(copy.why.startswith("number ") and copy.member == "up" and copy.error is None for copy in told.copies)
    assert all((copy.version is None) is (copy.role == "stand-in") for copy in told.copies)
    assert {copy.kept_for for copy in told.copies} == {()}
