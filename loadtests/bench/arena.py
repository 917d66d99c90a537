"""The arena: servers that are started when a work first needs them, one event loop, and the cores they run
on.

Here lives what is alive during a run and how it ends. Never here: what is measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, Final, Self, TypeVar

from loadtests import CannotRun
from loadtests.local_cluster import ClusterOptions, LocalCluster
from loadtests.peers import BLOCKING_CLIENTS, start_peer
from loadtests.server_process import ServerProcess

__all__ = ["CLUSTER", "KEYS", "VALUES", "Arena"]

T = TypeVar("T")

CLUSTER: Final = "kvcache-3"
"""The server name of three nodes with two copies of each record; ``kvcache`` is one node with one."""

_SHAPES: Final = {
    "kvcache": ClusterOptions(nodes=1, replicas=1, memory="512MiB"),
    CLUSTER: ClusterOptions(nodes=3, replicas=2, memory="512MiB"),
}

_VALUE_BYTES: Final = 100
KEYS: Final = tuple(b"key:%012d" % number for number in random.Random(4711).sample(range(10_000), 10_000))
"""The keys of every work, in the order in which they are asked for: 16 bytes each."""

VALUES: Final = {key: key.ljust(_VALUE_BYTES, b".") for key in KEYS}
"""The value of each key: 100 bytes that begin with it."""


class Arena:
    """A context manager that leaves no process behind. Servers come filled with ``VALUES``.

    ``apart`` puts the load on one core and all servers on another; otherwise the system decides.
    """

    def __init__(self, loop_factory: Callable[[], asyncio.AbstractEventLoop] | None, *, apart: bool = False) -> None:
        self._runner = asyncio.Runner(loop_factory=loop_factory)
        self._stack = contextlib.ExitStack()
        self._servers: dict[str, tuple[ServerProcess, str]] = {}
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        pinned = apart and len(cores) > 1
        self._load_core = cores[0] if pinned else None
        self.server_core = cores[1] if pinned else None

    def __enter__(self) -> Self:
        self._stack.enter_context(self._runner)
        if self._load_core is not None:
            self._stack.callback(os.sched_setaffinity, 0, os.sched_getaffinity(0))
            os.sched_setaffinity(0, {self._load_core})
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self, job: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the arena's event loop."""
        return self._runner.run(job)

    def address(self, server: str) -> str:
        """Return the address of a server, which is started and filled at the first call. Raises ``CannotRun``."""
        return self._server(server)[1]

    def process(self, server: str) -> ServerProcess:
        """Return the process of a server (of a cluster: its first node)."""
        return self._server(server)[0]

    def _server(self, server: str) -> tuple[ServerProcess, str]:
        if server not in self._servers:
            started = self.start(server, self._stack)
            _fill(server, started[1])
            self._servers[server] = started
        return self._servers[server]

    def start(
        self, server: str, stack: contextlib.ExitStack, shape: ClusterOptions | None = None, memory_mib: int = 2048
    ) -> tuple[ServerProcess, str]:
        """Start an empty server that ``stack`` stops. ``shape`` is for ours, ``memory_mib`` for a peer's."""
        if server not in _SHAPES:
            process, address = start_peer(server, core=self.server_core, memory_mib=memory_mib)
            stack.callback(process.stop)
            return process, address
        cluster = LocalCluster(replace(shape or _SHAPES[server], core=self.server_core))
        self.run(cluster.__aenter__())
        stack.callback(lambda: self.run(cluster.__aexit__(None, None, None)))
        return cluster.nodes[0], cluster.seeds


def _fill(server: str, address: str) -> None:
    spec = next(spec for spec in BLOCKING_CLIENTS.values() if server.startswith(spec.server))
    client = spec.open(address)
    try:
        for start in range(0, len(KEYS), 1000):
            client.set_many({key: VALUES[key] for key in KEYS[start : start + 1000]})
        hits = client.hits_of(client.get_many(list(KEYS[:1000])))
    finally:
        client.close()
    if hits != 1000:
        raise CannotRun(f"{server} holds {hits} of the first 1000 keys after it was filled")
