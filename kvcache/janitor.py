"""Janitor: the housekeeping of a node that nobody asks for: time, memory, and what it no longer owns.

Here lives when such work is done, a little at a time between requests. Never here: the work itself (``store``, ``service``).
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from kvcache.memory import resident_bytes, return_free_pages
from kvcache.service.ownership import Ownership
from kvcache.service.service import Service
from kvcache.store.config import MIN_BUDGET_BYTES
from kvcache.store.governor import MemoryGovernor
from kvcache_client.placement.partitions import PARTITIONS

__all__ = ["Janitor"]

_TICK_SECONDS: Final = 0.2
"""How often time is looked at when nobody asks anything: what expires is reclaimed within this, or soon after."""

_HURRY_SECONDS: Final = 0.002
"""The same while more is due than one look reclaims: a new millisecond, and time for requests in between."""

_GOVERN_SECONDS: Final = 0.4
"""How often the process's real memory is compared with its budget."""

_AT_ONCE: Final = 32
"""Partitions that are swept or dropped in one look."""


class Janitor:
    """The housekeeping of one node. ``memory`` is its budget in bytes."""

    def __init__(self, service: Service, memory: int) -> None:
        self._service = service
        self._memory = memory
        self._timer: asyncio.TimerHandle | None = None
        self._governor: MemoryGovernor | None = None
        self._govern_at = 0.0
        self._unowned: deque[int] = deque()

    def start(self) -> None:
        """Begin, on the running event loop."""
        self._tick()

    def stop(self) -> None:
        """End."""
        if self._timer is not None:
            self._timer.cancel()

    def _hold_tombstones(self) -> None:
        """While data comes in from elsewhere, a delete that is forgotten here could be undone by what is still on its way."""
        ownership = self._service.ownership
        moving = ownership is not None and ownership.topology.move is not None
        self._service.store.hold_tombstones(moving or self._service.loading)

    def follow(self, before: Ownership | None, now: Ownership) -> None:
        """Drop, bit by bit, what this node does not own any more; at once what it is about to own again."""
        store = self._service.store
        for partition in self._unowned:
            if now.writable[partition]:
                store.drop(partition)  # old copies must not come back to life
        held = self._service.hints.partitions()
        lost = [] if before is None else [p for p in range(PARTITIONS) if before.writable[p] and not now.writable[p]]
        self._unowned = deque(p for p in {*self._unowned, *lost} if not now.writable[p] and p not in held)

    def wipe(self) -> None:
        """Forget everything."""
        for partition in range(PARTITIONS):
            self._service.store.drop(partition)

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() >= self._govern_at:
            self._govern_at = loop.time() + _GOVERN_SECONDS
            self._govern()
        self._hold_tombstones()
        more = self._service.tick()
        more = self._service.sweep(_AT_ONCE) or more
        for _ in range(min(_AT_ONCE, len(self._unowned))):
            self._service.store.drop(self._unowned.popleft())
        pause = _HURRY_SECONDS if more or self._unowned else _TICK_SECONDS
        self._timer = loop.call_later(pause, self._tick)

    def _govern(self) -> None:
        """Let the store give way when the process takes more memory than its records account for."""
        resident = resident_bytes()
        if resident is None:
            return
        if self._governor is None:  # the first look, before any record: this is what an empty node takes
            self._governor = MemoryGovernor(self._memory, resident, MIN_BUDGET_BYTES)
        advice = self._governor.observe(resident)
        if advice.trim:
            return_free_pages()
        if advice.budget_bytes != self._service.store.budget_bytes:
            self._service.store.resize(advice.budget_bytes)

    def __repr__(self) -> str:
        return f"<Janitor unowned={len(self._unowned)}>"
