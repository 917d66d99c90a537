"""What all stream connections of a node share.

Here lives the list of it, and the memory that they may hold together. Never here: what one connection does with it (``stream``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kvcache.service.service import Service
from kvcache.transport.awake import AwakeNode
from kvcache.transport.counters import StreamCounters
from kvcache.transport.guard import Guard
from kvcache.transport.limits import StreamLimits
from kvcache.transport.overload import Overload
from kvcache.transport.watch import RequestWatch

__all__ = ["Holding", "StreamPort"]


@dataclass(slots=True)
class Holding:
    """What connections hold together that is not done yet; bytes, but for the last."""

    partial: int = 0
    """Of frames that are not complete."""
    unread: int = 0
    """Of replies that their clients do not take."""
    delayed: int = 0
    """Requests that wait for the coordinator or for other nodes."""


@dataclass(frozen=True, slots=True)
class StreamPort:
    """The parts. ``now`` is a monotonic clock in seconds."""

    service: Service
    limits: StreamLimits
    counters: StreamCounters
    now: Callable[[], float]
    guard: Guard
    watch: RequestWatch
    overload: Overload
    holding: Holding
    awake: AwakeNode
