"""The systems that are compared, each started on this machine.

Here lives that table. Never here: clients (``loadtests.adapters``) or load.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from loadtests.local_cluster import ClusterOptions, LocalCluster
from loadtests.peer_clusters import memcached_servers, redis_cluster

__all__ = ["OURS", "SYSTEMS", "System"]

OURS: Final = "kvcache"
_NODES: Final = 3
_MEMORY_MIB: Final = 256


@dataclass(frozen=True, slots=True)
class System:
    """One cache: its adapter is called ``name``; ``start`` yields its address. Raises ``CannotRun`` where it is missing."""

    name: str
    title: str
    start: Callable[[], contextlib.AbstractContextManager[str]]


@contextlib.contextmanager
def _kvcache() -> Iterator[str]:
    cluster = LocalCluster(ClusterOptions(nodes=_NODES, replicas=2, memory=f"{_MEMORY_MIB}MiB"))
    with asyncio.Runner() as runner:
        runner.run(cluster.__aenter__())
        try:
            yield cluster.seeds
        finally:
            runner.run(cluster.__aexit__(None, None, None))


SYSTEMS: Final[Mapping[str, System]] = {
    it.name: it
    for it in (
        System(OURS, "kvcache, 3 nodes, 2 copies", _kvcache),
        System("redis", "Redis Cluster, 3 nodes, redis-py", lambda: redis_cluster(_NODES, _MEMORY_MIB)),
        System("memcached", "memcached, 3 servers, HashClient", lambda: memcached_servers(_NODES, _MEMORY_MIB)),
    )
}
"""Name -> system."""
