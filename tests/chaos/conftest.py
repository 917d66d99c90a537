"""The operator of the runs: the admin library, as a program uses it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from chaos.cluster import ChaosCluster
from kvcache.cluster.admin import Admin
from kvcache.cluster.snapshotting import take_snapshot
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
            if (await admin.topology()).member(node) is not None:  # who has been drained is gone by itself
                await admin.remove(node, wait=_PATIENCE)

    async def flush(self) -> None:
        async with self._admin() as admin:
            await admin.flush()

    async def purge(self, prefix: str) -> None:
        async with self._admin() as admin:
            await admin.purge(prefix)

    async def throttle(self, rate: int) -> None:
        async with self._admin() as admin:
            await admin.throttle(rate)

    async def progress(self) -> dict[str, Any] | None:
        async with self._admin() as admin:
            move: dict[str, Any] | None = (await admin.status())["move"]
            return move

    async def snapshot(self, directory: Path) -> int:
        async with self._admin() as admin:
            return int((await take_snapshot(admin, directory))["records"])

    async def wait_healthy(self) -> None:
        async with self._admin() as admin:
            await admin.wait_healthy(_PATIENCE)


@pytest.fixture
def operate() -> Callable[[ChaosCluster], Operator]:
    return Operator
