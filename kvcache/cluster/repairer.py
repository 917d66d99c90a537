"""Repairer: makes the copies of a partition equal again, by comparing them and sending only what differs.

Here lives the comparison and the exchange, asked for by an operator or in the background after a failure. Never here: the
requests themselves (``core.pulling``), or loading a node that knows that it lacks something (``loader``).

A digest tells which partitions differ at all; for those, headers tell which keys. Newer wins on both sides, so a repair that
meets writes under way, or another repair, does no harm.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final

from kvcache.service.service import Service
from kvcache_client.core.effects import Plan
from kvcache_client.core.pulling import Row, digests, peek_all, put_all, rows
from kvcache_client.placement.partitions import PARTITIONS
from kvcache_client.protocol.errors import KvCacheError
from kvcache_client.protocol.record import HEADER_BYTES

__all__ = ["Repairer", "difference"]

_log = logging.getLogger(__name__)

_GROUP: Final = 32
_BATCH: Final = 128
_PAUSE_SECONDS: Final = 0.05
"""Between two groups of a pass in the background, so that requests of clients come first."""


def difference(mine: Mapping[bytes, bytes], theirs: Mapping[bytes, bytes]) -> tuple[list[bytes], list[bytes]]:
    """Return the keys of which the other side has something newer, and those of which we have. Both map keys to headers."""
    fetch = [key for key, header in theirs.items() if header > mine.get(key, b"")]
    give = [key for key, header in mine.items() if header > theirs.get(key, b"")]
    return fetch, give


class Repairer:
    """The repairs of one node. ``run_plan`` drives a plan through the node's own client."""

    def __init__(self, service: Service, run_plan: Callable[[Plan[Any]], Awaitable[Any]]) -> None:
        self._service = service
        self._run = run_plan
        self._suspects: deque[int] = deque()
        self._work = asyncio.Event()
        self.compared = 0
        self.copied = 0

    async def repair(self, partitions: Iterable[int]) -> tuple[int, int]:
        """Compare partitions with their other owners and copy what differs, both ways; returns (compared, copied) records.

        Raises the first error of an owner that could not be asked, after all others were.
        """
        before = self.compared, self.copied
        failure: KvCacheError | None = None
        for node, group in self._by_owner(partitions).items():
            for start in range(0, len(group), _GROUP):
                try:
                    await self._repair_with(node, group[start : start + _GROUP])
                except KvCacheError as error:
                    failure = failure or error
                    break
        if failure is not None:
            raise failure
        return self.compared - before[0], self.copied - before[1]

    def suspect_all(self) -> None:
        """Compare everything for which this node answers first, bit by bit in the background."""
        ownership = self._service.ownership
        if ownership is not None:
            me = self._service.identity.node
            readers = ownership.routes.readers
            self._suspects = deque(p for p in range(PARTITIONS) if readers[p] and readers[p][0] == me)
            self._work.set()

    @property
    def waiting(self) -> int:
        """Partitions that are still to be compared in the background."""
        return len(self._suspects)

    async def run(self) -> None:
        """Compare in the background what is suspected, for ever."""
        while True:
            await self._work.wait()
            self._work.clear()
            copied = self.copied
            while self._suspects:
                group = [self._suspects.popleft() for _ in range(min(_GROUP, len(self._suspects)))]
                try:
                    await self.repair(group)
                except KvCacheError as error:
                    _log.info("comparing %d partitions: %s", len(group), error)
                await asyncio.sleep(_PAUSE_SECONDS)
            _log.info("compared all that this node answers first for; %d records copied", self.copied - copied)

    def _by_owner(self, partitions: Iterable[int]) -> dict[str, list[int]]:
        ownership = self._service.ownership
        groups: dict[str, list[int]] = {}
        if ownership is None:
            return groups
        me = self._service.identity.node
        states = {member.id: member.state for member in ownership.topology.members}
        for partition in partitions:
            if ownership.writable[partition] and self._service.is_complete(partition):
                for node in ownership.routes.readers[partition]:
                    if node != me and states.get(node) == "up":
                        groups.setdefault(node, []).append(partition)
        return groups

    async def _repair_with(self, node: str, partitions: list[int]) -> None:
        store = self._service.store
        theirs = await self._run(digests(node, partitions))
        for partition, digest in zip(partitions, theirs, strict=True):
            if digest != store.digest(partition):
                await self._exchange(node, partition)

    async def _exchange(self, node: str, partition: int) -> None:
        headers: dict[bytes, bytes] = {}
        await self._run(rows(node, partition, headers.update, whole=False))
        mine = {key: record[:HEADER_BYTES] for key, record in self._service.store.records(partition)}
        self.compared += len(headers.keys() | mine.keys())
        fetch, give = difference(mine, headers)
        for start in range(0, len(fetch), _BATCH):
            for key, record in await self._run(peek_all(node, fetch[start : start + _BATCH])):
                self._service.take(key, record)
                self.copied += 1
        for start in range(0, len(give), _BATCH):
            await self._give(node, partition, give[start : start + _BATCH])

    async def _give(self, node: str, partition: int, keys: list[bytes]) -> None:
        held = ((key, self._service.standing(partition, key)) for key in keys)
        pairs: list[Row] = [(key, record) for key, record in held if record is not None]
        if pairs:
            await self._run(put_all(node, self._service.epoch, pairs))
            self.copied += len(pairs)

    def __repr__(self) -> str:
        return f"<Repairer waiting={self.waiting} compared={self.compared} copied={self.copied}>"
