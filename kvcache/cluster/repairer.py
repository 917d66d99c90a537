"""Repairer: makes the copies of a partition equal again, by comparing them and sending only what differs.

Here lives the comparison and the exchange, asked for by an operator or in the background after a failure. Never here: the
requests themselves (``core.pulling``), or loading a node that knows that it lacks something (``loader``).

A digest tells which partitions differ at all; for those, headers tell which keys. Newer wins on both sides, so a repair that
meets writes under way, or another repair, does no harm.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final

from kvcache.events import journal
from kvcache.service.service import Service
from kvcache_client.core.effects import Plan
from kvcache_client.core.pulling import Row, digests, peek_all, put_all, rows
from kvcache_client.placement.partitions import PARTITIONS
from kvcache_client.protocol.errors import ConnectFailed, InDoubt, KvCacheError, error_from_wire
from kvcache_client.protocol.record import HEADER_BYTES
from kvcache_client.protocol.verbs import Status

__all__ = ["Repairer", "difference"]

_GROUP: Final = 32
_FETCHED: Final = 16
"""Records that are asked for at once: their sizes are not known, and each may have as many bytes as a value can."""

_GIVEN: Final = 256
_GIVEN_BYTES: Final = 256 * 1024

_PAUSE_SECONDS: Final = 0.02
"""Between two groups of a pass in the background, so that requests of clients come first: a pass takes about five seconds."""


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
        failures: list[KvCacheError] = []
        for node, group in self._by_owner(partitions).items():
            for start in range(0, len(group), _GROUP):
                try:
                    await self._repair_with(node, group[start : start + _GROUP], failures)
                except KvCacheError as error:
                    failures.append(error)
                    if isinstance(error, ConnectFailed | InDoubt):
                        break  # it is away: the next group would fare no better
        if failures:
            raise failures[0]
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
                    journal.say("comparing_failed", partitions=len(group), error=error)
                await asyncio.sleep(_PAUSE_SECONDS)
            journal.say("copies_compared", copied=self.copied - copied)

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

    async def _repair_with(self, node: str, partitions: list[int], failures: list[KvCacheError]) -> None:
        """Repair a group of partitions; what goes wrong in one of them is noted and costs the others nothing."""
        store = self._service.store
        theirs = await self._run(digests(node, partitions))
        for partition, digest in zip(partitions, theirs, strict=True):
            if digest != store.digest(partition):
                try:
                    await self._exchange(node, partition)
                except (ConnectFailed, InDoubt):
                    raise
                except KvCacheError as error:
                    failures.append(error)

    async def _exchange(self, node: str, partition: int) -> None:
        headers: dict[bytes, bytes] = {}
        await self._run(rows(node, partition, headers.update, whole=False))
        mine = {key: record[:HEADER_BYTES] for key, record in self._service.store.records(partition)}
        self.compared += len(headers.keys() | mine.keys())
        fetch, give = difference(mine, headers)
        for start in range(0, len(fetch), _FETCHED):
            for key, record in await self._run(peek_all(node, fetch[start : start + _FETCHED])):
                self._service.take(key, record)
                self.copied += 1
        batch: list[Row] = []
        size = 0
        for key in give:
            record = self._service.standing(partition, key)
            if record is None:
                continue
            if batch and (len(batch) >= _GIVEN or size + len(record) > _GIVEN_BYTES):
                await self._give(node, batch)
                batch, size = [], 0
            batch.append((key, record))
            size += len(key) + len(record)
        if batch:
            await self._give(node, batch)

    async def _give(self, node: str, batch: list[Row]) -> None:
        """Put some records at ``node``. Raises the first refusal; a newer version there is none."""
        statuses = await self._run(put_all(node, self._service.epoch, batch))
        self.copied += sum(status in (Status.OK, Status.MISS) for status in statuses)
        refusal = next((status for status in statuses if status not in tuple(Status)), None)
        if refusal is not None:
            raise error_from_wire(refusal, "a record of the repair was refused", node=node)

    def __repr__(self) -> str:
        return f"<Repairer waiting={self.waiting} compared={self.compared} copied={self.copied}>"
