"""Nodes that serve on real loopback sockets, in this process, on an event loop in a thread of its own.

Here lives what the fixtures of ``conftest`` are made of, for tests that name the types. Never here: fixtures, or node processes.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Final, Self, TypeVar

import pytest
import uvloop
from polling import PATIENCE

from kvcache.cluster.controller import Timings
from kvcache.node import Node
from kvcache.options import NodeOptions

T = TypeVar("T")

_MEMORY: Final = 64 << 20

_UNHURRIED: Final = "stream.queue_seconds=10"
"""These nodes share their interpreter with the tests, whose own work makes their event loop late: that is no overload."""

_QUICK: Final = Timings(found_after=0.0, look=0.05)
"""A cluster of a test's own has nobody to wait for."""


class LoopThread:
    """An event loop in a thread, for servers that tests of any kind speak to. ``run`` waits for a coroutine there."""

    def __init__(self) -> None:
        self.loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._live, name="test servers", daemon=True)

    def _live(self) -> None:
        try:
            self.loop.run_forever()
        finally:
            self.loop.close()  # uvloop waits here, for ever, for what was left open: so not in the main thread

    def run(self, work: Coroutine[Any, Any, T], seconds: float = PATIENCE) -> T:
        """Run ``work`` on the loop and return its result."""
        done: Future[T] = asyncio.run_coroutine_threadsafe(work, self.loop)
        return done.result(seconds)

    def call(self, work: Callable[[], None]) -> None:
        """Call ``work`` on the loop, soon."""
        self.loop.call_soon_threadsafe(work)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.run(_finish_tasks())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(PATIENCE)
        if self._thread.is_alive():
            pytest.fail("the servers of the tests left something open on their event loop")


async def _finish_tasks() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_default_executor()


class ServingNode:
    """One real node on a port of 127.0.0.1. ``stop`` and ``start`` again make a new life of it on the same port."""

    def __init__(self, thread: LoopThread, **options: Any) -> None:
        usual = {"listen": "127.0.0.1:0", "memory": _MEMORY, "replication_factor": 1, "limits": _UNHURRIED}
        self.options = NodeOptions(**usual | options)
        self._thread = thread
        self.node: Node | None = None

    def start(self) -> Self:
        """Start, and return when it has joined."""
        self.node = self._thread.run(self._start())
        self.options = self.node.options  # the port that it got
        return self

    async def _start(self) -> Node:
        node = Node(self.options, _QUICK)
        try:
            await node.start()
            while not node.ready():
                await asyncio.sleep(0.01)
        except BaseException:
            await node.stop()
            raise
        return node

    def stop(self) -> None:
        """Stop. Safe to call again."""
        node, self.node = self.node, None
        if node is not None:
            self._thread.run(node.stop())

    @property
    def address(self) -> str:
        """Where clients reach it, as host:port."""
        return self.options.advertise

    @property
    def id(self) -> str:
        """Its lasting name."""
        return self.options.id

    @property
    def epoch(self) -> int:
        """The epoch of the topology that it answers by; 0 before the first."""
        return self.node.service.epoch if self.node else 0

    @property
    def settled(self) -> bool:
        """Whether it knows of no move that goes on, or is to come."""
        return self.node is not None and self.node.topology().at_rest

    def __repr__(self) -> str:
        return f"<ServingNode {self.address} {self.node!r}>"


class ServingCluster:
    """Some nodes that share one topology."""

    def __init__(self, nodes: list[ServingNode], name: str) -> None:
        self.nodes = nodes
        self.name = name

    @property
    def addresses(self) -> list[str]:
        """The addresses of all nodes."""
        return [node.address for node in self.nodes]

    @property
    def seeds(self) -> str:
        """What a client is given to find the cluster."""
        return "kvcache://" + ",".join(self.addresses)

    def __repr__(self) -> str:
        return f"<ServingCluster {self.name} {self.nodes}>"
