"""One server of each system with a budget of bytes, and the batch calls of its usual client.

Here lives every line that differs from one system to the next. Never here: the trace, or what equal bytes means (``budgets``).
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from kvcache.memory import node_environment
from kvcache_client import Client
from kvcache_client.protocol.errors import KvCacheError
from loadtests.peers import memcached_command, package, redis_command
from loadtests.server_process import ServerProcess, accepts, free_ports

__all__ = ["SYSTEMS", "BudgetedServer"]

_TIMEOUT: Final = 10.0
_CLASSES_DOUBLE: Final = ("-f", "2")


@dataclass(frozen=True, slots=True)
class BudgetedServer:
    """An empty server and what a replay asks of it.

    ``holds`` returns which keys are there; ``store`` stores all and returns how many were refused; ``records`` counts.
    """

    process: ServerProcess
    holds: Callable[[list[bytes]], set[bytes]]
    store: Callable[[Mapping[bytes, bytes]], int]
    records: Callable[[], int]


@contextlib.contextmanager
def _kvcache(memory_mib: int) -> Iterator[BudgetedServer]:
    [port] = free_ports(1)
    command = [sys.executable, "-m", "kvcache", "node", "--listen", f"127.0.0.1:{port}", "--log-level", "error"]
    node = ServerProcess(
        "kvcache", [*command, "--memory", f"{memory_mib}MiB"], environment=node_environment(os.environ)
    )
    with contextlib.ExitStack() as stack:
        stack.callback(node.stop)
        node.wait_until(lambda: _answers(f"http://127.0.0.1:{port}/readyz"))
        client = stack.enter_context(Client(f"127.0.0.1:{port}", timeout=_TIMEOUT))

        def holds(keys: list[bytes]) -> set[bytes]:
            answer = client.get_many(keys)
            _all_answered(answer.failed)
            return {key for key in keys if key in answer}

        def store(values: Mapping[bytes, bytes]) -> int:
            return len(client.set_many(values).failed)  # type: ignore[arg-type]  # Mapping is invariant in its key

        def records() -> int:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/stats", timeout=_TIMEOUT) as reply:
                return int(json.load(reply)["store"]["records"])

        yield BudgetedServer(node, holds, store, records)


@contextlib.contextmanager
def _redis(memory_mib: int) -> Iterator[BudgetedServer]:
    with contextlib.ExitStack() as stack:
        server, port = _started(stack, "redis", lambda port: redis_command(port, memory_mib))
        client: Any = stack.enter_context(package("redis").Redis(port=port))
        client.config_set("maxmemory", client.info("memory")["used_memory"] + (memory_mib << 20))

        def holds(keys: list[bytes]) -> set[bytes]:
            return {key for key, value in zip(keys, client.mget(keys), strict=True) if value is not None}

        def store(values: Mapping[bytes, bytes]) -> int:
            return 0 if client.mset(values) else len(values)

        yield BudgetedServer(server, holds, store, client.dbsize)


@contextlib.contextmanager
def _memcached(memory_mib: int) -> Iterator[BudgetedServer]:
    with contextlib.ExitStack() as stack:
        pymemcache = package("pymemcache")
        server, port = _started(stack, "memcached", lambda port: memcached_command(port, memory_mib, *_CLASSES_DOUBLE))
        client = pymemcache.Client(("127.0.0.1", port), no_delay=True, default_noreply=False, timeout=_TIMEOUT)
        stack.callback(client.close)

        def holds(keys: list[bytes]) -> set[bytes]:
            return set(client.get_many(keys))

        def taken(key: bytes, value: bytes) -> bool:
            with contextlib.suppress(pymemcache.MemcacheServerError):  # "out of memory storing object", now and then
                return bool(client.set(key, value))
            return False

        def store(values: Mapping[bytes, bytes]) -> int:
            try:
                return len(client.set_many(values))
            except pymemcache.MemcacheServerError:  # it does not say which key that was
                return sum(not taken(*each) for each in values.items())

        yield BudgetedServer(server, holds, store, lambda: int(client.stats()[b"curr_items"]))


SYSTEMS: Final[Mapping[str, Callable[[int], contextlib.AbstractContextManager[BudgetedServer]]]] = {
    "kvcache": _kvcache,
    "redis": _redis,
    "memcached": _memcached,
}
"""System -> how to start it with a budget in MiB. Raises ``CannotRun`` where its server or client is missing."""


def _started(
    stack: contextlib.ExitStack, name: str, command: Callable[[int], Sequence[str]]
) -> tuple[ServerProcess, int]:
    [port] = free_ports(1)
    server = ServerProcess(name, command(port))
    stack.callback(server.stop)
    server.wait_until(lambda: accepts(port))
    return server, port


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1.0) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def _all_answered(failed: Mapping[Any, KvCacheError]) -> None:
    for error in failed.values():
        raise error
