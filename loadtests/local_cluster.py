"""A whole kvcache cluster of real node processes on this machine, for as long as a load test needs it.

Here lives starting nodes, waiting until they form one cluster, and stopping them. Never here: load, or a
test's judgement.

One node runs without a coordinator: it is a complete cluster by itself. More nodes share an embedded Valkey.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any, Final, Self

from kvcache.memory import node_environment
from loadtests import CannotRun
from loadtests.server_process import ServerProcess, free_ports, on_core

__all__ = ["ClusterOptions", "LocalCluster"]

_CLUSTER_NAME: Final = "loadtest"
_HTTP_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """The cluster's shape. ``memory`` is each node's budget; ``core`` pins every process to one core."""

    nodes: int = 3
    replicas: int = 2
    memory: str = "256MiB"
    core: int | None = None
    start_seconds: float = 30.0


class LocalCluster:
    """``async with LocalCluster(ClusterOptions()) as cluster: ...``, on free ports of 127.0.0.1."""

    def __init__(self, options: ClusterOptions) -> None:
        if options.nodes < 1:
            raise CannotRun(f"a cluster has at least one node, not {options.nodes}")
        self.options = options
        self.addresses: tuple[str, ...] = ()
        self.nodes: list[ServerProcess] = []
        self._stack = contextlib.AsyncExitStack()

    @property
    def seeds(self) -> str:
        """The address of the cluster, as the clients take it."""
        return "kvcache://" + ",".join(self.addresses)

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _start(self) -> None:
        options = self.options
        self.addresses = tuple(f"127.0.0.1:{port}" for port in free_ports(options.nodes))
        coordination = await self._coordination()
        for number, address in enumerate(self.addresses, start=1):
            name = f"n{number}"
            command = [sys.executable, "-m", "kvcache", "node", "--listen", address, "--id", name]
            node = ServerProcess(
                f"kvcache node {name}",
                [*command, "--memory", options.memory, *coordination],
                core=options.core,
                environment=node_environment(os.environ),
            )
            self._stack.push_async_callback(asyncio.to_thread, node.stop)
            self.nodes.append(node)
        for node, address in zip(self.nodes, self.addresses, strict=True):
            await asyncio.to_thread(node.wait_until, functools.partial(self._joined, address), options.start_seconds)

    async def _coordination(self) -> list[str]:
        if self.options.nodes == 1:
            return []
        from kvcache.cluster.embedded import EmbeddedValkey

        with on_core(self.options.core):
            valkey = await self._stack.enter_async_context(EmbeddedValkey())
        replicas = str(self.options.replicas)
        return ["--coordinator", valkey.url, "--cluster", _CLUSTER_NAME, "--replication-factor", replicas]

    def _joined(self, address: str) -> bool:
        """Say whether this node is ready, and by its topology every member owns something and nothing moves any more."""
        if _http_get(f"http://{address}/readyz") is None:
            return False
        document = _http_get(f"http://{address}/v1/topology")
        if document is None or document["move"] is not None:
            return False
        return len(document["members"]) == len(document["layout"]["nodes"]) == self.options.nodes

    def __repr__(self) -> str:
        return f"<LocalCluster {self.seeds} nodes={self.nodes}>"


def _http_get(url: str) -> Any:
    """Return the JSON (or text) of a 200 answer, None for any other answer or none."""
    try:
        with urllib.request.urlopen(url, timeout=_HTTP_SECONDS) as answer:
            body = answer.read()
            return json.loads(body) if "json" in answer.headers.get_content_type() else body
    except (urllib.error.URLError, OSError, ValueError):
        return None
