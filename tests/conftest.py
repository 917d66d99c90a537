"""What all tests share: nodes that serve, on real loopback sockets, for as long as the test run lasts.

Here live the node and cluster fixtures. They run in this process, on an event loop in a thread of its own: a node is ready
in milliseconds, and nothing can outlive the test run. Never here: node processes (a test that kills them starts its own).
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from polling import wait_until
from serving import LoopThread, ServingCluster, ServingNode

from kvcache.cluster.embedded import EmbeddedValkey
from kvcache.events import journal
from kvcache.logs import JsonFormatter, TextFormatter


@pytest.fixture(autouse=True)
def fresh_log() -> Iterator[None]:
    """No test is kept from a log line because the one before has said the same, nor writes where that one has written."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    journal.forget()
    yield
    for handler in root.handlers[:]:
        if handler not in handlers and isinstance(handler.formatter, TextFormatter | JsonFormatter):
            root.removeHandler(handler)
    root.setLevel(level)


@pytest.fixture(scope="session")
def loop_thread() -> Iterator[LoopThread]:
    """The event loop on which the servers of the tests run."""
    with LoopThread() as thread:
        yield thread


@pytest.fixture(scope="session")
def coordinator(loop_thread: LoopThread) -> Iterator[str]:
    """The URL of a Valkey server for clusters; give each cluster a name of its own."""
    valkey = EmbeddedValkey()
    loop_thread.run(valkey.start())
    yield valkey.url
    loop_thread.run(valkey.stop())


@pytest.fixture(scope="session")
def one_node(loop_thread: LoopThread) -> Iterator[ServingCluster]:
    """A standalone node, shared by the whole run: use keys of your own."""
    node = ServingNode(loop_thread, cluster="alone").start()
    yield ServingCluster([node], "alone")
    node.stop()


@pytest.fixture(scope="session")
def three_nodes(loop_thread: LoopThread, coordinator: str) -> Iterator[ServingCluster]:
    """Three nodes with two copies of each key, shared by the whole run: use keys of your own."""
    options = {"cluster": "trio", "coordinator": coordinator, "replication_factor": 2}
    with contextlib.ExitStack() as stack:
        nodes = []
        for number in (1, 2, 3):
            nodes.append(ServingNode(loop_thread, id=f"trio-{number}", **options).start())
            stack.callback(nodes[-1].stop)
        wait_until(lambda: len({node.epoch for node in nodes}) == 1 and all(node.settled for node in nodes))
        yield ServingCluster(nodes, "trio")


@pytest.fixture
def start_node(loop_thread: LoopThread) -> Iterator[Callable[..., ServingNode]]:
    """Start nodes of a test's own; they are stopped at its end. Options as ``NodeOptions``."""
    with contextlib.ExitStack() as stack:

        def start(**options: Any) -> ServingNode:
            node = ServingNode(loop_thread, **options)
            stack.callback(node.stop)
            return node.start()

        yield start
