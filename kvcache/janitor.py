"""Janitor: the housekeeping of a node that nobody asks for: time, memory, and what it no longer owns.

Here lives when such work is done, a little at a time between requests. Never here: the work itself (``store``, ``service``).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection
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
        """Drop, bit by bit, what this node does not own any more; at once what it is about to own again.

        Old copies must not come back to life when a partition does. What is held for others is never dropped with them.
        """
        hints = self._service.hints
        owned = bytes(PARTITIONS) if before is None else before.writable
        lost = [partition for partition in range(PARTITIONS) if owned[partition] > now.writable[partition]]
        old = {*self._unowned, *lost}
        self._clear({it for it in old | hints.strays if now.writable[it] > owned[it]})
        hints.strays.difference_update([it for it in hints.strays if now.writable[it]])
        self._unowned = deque(it for it in old if not now.writable[it])

    def _clear(self, partitions: Collection[int]) -> None:
        """Drop all of some partitions but what is held for others: of that, there may be no other copy."""
        if not partitions:
            return
        store = self._service.store
        held = self._service.hints.keys_in(partitions)
        for partition in partitions:
            kept = [(key, store.peek(partition, key)) for key in held.get(partition, ())]
            store.drop(partition)
            for key, record in kept:
                if record is not None:
                    store.put(partition, key, record)

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
        self._clear([self._unowned.popleft() for _ in range(min(_AT_ONCE, len(self._unowned)))])
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
