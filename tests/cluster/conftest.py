"""What the tests of the control plane share: a server of their own, registries that are closed again, documents."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from kvcache.cluster.coordinator import Coordinator
from kvcache.cluster.embedded import EmbeddedValkey
from kvcache.cluster.lock_store import LockStore
from kvcache.cluster.registry import Registry
from kvcache_client.placement.topology import Member, Topology

CLUSTER = "test"


@pytest.fixture
def founding() -> Callable[..., Topology]:
    """Make a first document without members; its id is drawn anew each time, as nodes do."""

    def found(cluster: str = CLUSTER) -> Topology:
        return Topology.found(cluster, cluster_id=f"{random.getrandbits(64):016x}", seed=4711, replication_factor=2)

    return found


@pytest.fixture
def member() -> Callable[..., Member]:
    def make(number: int, incarnation: str = "first") -> Member:
        return Member(id=f"node-{number}", address=f"127.0.0.1:{7700 + number}", incarnation=incarnation)

    return make


@pytest.fixture
def is_alive() -> Callable[[int], bool]:
    """Say whether a process runs; one that ended but was not waited for yet does not."""

    def look(pid: int) -> bool:
        try:
            stat = Path(f"/proc/{pid}/stat").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            return False
        return stat.rpartition(b")")[2].split()[0] not in (b"Z", b"X")

    return look


@pytest.fixture
def until() -> Callable[..., Awaitable[None]]:
    """Wait for a condition; fail when it does not hold for too long."""

    async def wait(condition: Callable[[], object], seconds: float = 15.0) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.01)

    return wait


@pytest.fixture
async def valkey() -> AsyncIterator[EmbeddedValkey]:
    async with EmbeddedValkey() as server:
        yield server


@pytest.fixture
async def registries() -> AsyncIterator[Callable[..., Registry]]:
    """Make registries; all are closed at the end."""
    made: list[Registry] = []

    def make(url: str, cluster: str = CLUSTER, timeout: float = 1.0) -> Registry:
        made.append(Registry(url, cluster, timeout=timeout))
        return made[-1]

    yield make
    for registry in made:
        await registry.close()


@pytest.fixture
async def registry(valkey: EmbeddedValkey, registries: Callable[..., Registry]) -> Registry:
    return registries(valkey.url)


@pytest.fixture
async def server(valkey: EmbeddedValkey) -> AsyncIterator[Callable[..., Awaitable[object]]]:
    """Send a command to the server past the registry."""
    import redis.asyncio as redis

    client = redis.Redis.from_url(valkey.url)
    yield client.execute_command
    await client.aclose()


@pytest.fixture
async def coordinators() -> AsyncIterator[Callable[..., Coordinator]]:
    """Make coordinators; all are closed at the end."""
    made: list[Coordinator] = []

    def make(url: str, timeout: float = 1.0) -> Coordinator:
        made.append(Coordinator(url, timeout=timeout))
        return made[-1]

    yield make
    for coordinator in made:
        await coordinator.close()


@pytest.fixture
async def coordinator(valkey: EmbeddedValkey, coordinators: Callable[..., Coordinator]) -> Coordinator:
    return coordinators(valkey.url)


@pytest.fixture
async def store(coordinator: Coordinator) -> LockStore:
    return LockStore(coordinator, CLUSTER)
