"""What a real node does when it finds that it stood still."""

from __future__ import annotations

from polling import wait_until

from kvcache_client import Client
from kvcache_client.protocol.record import TOMBSTONE_MS


def test_one_that_was_away_for_longer_than_deletes_are_remembered_starts_empty(start_node, loop_thread):
    serving = start_node(cluster="sleeper")
    with Client(serving.address, timeout=5.0) as cache:
        cache.set("k", 1)
        loop_thread.call(lambda: serving.node._paused(TOMBSTONE_MS // 2))
        assert cache.get("k") == 1
        loop_thread.call(lambda: serving.node._paused(TOMBSTONE_MS // 2 + 1))
        wait_until(lambda: len(serving.node.service.store) == 0)
        wait_until(serving.node.ready)
        assert cache.get("k") is None
        cache.set("k", 2)
        assert cache.get("k") == 2


def test_one_that_stood_still_for_a_moment_keeps_what_it_has(start_node, loop_thread):
    serving = start_node(cluster="stumbler")
    with Client(serving.address, timeout=5.0) as cache:
        assert cache.incr("k") == 1
        loop_thread.call(lambda: serving.node._paused(200))
        assert cache.incr("k") == 2
