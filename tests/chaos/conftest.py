"""The operator of the runs: the admin library, as a program uses it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from chaos.cluster import ChaosCluster
from kvcache.cluster.admin import Admin
from kvcache_client import AsyncClient, ClientConfig
from kvcache_client.protocol.verbs import Role

_PATIENCE = 60.0


class Operator:
    def __init__(self, cluster: ChaosCluster) -> None:
        self._cluster = cluster

    @asynccontextmanager
    async def _admin(self) -> AsyncIterator[Admin]:
        config = ClientConfig(role=Role.ADMIN, timeout=2.0)
        async with AsyncClient(self._cluster.seeds, config=config) as client:
            yield Admin(client, patience=10.0)

    async def drain(self, node: str) -> None:
        async with self._admin() as admin:
            await admin.drain(node, wait=_PATIENCE)

    async def remove(self, node: str) -> None:
        async with self._admin() as admin:
            topology = await admin.topology()
            assert topology.member(node) is None, "who has been drained is gone by itself"

    async def flush(self) -> None:
        async with self._admin() as admin:
            await admin.flush()

    async def purge(self, prefix: str) -> None:
        async with self._admin() as admin:
            await admin.purge(prefix)

    async def wait_healthy(self) -> None:
        async with self._admin() as admin:
            await admin.wait_healthy(_PATIENCE)


@pytest.fixture
def operate() -> Callable[[ChaosCluster], Operator]:
    return Operator
