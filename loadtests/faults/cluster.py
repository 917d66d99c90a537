"""Cluster: real node processes and a real Valkey that can be killed, stopped, restarted and cut off, each by name.

Here lives what can be done to a cluster. Never here: when it is done (``schedule``, or the scenarios of the chaos tests), load,
or a judgement.

Everything that was started is gone when the cluster's ``async with`` ends, also when a run failed, and dies with the run also
when that is killed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Any, Final, Self

import redis.asyncio as redis

from kvcache.cluster.embedded import EmbeddedValkey
from kvcache_client.placement.topology import Topology
from loadtests.proxy import Proxy
from loadtests.server_process import ServerProcess, free_ports
from loadtests.wire import topology_of

__all__ = ["BreakableCluster", "BreakableNode", "ClusterShape", "Coordinator", "eventually"]

_CLUSTER: Final = "breakable"
_PATIENCE: Final = 30.0


async def eventually(condition: Callable[[], Awaitable[object]], what: str, seconds: float = _PATIENCE) -> None:
    """Return when ``condition`` holds. Raises ``TimeoutError``, which says what did not happen."""
    deadline = time.monotonic() + seconds
    while not await condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"this did not happen within {seconds:g} s: {what}")
        await asyncio.sleep(0.02)


@dataclass(frozen=True, slots=True)
class ClusterShape:
    """``proxied`` puts a proxy before every node, through which clients and other nodes reach it."""

    nodes: int = 3
    replicas: int = 2
    memory: str = "64MiB"
    proxied: bool = False
    options: tuple[str, ...] = ()
    """Further options of every node."""
    program: tuple[str, ...] = ("kvcache",)
    """The module that is a node, and what goes before the command ``node``."""


class Coordinator:
    """The cluster's Valkey on a port that stays the same in all its lives."""

    def __init__(self) -> None:
        self._server = EmbeddedValkey()

    @property
    def url(self) -> str:
        """What nodes are told."""
        return self._server.url

    async def start(self) -> None:
        """Start, empty."""
        await self._server.start()

    async def stop(self) -> None:
        """Stop, whatever state it is in. Safe to call again."""
        self.signal(signal.SIGCONT)
        await self._server.stop()

    async def kill(self) -> None:
        """``kill -9``."""
        self.signal(signal.SIGKILL)
        await self._server.stop()

    async def restart_empty(self) -> None:
        """Stop, and start again on the same port, with nothing in it."""
        await self.stop()
        self._server = EmbeddedValkey(self._server.port)
        await self._server.start()

    def pause(self) -> None:
        """SIGSTOP: connections stand, nothing is answered."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self.signal(signal.SIGCONT)

    async def save(self) -> dict[Any, tuple[Any, int]]:
        """Return all that is stored, for ``roll_back``."""
        async with redis.Redis.from_url(self.url) as server:
            return {key: (await server.dump(key), max(await server.pttl(key), 0)) for key in await server.keys()}

    async def roll_back(self, saved: dict[Any, tuple[Any, int]]) -> None:
        """Make the server what it was at ``save``, as a restored backup or a lost fail-over does."""
        async with redis.Redis.from_url(self.url) as server:
            await server.flushall()
            for key, (content, ttl_ms) in saved.items():
                await server.restore(key, ttl_ms, content)

    def signal(self, number: signal.Signals) -> None:
        """Send the server a signal, if it lives."""
        with suppress(ProcessLookupError):
            if self._server.pid is not None:
                os.kill(self._server.pid, number)

    def __repr__(self) -> str:
        return f"<Coordinator {self._server!r}>"


class BreakableNode:
    """One node: an id and a port that outlive its processes."""

    def __init__(self, id: str, port: int, advertised: str, command: Iterable[str]) -> None:
        self.id = id
        self.direct = f"127.0.0.1:{port}"
        """Where it listens; ``advertised`` is where others are told to reach it."""
        self.advertised = advertised
        self._command = [*command, "--listen", self.direct, "--advertise", advertised, "--id", id]
        self._process: ServerProcess | None = None

    @property
    def running(self) -> bool:
        """Whether it has a process, stopped by a signal or not."""
        return self._process is not None

    @property
    def dead(self) -> bool:
        """Whether its process has ended without being asked to."""
        return self._process is not None and self._process.ended

    @property
    def pid(self) -> int:
        """The id of its process. Raises ``RuntimeError`` when there is none."""
        if self._process is None:
            raise RuntimeError(f"{self.id} has no process")
        return self._process.pid

    def start(self) -> None:
        """Start a process; whether it serves is asked elsewhere."""
        if self._process is not None:
            raise RuntimeError(f"{self.id} has a process already")
        self._process = ServerProcess(f"node {self.id}", self._command)

    def kill(self) -> None:
        """``kill -9``, and wait until it is gone."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM, and wait until it is gone. Safe to call again."""
        self._end(signal.SIGCONT)

    def pause(self) -> None:
        """SIGSTOP: connections stand, nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def last_line(self) -> str:
        """Return what it printed last."""
        return self._process.last_line() if self._process else "it has no process"

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):  # it ended by itself
                os.kill(process.pid, number)
            process.stop()

    def __repr__(self) -> str:
        return f"<BreakableNode {self.id} {self.direct} {self._process}>"


class BreakableCluster:
    """``async with BreakableCluster(ClusterShape()) as cluster``. Nodes are called n1, n2, ..."""

    def __init__(self, shape: ClusterShape) -> None:
        self.shape = shape
        self.coordinator = Coordinator()
        self.nodes: dict[str, BreakableNode] = {}
        self.proxies: dict[str, Proxy] = {}
        self._stack = AsyncExitStack()

    async def ended(self) -> list[str]:
        """Return the nodes whose process has ended by itself."""
        return [id for id in self.running() if self.nodes[id].dead]

    @property
    def seeds(self) -> tuple[str, ...]:
        """Where clients are told to look first."""
        return tuple(node.advertised for node in self.nodes.values())

    async def add(self, options: tuple[str, ...] = (), *, wait: bool = True) -> BreakableNode:
        """Start one more node and return when it has joined."""
        node = await self._make(options)
        node.start()
        if wait:
            await self.wait_for_members([node.id])
        return node

    async def kill(self, id: str) -> None:
        """``kill -9`` a node."""
        await asyncio.to_thread(self.nodes[id].kill)

    async def stop(self, id: str) -> None:
        """Stop a node as an operator does."""
        await asyncio.to_thread(self.nodes[id].stop)

    async def restart(self, id: str, *, wait: bool = True) -> None:
        """Start a node again that has no process: the same id and port, and nothing in its memory."""
        self.nodes[id].start()
        if wait:
            await self.wait_for_members([id])

    async def wait_for_members(self, ids: Iterable[str]) -> None:
        """Return when every running node answers, by one epoch in which these are members that are up.

        Raises ``RuntimeError`` with its last line if one of these ended by itself, ``TimeoutError`` if it takes too long.
        """
        await self._wait_for_document(set(ids), at_rest=False)

    async def wait_healthy(self) -> None:
        """Return when all nodes that have a process are up and agree, and nothing moves or is to move.

        A node is up as soon as its move is switched; the old owners are written to for a little longer.
        """
        await self._wait_for_document(set(self.running()), at_rest=True)

    async def _wait_for_document(self, wanted: set[str], *, at_rest: bool) -> None:
        async def agreed() -> bool:
            for id in wanted:
                if self.nodes[id].dead:
                    raise RuntimeError(f"{id} ended by itself: {self.nodes[id].last_line()}")
            documents = await self._documents()
            epochs = {document.epoch for document in documents.values() if document is not None}
            newest = max(filter(None, documents.values()), key=lambda document: document.epoch, default=None)
            if newest is None or len(epochs) != 1 or None in documents.values():
                return False
            up = {member.id for member in newest.members if member.state == "up"}
            return wanted <= up and (newest.at_rest or not at_rest)

        try:
            await eventually(agreed, f"{sorted(wanted)} are up{' and at rest' if at_rest else ''}, and all nodes agree")
        except TimeoutError as error:
            raise TimeoutError(f"{error}; {[(it.id, it.last_line()) for it in self.nodes.values()]}") from error

    async def topology(self) -> Topology:
        """Return the newest document that any node answers by. Raises ``RuntimeError`` when none does."""
        documents = [document for document in (await self._documents()).values() if document is not None]
        if not documents:
            raise RuntimeError("no node tells a topology")
        return max(documents, key=lambda document: document.epoch)

    def resume_all(self) -> None:
        """SIGCONT to everything; nothing happens to what was not stopped."""
        self.coordinator.resume()
        for id in self.running():
            self.nodes[id].resume()

    def running(self) -> list[str]:
        """Return the ids of the nodes that have a process, stopped by a signal or not."""
        return [node.id for node in self.nodes.values() if node.running]

    async def _documents(self) -> dict[str, Topology | None]:
        running = self.running()
        return dict(zip(running, [await topology_of(self.nodes[id].direct) for id in running], strict=True))

    def _environment(self) -> list[str]:
        """Return the command before the command of a node, with which it gets variables of its own."""
        return ["env"]

    async def _make(self, options: tuple[str, ...] = (), port: int = 0) -> BreakableNode:
        id, port = f"n{len(self.nodes) + 1}", port or free_ports(1)[0]
        advertised = f"127.0.0.1:{port}"
        if self.shape.proxied:
            proxy = self.proxies[id] = await self._stack.enter_async_context(Proxy("127.0.0.1", port))
            advertised = proxy.address
        command = self._environment()
        command += [
            sys.executable,
            "-m",
            *self.shape.program,
            "node",
            "--memory",
            self.shape.memory,
            "--cluster",
            _CLUSTER,
        ]
        command += ["--coordinator", self.coordinator.url, "--replication-factor", str(self.shape.replicas)]
        node = self.nodes[id] = BreakableNode(id, port, advertised, [*command, *self.shape.options, *options])
        self._stack.push_async_callback(asyncio.to_thread, node.stop)
        return node

    async def __aenter__(self) -> Self:
        try:
            self._stack.push_async_callback(self.coordinator.stop)
            await self.coordinator.start()
            for port in free_ports(self.shape.nodes):
                (await self._make(port=port)).start()
            await self.wait_healthy()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def __repr__(self) -> str:
        return f"<BreakableCluster {list(self.nodes.values())} {self.coordinator!r}>"
