"""Redis is stopped (SIGSTOP): whoever needs it is told so by its name, whichever way he asks."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from chaos.cluster import ChaosCluster, ClusterShape
from kvcache.cluster.admin import Admin
from kvcache_client import AsyncClient, Client, ClientConfig, ControlPlaneUnavailable
from kvcache_client.protocol.verbs import Role


@pytest.fixture
async def stopped() -> AsyncIterator[ChaosCluster]:
    async with ChaosCluster(ClusterShape(nodes=2)) as cluster:
        cluster.coordinator.pause()
        yield cluster


async def told(what: str, ask: Callable[[], Awaitable[Any]]) -> None:
    """Ask, and expect to be told; prints how long that took."""
    began = time.monotonic()
    with pytest.raises(ControlPlaneUnavailable, match="does not answer"):
        await ask()
    print(f"{what}: told after {time.monotonic() - began:.2f} s")


async def test_every_face_says_that_coordination_does_not_answer(stopped: ChaosCluster) -> None:
    config = ClientConfig(role=Role.ADMIN, timeout=2.0)
    async with AsyncClient(stopped.seeds, config=config) as operating, AsyncClient(stopped.seeds) as cache:
        admin = Admin(operating)
        for operation in (admin.flush, admin.locks, lambda: admin.drain("n1"), admin.repair):
            await told("the library", operation)
        await told("cache.lock", cache.lock("nightly").acquire)
        await cache.set("k", 1)
        assert not cache.brain.down, "a node that waits for Redis is no node to avoid"
    with Client(stopped.seeds) as blocking:
        await told("the blocking cache.lock", lambda: asyncio.to_thread(blocking.lock("nightly").acquire))
    await _by_http(stopped)
    await _by_command(stopped)


async def _by_http(cluster: ChaosCluster) -> None:
    url = f"http://{cluster.seeds[0]}/v1/admin/purge"
    async with aiohttp.ClientSession() as session, session.post(url, json={"prefix": "x"}) as reply:
        assert reply.status == 503
        assert (await reply.json())["error"] == "ControlPlaneUnavailable"


async def _by_command(cluster: ChaosCluster) -> None:
    command = [sys.executable, "-m", "kvcache", "admin", "locks", "--json", "--seeds", ",".join(cluster.seeds)]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await process.communicate()
    assert process.returncode == 3, (output, errors)
    assert errors.decode().startswith("ControlPlaneUnavailable: ")
    assert not output or json.loads(output)
