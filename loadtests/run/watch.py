"""The watch: what the nodes and the workers look like from outside, second by second.

Here lives looking. Never here: what is made of it (``report``).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from loadtests.adapters import CacheAdapter, NodeFigures

__all__ = ["NodeSample", "every", "sample_nodes"]


@dataclass(frozen=True, slots=True)
class NodeSample:
    """What a node told at a moment of the wall clock."""

    at: float
    node: str
    figures: NodeFigures


def sample_nodes(cache: CacheAdapter, wall: Callable[[], float] = time.time) -> list[NodeSample]:
    """Return what every node that answers tells now; nothing where the cache tells nothing, or not now."""
    try:
        told = cache.node_figures() or {}
    except cache.errors:
        return []
    now = wall()
    return [NodeSample(now, node, figures) for node, figures in told.items()]


def every(seconds: float, act: Callable[[], None]) -> Callable[[], None]:
    """Call ``act`` again and again in a thread (under Locust a greenlet) of its own; returns what ends that."""
    over = threading.Event()

    def run() -> None:
        while not over.wait(seconds):
            act()

    threading.Thread(target=run, daemon=True).start()
    return over.set
