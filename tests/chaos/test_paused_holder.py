"""A lock holder that is stopped beyond its lease wakes up and goes on as if nothing had happened: it has no effect."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from chaos.cluster import ChaosCluster, ClusterShape, eventually
from kvcache.cluster.admin import Admin
from kvcache_client import AsyncClient, ClientConfig
from kvcache_client.protocol.verbs import Role

_HOLDER = """
import asyncio, json, sys
from kvcache.cluster.admin import Admin
from kvcache_client import AsyncClient, ClientConfig, KvCacheError
from kvcache_client.core.locking import acquire, ask_any
from kvcache_client.protocol.verbs import Role, Verb

async def main():
    config = ClientConfig(role=Role.ADMIN, timeout=5.0)
    async with AsyncClient(sys.argv[1].split(","), config=config) as client:
        await client.topology()
        fences = {}
        for resource in ("user:nightly", "topology", "job"):
            fences[resource] = await client.run(acquire(client.brain, resource, "first", 1000, "first: holder"))
        print("held", flush=True)
        await asyncio.to_thread(sys.stdin.readline)  # stopped here, far beyond the lease
        client_calls = {
            "set": client.set("report", "first", fence=fences["user:nightly"]),
            "purge": client.run(ask_any(client.brain, [0, Verb.CHANGE, fences["topology"], json.dumps(
                {"change": "purge", "prefix": ""}).encode()])),
            "repair": client.run(ask_any(client.brain, [0, Verb.REPAIR, fences["job"], 1, 2, 3])),
        }
        for name, call in client_calls.items():
            try:
                await call
                print(name, "took effect", flush=True)
            except KvCacheError as error:
                print(name, type(error).__name__, flush=True)

asyncio.run(main())
"""


async def test_the_first_holder_has_no_effect_once_a_second_one_has_worked() -> None:
    async with ChaosCluster(ClusterShape()) as cluster:
        holder = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _HOLDER, ",".join(cluster.seeds)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            await _play(cluster, holder)
        finally:
            if holder.returncode is None:
                holder.kill()
            await holder.wait()


async def _play(cluster: ChaosCluster, holder: asyncio.subprocess.Process) -> None:
    if holder.stdin is None or holder.stdout is None:
        raise RuntimeError("the holder has no streams")
    assert await holder.stdout.readline() == b"held\n"
    os.kill(holder.pid, signal.SIGSTOP)
    config = ClientConfig(role=Role.ADMIN, timeout=5.0)
    async with AsyncClient(cluster.seeds, config=config) as client:
        admin = Admin(client, patience=10.0)
        async with client.lock("nightly", timeout=10.0) as second:  # free when the lease of the first is over
            await client.set("report", "second", fence=second.fence)
        await admin.purge("nothing:")
        await admin.repair(list(range(0, 16384, 128)))
        epoch = (await admin.topology()).epoch
        os.kill(holder.pid, signal.SIGCONT)
        holder.stdin.write(b"\n")
        told = [(await holder.stdout.readline()).decode().split() for _ in range(3)]
        print(f"SIGSTOP of a lock holder: {told}")
        assert [words[0] for words in told] == ["set", "purge", "repair"]
        assert {words[1] for words in told} == {"StaleFence"}
        assert await client.get("report") == "second"
        assert (await admin.topology()).epoch == epoch


async def test_a_coordinator_that_comes_back_empty_is_given_the_document_and_its_fences() -> None:
    async with ChaosCluster(ClusterShape()) as cluster:
        config = ClientConfig(role=Role.ADMIN, timeout=5.0)
        async with AsyncClient(cluster.seeds, config=config) as client:
            admin = Admin(client, patience=10.0)
            async with client.lock("before") as lock:
                before = lock.fence
            await admin.purge("some:")
            topology = await admin.topology()
            await cluster.coordinator.restart_empty()

            async def restored() -> bool:
                now = await cluster.topology()
                return now.epoch > topology.epoch and now.cluster_id == topology.cluster_id

            await eventually(restored, "the document is back, with a higher epoch")
            await admin.wait_healthy(30.0)
            now = await admin.topology()
            assert now.members == topology.members
            assert now.generations == topology.generations
            async with client.lock("after") as lock:
                assert lock.fence > before
            outcome = await admin.purge("other:")
            assert outcome["unconfirmed"] == []
