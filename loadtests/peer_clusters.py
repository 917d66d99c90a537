"""Clusters of the peers on this machine: a Redis Cluster with all its slots assigned, several memcached servers.

Here lives starting them, making a cluster of them, and stopping them. Never here: a client under load, or load.

A Redis Cluster is made as ``redis-cli --cluster create`` makes one without replicas: each node gets an equal range of the 16384
slots, the first meets the others, and it is ready when every node says that the cluster is whole and knows all members.
"""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any, Final

from loadtests import CannotRun
from loadtests.peers import memcached_command, redis_command
from loadtests.server_process import ServerProcess, accepts, free_ports

__all__ = ["SLOTS", "memcached_servers", "redis_cluster", "slot_ranges"]

SLOTS: Final = 16384
"""Hash slots of a Redis Cluster."""


def slot_ranges(nodes: int) -> list[tuple[int, int]]:
    """Return the first and the last slot of each node: all slots, each once, no node with more than one above another."""
    if not 1 <= nodes <= SLOTS:
        raise ValueError(f"{nodes} nodes: a Redis Cluster has 1 to {SLOTS}")
    edges = [SLOTS * number // nodes for number in range(nodes + 1)]
    return [(first, after - 1) for first, after in itertools.pairwise(edges)]


@contextlib.contextmanager
def redis_cluster(nodes: int, memory_mib: int) -> Iterator[str]:
    """Start a Redis Cluster; yields its address. Raises ``CannotRun``."""
    with contextlib.ExitStack() as stack:
        free = free_ports(2 * nodes)
        ports, buses = free[:nodes], free[nodes:]
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="kvcache-redis-"))
        servers = []
        for port, bus in zip(ports, buses, strict=True):
            command = redis_command(
                port,
                memory_mib,
                **{
                    "cluster-enabled": "yes",
                    "cluster-config-file": f"{folder}/{port}.conf",
                    "cluster-port": str(bus),
                    "dir": folder,
                },
            )
            servers.append(_started(stack, f"redis {port}", command, port))
        _join(stack, servers, ports, buses)
        yield "redis://" + ",".join(f"127.0.0.1:{port}" for port in ports)


@contextlib.contextmanager
def memcached_servers(nodes: int, memory_mib: int) -> Iterator[str]:
    """Start memcached servers, which know nothing of each other; yields their address. Raises ``CannotRun``."""
    with contextlib.ExitStack() as stack:
        ports = free_ports(nodes)
        for port in ports:
            _started(stack, f"memcached {port}", memcached_command(port, memory_mib), port)
        yield "memcached://" + ",".join(f"127.0.0.1:{port}" for port in ports)


def _started(stack: contextlib.ExitStack, name: str, command: Sequence[str], port: int) -> ServerProcess:
    server = ServerProcess(name, command)
    stack.callback(server.stop)
    server.wait_until(lambda: accepts(port))
    return server


def _join(
    stack: contextlib.ExitStack, servers: Sequence[ServerProcess], ports: Sequence[int], buses: Sequence[int]
) -> None:
    try:
        import redis
    except ImportError as error:
        raise CannotRun("the package redis is not installed: pip install redis") from error
    clients: list[Any] = [redis.Redis(port=port, decode_responses=True) for port in ports]
    for client in clients:
        stack.callback(client.close)
    for client, (first, last) in zip(clients, slot_ranges(len(clients)), strict=True):
        client.execute_command("CLUSTER ADDSLOTSRANGE", first, last)
    for port, bus in zip(ports[1:], buses[1:], strict=True):
        clients[0].execute_command("CLUSTER MEET", "127.0.0.1", port, bus)
    for server, client in zip(servers, clients, strict=True):
        server.wait_until(lambda client=client: _whole(client, len(ports)))  # type: ignore[misc]


def _whole(client: Any, nodes: int) -> bool:
    facts = client.execute_command("CLUSTER INFO")
    told = facts if isinstance(facts, dict) else dict(line.split(":", 1) for line in facts.split())
    return told["cluster_state"] == "ok" and int(told["cluster_known_nodes"]) == nodes
