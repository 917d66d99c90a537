"""Local cluster: an embedded Valkey and some node processes on this machine, started and stopped as one.

Here lives the order of starting, getting ready and stopping. Never here: what is printed about it (``up``).

Nothing is started unless every port is free. Whatever was started is stopped by ``stop``, also after a failure half-way;
if this process is killed, the children die with it (``cluster.child``).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from kvcache.cluster.child import start_child, stop_child
from kvcache.cluster.embedded import EmbeddedValkey
from kvcache.memory import node_environment
from kvcache_client.bodies.tls import current_context
from kvcache_client.credentials import secrets_from, tls_from
from kvcache_client.placement.topology import Topology
from kvcache_client.protocol.auth import Secrets
from kvcache_client.protocol.errors import InvalidOption, NodeFault, NotReady, TopologyError
from kvcache_client.protocol.verbs import Role

__all__ = ["LocalCluster", "LocalNode", "LocalPlan", "choose_ports", "describe_exit"]

HOST: Final = "127.0.0.1"
READY_SECONDS: Final = 30.0
POLL_SECONDS: Final = 0.03
FETCH_SECONDS: Final = 2.0
NODES_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class LocalPlan:
    """What to start. ``port`` is the first node's, the others follow; 0 takes free ones. ``memory`` is bytes per node."""

    nodes: int = 3
    replicas: int = 2
    memory: int = 256 << 20
    port: int = 7700
    cluster: str = "default"
    log_level: str = "warning"

    def __post_init__(self) -> None:
        for name, low, high in (("nodes", 1, NODES_MAX), ("replicas", 1, 8), ("port", 0, 65535)):
            value = getattr(self, name)
            if not low <= value <= high:
                raise InvalidOption(f"{name} is {value}; it must be within {low}..{high}")
        if self.port + self.nodes - 1 > 65535:
            raise InvalidOption(f"{self.nodes} ports from {self.port} on go beyond 65535")


@dataclass(frozen=True, slots=True)
class LocalNode:
    """A node process of ours."""

    id: str
    address: str
    process: Process

    @property
    def url(self) -> str:
        """Where it speaks HTTP."""
        return f"http://{self.address}"


def choose_ports(plan: LocalPlan) -> list[int]:
    """Return a port for each node. Raises ``InvalidOption`` that names the ports that are taken and some that are not."""
    if plan.port == 0:
        return _free_ports(plan.nodes)
    wanted = range(plan.port, plan.port + plan.nodes)
    taken = [port for port in wanted if not _is_free(port)]
    if not taken:
        return list(wanted)
    listed = ", ".join(map(str, taken))
    are = "port {} is" if len(taken) == 1 else "ports {} are"
    raise InvalidOption(
        f"{are.format(listed)} taken on {HOST}; stop what uses it, or start elsewhere: --port {_suggestion(plan)}"
    )


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the nodes do
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:  # all at once, so that they differ
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((HOST, 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def _suggestion(plan: LocalPlan) -> int:
    """Return the next first port with room for all nodes, 0 ("any") if there is none near."""
    for first in range(plan.port + 10, min(plan.port + 1000, 65536 - plan.nodes), 10):
        if all(_is_free(port) for port in range(first, first + plan.nodes)):
            return first
    return 0


class LocalCluster:
    """The cluster that ``plan`` describes. An async context manager; ready when entered."""

    def __init__(self, plan: LocalPlan) -> None:
        self.plan = plan
        self.valkey = EmbeddedValkey()
        self.nodes: list[LocalNode] = []

    @property
    def seeds(self) -> str:
        """What a client is given to find the cluster."""
        return ",".join(node.address for node in self.nodes)

    async def start(self) -> None:
        """Start everything, and return when each node is ready and all agree on one topology."""
        ports = choose_ports(self.plan)
        await self.valkey.start()
        for number, port in enumerate(ports, 1):
            self.nodes.append(await self._start_node(f"node-{number}", f"{HOST}:{port}"))
        try:
            async with asyncio.timeout(READY_SECONDS):
                await self._ready()
        except TimeoutError as error:
            raise NotReady(f"{len(self.nodes)} nodes formed no cluster in {READY_SECONDS:g} s") from error

    async def stop(self) -> None:
        """Stop the nodes, then Valkey. Returns when no process is left. Safe to call again."""
        nodes, self.nodes = self.nodes, []
        try:
            await asyncio.gather(*(stop_child(node.process) for node in nodes))
        finally:
            await self.valkey.stop()

    async def _start_node(self, id: str, address: str) -> LocalNode:
        options = {
            "listen": address,
            "advertise": address,
            "id": id,
            "memory": str(self.plan.memory),
            "coordinator": self.valkey.url,
            "cluster": self.plan.cluster,
            "replication-factor": str(self.plan.replicas),
            "log-level": self.plan.log_level,
        }
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        command = [sys.executable, "-m", "kvcache", "node", *words]
        process = await start_child(command, environment=node_environment(os.environ))
        return LocalNode(id, address, process)

    async def _ready(self) -> None:
        secrets = secrets_from(os.environ)  # as the nodes find theirs
        while True:
            _raise_if_ended(self.nodes)
            documents = await asyncio.gather(*(_topology_of(node, secrets) for node in self.nodes))
            first = documents[0]
            whole = first is not None and len(first.members) == len(self.nodes) and first.at_rest
            if whole and documents.count(first) == len(documents):
                return
            await asyncio.sleep(POLL_SECONDS)

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def __repr__(self) -> str:
        return f"<LocalCluster {self.seeds or 'stopped'} {self.valkey!r}>"


def describe_exit(code: int) -> str:
    """Return what an exit code of a process says."""
    return f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"


def _raise_if_ended(nodes: Iterable[LocalNode]) -> None:
    for node in nodes:
        code = node.process.returncode
        if code is not None:
            raise NodeFault(f"{node.id} on {node.address} {describe_exit(code)} before it was ready")


async def _topology_of(node: LocalNode, secrets: Secrets) -> Topology | None:
    """Return the document of a node that is ready, else None."""
    try:
        async with asyncio.timeout(FETCH_SECONDS):
            if await _fetch(node.address, "/readyz", secrets) is None:
                return None
            body = await _fetch(node.address, "/v1/topology", secrets)
        return None if body is None else Topology.from_json(body)
    except (OSError, TopologyError):
        return None


async def _fetch(address: str, path: str, secrets: Secrets) -> bytes | None:
    """Return the body that a node answers with, None unless it answers 200. HTTP/1.0 has no chunks to undo."""
    host, _, port = address.rpartition(":")
    tls = tls_from(os.environ)
    secured = tls is not None and bool(tls.certificate)  # without one of their own, the nodes speak in the clear
    context = current_context(tls) if tls and secured else None
    reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
    try:
        writer.write(f"GET {path} HTTP/1.0\r\nHost: {address}\r\n{_authorization(secrets)}\r\n".encode())
        head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
        return body if head.split(b" ", 2)[1:2] == [b"200"] else None
    finally:
        writer.close()


def _authorization(secrets: Secrets) -> str:
    secret = secrets.shown_as(Role.CLIENT)
    return f"Authorization: Bearer {secret.key.decode()}\r\n" if secret else ""
