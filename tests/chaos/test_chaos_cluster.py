"""The cluster that can be broken: what it does is done, and nothing of it stays."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
import redis.asyncio as redis

from chaos.cluster import ChaosCluster, ClusterShape, eventually
from chaos.load import Load, LoadProcess
from kvcache_client import AsyncClient
from kvcache_client.placement.topology import Member, Move, Topology
from loadtests.wire import peek, topology_of


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_node_is_killed_comes_back_and_every_replica_tells_what_it_holds() -> None:
    async with ChaosCluster(ClusterShape(proxied=True)) as cluster:
        async with AsyncClient(cluster.seeds, timeout=2.0) as cache:
            version = await cache.set("k", "v")
            before = await cluster.final_state(["k", "absent"])
            owners = before.owners["k"]
            assert len(owners) == 2
            assert {node for node, held in before.held.items() if held["k"] is not None} == set(owners)
            assert int.from_bytes(before.copies("k")[owners[0]][:8]) == version
            assert before.copies("absent") == {}
            await cluster.kill(owners[0])
            assert await topology_of(cluster.nodes[owners[0]].direct) is None
            assert set((await cluster.final_state(["k"])).held) == set(cluster.nodes) - {owners[0]}
            assert await cache.get("k") == "v"
        await cluster.restart(owners[0])
        assert (await cluster.topology()).member(owners[0]) is not None
        assert cluster.seeds == tuple(proxy.address for proxy in cluster.proxies.values())
        assert (await peek(cluster.nodes[owners[1]].direct, ["k"]))["k"] is not None


async def test_a_cluster_is_not_healthy_while_old_owners_are_still_written_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """That its nodes are up says less: they are from the switch of the move that brings them in."""
    members = tuple(Member(id, f"{id}:1", state="up") for id in ("n1", "n2"))
    founded = Topology.found("c", cluster_id="00c0ffee", seed=1, replication_factor=2)
    alone = founded.with_member(members[0]).settled()
    wishing = alone.with_member(members[1])
    switched = replace(wishing, move=Move("0badcafe", "switch", wishing.wanted(), "join", 0))
    told = [wishing, switched, switched, switched.settled()]
    cluster = ChaosCluster(ClusterShape(nodes=2))
    monkeypatch.setattr(cluster, "running", list)

    async def documents() -> dict[str, Topology | None]:
        return dict.fromkeys(("n1", "n2"), told.pop(0))

    monkeypatch.setattr(cluster, "_documents", documents)
    await cluster.wait_for_members([])
    assert len(told) == 3
    await cluster.wait_healthy()
    assert told == []


async def fail_amid_everything(pids: list[int]) -> None:
    async with ChaosCluster(ClusterShape(nodes=2)) as cluster:
        pids += [node.pid for node in cluster.nodes.values()]
        async with LoadProcess(Load(seeds=cluster.seeds, keys=10)) as load:
            pids.append(load.pid)
            cluster.nodes["n1"].pause()
            cluster.coordinator.pause()
            raise ArithmeticError


async def test_nothing_stays_behind_when_a_test_fails() -> None:
    pids: list[int] = []
    with pytest.raises(ArithmeticError):
        await fail_amid_everything(pids)
    assert len(pids) == 3
    assert not [pid for pid in pids if alive(pid)]


async def test_the_coordinator_forgets_and_falls_back_on_the_same_port() -> None:
    cluster = ChaosCluster(ClusterShape(nodes=1))
    coordinator = cluster.coordinator
    await coordinator.start()
    try:
        url = coordinator.url
        async with redis.Redis.from_url(url) as server:
            await server.set("lasting", "old")
            await server.set("passing", "old", px=60_000)
            saved = await coordinator.save()
            await server.set("lasting", "new")
            await server.set("later", "new")
            await coordinator.roll_back(saved)
            assert await server.get("lasting") == b"old"
            assert await server.get("later") is None
            assert 0 < await server.pttl("passing") <= 60_000
        await coordinator.kill()
        await coordinator.restart_empty()
        assert coordinator.url == url
        async with redis.Redis.from_url(url) as server:
            assert await server.dbsize() == 0
    finally:
        await coordinator.stop()


async def test_waiting_in_vain_says_what_for() -> None:
    async def never() -> bool:
        return False

    with pytest.raises(TimeoutError, match=r"within 0\.01 s: the sun rises"):
        await eventually(never, "the sun rises", seconds=0.01)
