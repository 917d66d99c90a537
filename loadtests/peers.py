"""The caches that are compared: how each one's client is opened, and how each peer's server is started.

Here lives every line that differs from one contestant to the next, so that the loads have none. Never here:
load, timing.

An adapter holds the client's own bound methods, so a measured call passes through nothing of ours. Each
client is opened as its users open it: one client with its own pool. Where a default would hobble a peer or
cheapen the work it is changed:

- redis.asyncio refuses more tasks than connections: its pool grows with the tasks beyond its default of 100.
- aiomcache and emcache come with 2 connections and are 2-4 times faster with more: they get one a task, up
  to 50.
- emcache's ``autobatching`` is off by default and helps gets only: it is a contestant of its own.
- pymemcache would not wait for the reply to a write (``default_noreply``): it does here, as all others do.
"""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from loadtests import CannotRun
from loadtests.server_process import ServerProcess, accepts, free_ports

__all__ = [
    "ASYNC_CLIENTS",
    "BLOCKING_CLIENTS",
    "SERVERS",
    "AsyncCache",
    "BlockingCache",
    "memcached_command",
    "package",
    "redis_command",
    "start_peer",
]

KVCACHE_TIMEOUT: Final = 1.0
"""Seconds, as emcache's default; a shared machine may stall for longer than our own default of 0.25 s."""

_PATIENCE: Final = 10.0
"""Seconds that emcache waits for an operation. With its default of 1 s, 500 tasks on 50 connections run into it here."""

_REDIS_POOL: Final = 100
_MEMCACHED_POOL: Final = 50


@dataclass(frozen=True, slots=True)
class AsyncCache:
    """An open asyncio client. ``value_of`` turns what ``get`` returned into bytes, or None for a miss."""

    get: Callable[[bytes], Awaitable[Any]]
    set: Callable[[bytes, bytes], Awaitable[Any]]
    close: Callable[[], Awaitable[Any]]
    value_of: Callable[[Any], bytes | None] = lambda value: value


@dataclass(frozen=True, slots=True)
class BlockingCache:
    """An open blocking client.

    ``hits_of`` counts the values in what ``get_many`` returned, ``failures_of`` the keys that a ``set_many``
    says it could not store; a client that raises instead has none.
    """

    get: Callable[[bytes], Any]
    get_many: Callable[[list[bytes]], Any]
    set_many: Callable[[Any], Any]
    close: Callable[[], Any]
    hits_of: Callable[[Any], int] = len
    failures_of: Callable[[Any], int] = lambda result: 0


async def _async_kvcache(address: str, tasks: int) -> AsyncCache:
    from kvcache_client import AsyncClient

    client = await AsyncClient(address, timeout=KVCACHE_TIMEOUT).__aenter__()
    return AsyncCache(client.get, client.set, client.close)


async def _async_redis(address: str, tasks: int) -> AsyncCache:
    redis = package("redis", "redis.asyncio")
    host, port = _host_port(address)
    client = redis.Redis(host=host, port=port, max_connections=max(_REDIS_POOL, tasks))
    return AsyncCache(client.get, client.set, client.aclose)


async def _async_aiomcache(address: str, tasks: int) -> AsyncCache:
    client = package("aiomcache").Client(*_host_port(address), pool_size=_memcached_pool(tasks))
    return AsyncCache(client.get, client.set, client.close)


async def _async_emcache(address: str, tasks: int, *, batching: bool = False) -> AsyncCache:
    emcache = package("emcache")
    host, port = _host_port(address)
    client = await emcache.create_client(
        [emcache.MemcachedHostAddress(host, port)],
        max_connections=_memcached_pool(tasks),
        autobatching=batching,
        timeout=_PATIENCE,
    )
    return AsyncCache(client.get, client.set, client.close, lambda item: item and item.value)


async def _async_emcache_batching(address: str, tasks: int) -> AsyncCache:
    return await _async_emcache(address, tasks, batching=True)


def _blocking_kvcache(address: str) -> BlockingCache:
    from kvcache_client import Client

    client = Client(address, timeout=KVCACHE_TIMEOUT)
    return BlockingCache(
        client.get, client.get_many, client.set_many, client.close, failures_of=lambda result: len(result.failed)
    )


def _blocking_redis(address: str) -> BlockingCache:
    redis = package("redis")
    host, port = _host_port(address)
    client = redis.Redis(host=host, port=port)
    return BlockingCache(client.get, client.mget, client.mset, client.close, _not_none)


def _blocking_pymemcache(address: str) -> BlockingCache:
    client = package("pymemcache").Client(_host_port(address), no_delay=True, default_noreply=False)
    return BlockingCache(client.get, client.get_many, client.set_many, client.close, failures_of=len)


def _memcached_pool(tasks: int) -> int:
    return max(2, min(tasks, _MEMCACHED_POOL))


def _not_none(values: Iterable[Any]) -> int:
    return sum(value is not None for value in values)


def _host_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


def package(name: str, module: str | None = None) -> Any:
    """Return a peer's package, or a module of it. Raises ``CannotRun`` if it is not installed."""
    try:
        return importlib.import_module(module or name)
    except ImportError as error:
        raise CannotRun(f"the package {name} is not installed: pip install {name}") from error


@dataclass(frozen=True, slots=True)
class ClientSpec:
    """A contestant: which server it needs and how its client is opened."""

    server: str
    open: Callable[..., Any]


ASYNC_CLIENTS: Final[Mapping[str, ClientSpec]] = {
    "kvcache": ClientSpec("kvcache", _async_kvcache),
    "redis-py": ClientSpec("redis", _async_redis),
    "aiomcache": ClientSpec("memcached", _async_aiomcache),
    "emcache": ClientSpec("memcached", _async_emcache),
    "emcache batching": ClientSpec("memcached", _async_emcache_batching),
}
"""Contestant -> how to open it: ``await open(address, tasks)``."""

BLOCKING_CLIENTS: Final[Mapping[str, ClientSpec]] = {
    "kvcache": ClientSpec("kvcache", _blocking_kvcache),
    "redis-py": ClientSpec("redis", _blocking_redis),
    "pymemcache": ClientSpec("memcached", _blocking_pymemcache),
}
"""Contestant -> how to open it: ``open(address)``."""


def redis_command(port: int, memory_mib: int, **further: str) -> list[str]:
    """Return the command of a Redis (or Valkey) in memory; ``further`` are options by name. Raises ``CannotRun``."""
    binary = shutil.which("redis-server") or shutil.which("valkey-server") or _embedded_valkey()
    options: dict[str, Any] = {"port": port, "bind": "127.0.0.1", "save": "", "appendonly": "no", "daemonize": "no"}
    options |= {"maxmemory": f"{memory_mib}mb", "maxmemory-policy": "allkeys-lru"} | further
    return [binary, *(word for name, value in options.items() for word in (f"--{name}", str(value)))]


def _embedded_valkey() -> str:
    try:
        from kvcache.cluster.embedded import find_server

        return str(find_server())
    except Exception as error:
        raise CannotRun("no redis-server or valkey-server: apt install redis-server") from error


def memcached_command(port: int, memory_mib: int, *further: str) -> list[str]:
    """Return the command of a memcached with these ``further`` options. Raises ``CannotRun``."""
    binary = shutil.which("memcached")
    if binary is None:
        raise CannotRun("no memcached: apt install memcached")
    # One thread, as every contestant has one core; memcached refuses to be root unless it is named.
    command = [binary, "-l", "127.0.0.1", "-p", str(port), "-U", "0", "-t", "1", "-m", str(memory_mib)]
    command += further
    return [*command, "-u", "root"] if os.geteuid() == 0 else command


SERVERS: Final[Mapping[str, Callable[[int, int], list[str]]]] = {
    "redis": redis_command,
    "memcached": memcached_command,
}
"""Peer server -> its command, given a port and a memory limit in MiB; all in memory, nothing on disk."""


def start_peer(name: str, *, core: int | None = None, memory_mib: int = 2048) -> tuple[ServerProcess, str]:
    """Start the peer's server on a free loopback port; returns it and its address. Raises ``CannotRun``."""
    (port,) = free_ports(1)
    process = ServerProcess(name, SERVERS[name](port, memory_mib), core=core)
    try:
        process.wait_until(lambda: accepts(port))
    except BaseException:
        process.stop()
        raise
    return process, f"127.0.0.1:{port}"
