"""The operator of the runs: the admin verbs, asked of the cluster as a program would."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable
from typing import Any

import pytest

from chaos.cluster import ChaosCluster
from kvcache.cluster.controller import reports_of
from kvcache_client import AsyncClient, ClientConfig
from kvcache_client.core.pulling import ask
from kvcache_client.protocol.errors import AdminBusy, KvCacheError
from kvcache_client.protocol.verbs import Role, Verb

_PATIENCE = 60.0


class Operator:
    def __init__(self, cluster: ChaosCluster) -> None:
        self._cluster = cluster

    async def _change(self, **change: Any) -> int:
        config = ClientConfig(role=Role.ADMIN, timeout=2.0)
        async with AsyncClient([node.direct for node in self._cluster.nodes.values()], config=config) as client:
            await client.topology()
            if change["change"] == "purge":
                change |= {"version": client.brain.hlc.stamp(), "keep_after": 0}
            node = next(id for id in client.brain.require_view().addresses if id not in client.brain.down)
            token = secrets.token_hex(8)
            while True:
                try:
                    reply = await client.run(ask(node, [0, Verb.LOCK, "topology", token, 5000, "test: change"]))
                    break
                except AdminBusy:
                    await asyncio.sleep(0.02)
            try:
                reply = await client.run(ask(node, [0, Verb.CHANGE, reply[2], json.dumps(change).encode()]))
            finally:
                await client.run(ask(node, [0, Verb.UNLOCK, "topology", token]))
            epoch: int = reply[2]
            deadline = asyncio.get_running_loop().time() + 10
            while asyncio.get_running_loop().time() < deadline:
                await client.topology()
                reports = await client.run(reports_of(client.brain.require_view().topology))
                if reports and all(report.epoch >= epoch for report in reports.values()):
                    break
                await asyncio.sleep(0.02)
            return epoch

    async def drain(self, node: str) -> None:
        await self._change(change="drain", id=node)
        await self.wait_healthy(without=node)

    async def remove(self, node: str) -> None:
        return

    async def flush(self) -> None:
        await self._change(change="purge", prefix="")

    async def purge(self, prefix: str) -> None:
        await self._change(change="purge", prefix=prefix)

    async def wait_healthy(self, without: str = "") -> None:
        deadline = asyncio.get_running_loop().time() + _PATIENCE
        config = ClientConfig(role=Role.ADMIN, timeout=2.0)
        async with AsyncClient([node.direct for node in self._cluster.nodes.values()], config=config) as client:
            while True:
                problem = "nobody answers"
                try:
                    topology = await client.topology()
                    reports = await client.run(reports_of(topology))
                    problem = f"{topology!r} {reports}"
                    calm = topology.move is None and topology.wanted() == topology.layout
                    up = all(m.state == "up" and m.id in reports for m in topology.members if m.id != without)
                    incarnations = all(
                        reports[m.id].incarnation == m.incarnation for m in topology.members if m.id in reports
                    )
                    loaded = not any(report.left for report in reports.values())
                    if (
                        calm
                        and up
                        and loaded
                        and incarnations
                        and not topology.member(without)
                        and len(topology.layout.nodes) >= len(self._cluster.nodes) - bool(without)
                    ):
                        return
                except KvCacheError as error:
                    problem = str(error)
                if asyncio.get_running_loop().time() > deadline:
                    pytest.fail(f"not healthy within {_PATIENCE} s: {problem}")
                await asyncio.sleep(0.05)


@pytest.fixture
def operate() -> Callable[[ChaosCluster], Operator]:
    return Operator
