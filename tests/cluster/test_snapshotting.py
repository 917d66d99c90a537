"""What a snapshot reads when its sources fail, and that the disk holds nobody up."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from peer_world import PeerWorld, value

from kvcache.cluster.snapshotting import _in_thread, _read_partition
from kvcache_client.core.pulling import Row
from kvcache_client.protocol.errors import ConnectFailed
from kvcache_client.protocol.verbs import Verb

LARGE = bytes(40 * 1024)


@pytest.fixture
def world() -> PeerWorld:
    return PeerWorld()


def operator(world: PeerWorld) -> Any:
    async def topology() -> Any:
        return world.topology

    brain = SimpleNamespace(require_view=lambda: world.view)
    return SimpleNamespace(client=SimpleNamespace(brain=brain, run=world.run), topology=topology)


def fill(world: PeerWorld) -> tuple[int, list[Row]]:
    """Put more than one piece into a partition of n1 and n2; returns it and its rows."""
    partition = world.view.partition(world.key("n1", "n2"))
    names = (b"fill-%d" % number for number in range(2_000_000))
    keys = [next(name for name in names if world.view.partition(name) == partition) for _ in range(4)]
    rows = [(key, value(number, LARGE)) for number, key in enumerate(keys)]
    for node in ("n1", "n2"):
        for key, record in rows:
            world.services[node].take(key, record)
    return partition, sorted(rows)


async def test_no_record_is_held_twice_when_a_source_fails_in_the_middle(world: PeerWorld) -> None:
    partition, rows = fill(world)
    scans = 0

    def fail_in_the_middle(node: str, verb: Verb) -> None:
        nonlocal scans
        scans += verb == Verb.SCAN
        if node == "n1" and scans == 2:
            raise ConnectFailed("n1 is gone", node="n1")

    world.before_answer = fail_in_the_middle
    assert await _read_partition(operator(world), partition) == rows
    assert scans > 3, "n1 told a part, and n2 all of it"


async def test_a_partition_that_nobody_can_tell_ends_the_snapshot(world: PeerWorld) -> None:
    world.away |= {"n1", "n2", "n3"}
    with pytest.raises(ConnectFailed):
        await _read_partition(operator(world), 5)


async def test_whoever_is_cancelled_leaves_only_when_the_disk_is_done_and_the_loop_goes_on_meanwhile() -> None:
    began, may_end, ended = threading.Event(), threading.Event(), threading.Event()

    def slow() -> None:
        began.set()
        may_end.wait(10)
        ended.set()

    task = asyncio.create_task(_in_thread(slow))
    while not began.is_set():
        await asyncio.sleep(0.001)
    for _ in range(2):
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()
