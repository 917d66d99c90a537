"""Handover: a stand-in brings records to the owners that they are meant for, once these can be reached.

Here lives the delivery. Never here: what is owed to whom (``service.hints``), or noticing that a node is back.

A record that was delivered, and is nobody's here, is forgotten here. What can't be delivered because it was lost or given up
is told to the owner as partitions to pull again from its co-owners (RESYNC).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from typing import Any, Final

from kvcache.events import journal
from kvcache.service.service import Service
from kvcache_client.core.effects import Plan
from kvcache_client.core.pulling import ask, put_all
from kvcache_client.protocol.errors import ConnectFailed, InDoubt, KvCacheError, NotOwner, StaleEpoch
from kvcache_client.protocol.limits import KEYS_PER_FRAME
from kvcache_client.protocol.record import version_of
from kvcache_client.protocol.verbs import Status, Verb

__all__ = ["Handover"]

_PAUSE_SECONDS: Final = 0.2
_FORWARD_SECONDS: Final = 0.05
"""What a client waits at most for its hint to reach the owner; then the owner gets it later."""

_BATCH: Final = 256
_BATCH_BYTES: Final = 256 * 1024
_ELSEWHERE: Final = (NotOwner.code, StaleEpoch.code)


class Handover:
    """The deliveries of one node. ``down`` holds the nodes that can't be reached at the moment."""

    def __init__(
        self, service: Service, run: Callable[[Plan[Any]], Awaitable[Any]], down: Callable[[], Collection[str]]
    ) -> None:
        self._service = service
        self._run = run
        self._down = down
        self._busy: dict[str, asyncio.Lock] = {}

    async def run(self) -> None:
        """Deliver what there is to those that can be reached, for ever."""
        while True:
            await asyncio.sleep(_PAUSE_SECONDS)
            hints = self._service.hints
            hints.expire(self._service.now_ms)
            for owner in {*hints.owners(), *hints.dirty}:
                if owner not in self._down() or not self._is_member(owner):  # who has left is not waited for
                    await self.deliver(owner)

    def forward(self, owner: str) -> Awaitable[None] | None:
        """Return what brings a hint to its owner at once, or None if this node can't reach it either.

        The client could not reach the owner, but this node perhaps can; then nobody reads there what is older.
        """
        return None if owner in self._down() else self._forward(owner)

    async def _forward(self, owner: str) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_FORWARD_SECONDS):
                await self.deliver(owner)

    async def deliver(self, owner: str) -> int:
        """Deliver what is held for ``owner``, as far as it takes it; returns how many records are left."""
        hints = self._service.hints
        async with self._busy.setdefault(owner, asyncio.Lock()):
            try:
                while batch := hints.batch(owner, _BATCH_BYTES, min(_BATCH, KEYS_PER_FRAME)):
                    if not await self._deliver(owner, batch):
                        break
                await self._confess(owner)
            except KvCacheError as error:
                journal.say("handover_failed", owner=owner, error=error)
        return hints.owners().get(owner, 0)

    async def _deliver(self, owner: str, batch: list[tuple[int, bytes, int]]) -> bool:
        """Deliver some records; returns whether all of them are settled."""
        service = self._service
        pairs, owed = [], []
        for partition, key, version in batch:
            record = service.standing(partition, key)
            if record is None or version_of(record) < version:
                service.hints.lost(owner, key, version)
            else:
                pairs.append((key, record))
                owed.append((partition, key, version))
        if not pairs:
            return True
        statuses = (
            await self._run(put_all(owner, service.epoch, pairs))
            if self._is_member(owner)
            else [NotOwner.code] * len(pairs)
        )
        settled = True
        for (partition, key, version), (_, record), status in zip(owed, pairs, statuses, strict=True):
            if status in _ELSEWHERE and not await self._give_to_present_owners(partition, key, record):
                settled = False
            elif self._is_moving(partition) and not await self._give_to_present_owners(partition, key, record):
                settled = False  # who is to own it may have pulled it from this owner already
            elif status in _ELSEWHERE or status in (Status.OK, Status.MISS, Status.SUPERSEDED):
                service.hints.delivered(owner, key, version)
                self._let_go(partition, key, record)
            else:
                settled = False
        return settled

    def _is_moving(self, partition: int) -> bool:
        ownership = self._service.ownership
        return ownership is not None and len(ownership.routes.writers[partition]) > len(
            ownership.routes.readers[partition]
        )

    def _is_member(self, node: str) -> bool:
        ownership = self._service.ownership
        return ownership is not None and ownership.topology.member(node) is not None

    async def _give_to_present_owners(self, partition: int, key: bytes, record: bytes) -> bool:
        """The one that it was meant for owns it no more: bring it to all who do, and keep it for those that are away."""
        ownership = self._service.ownership
        if ownership is None:
            return False
        me = self._service.identity.node
        taken = True
        for node in ownership.routes.writers[partition]:
            if node == me:
                continue
            try:
                (status,) = await self._run(put_all(node, ownership.epoch, [(key, record)]))
            except (ConnectFailed, InDoubt):
                service = self._service
                service.hints.note(node, partition, key, len(record), version_of(record), service.now_ms)
            else:
                taken = taken and status in (Status.OK, Status.MISS, Status.SUPERSEDED)
        return taken

    def _let_go(self, partition: int, key: bytes, record: bytes) -> None:
        ownership = self._service.ownership
        if ownership is not None and not ownership.writable[partition] and not self._service.hints.is_held(key):
            self._service.store.forget(partition, key, version_of(record))

    async def _confess(self, owner: str) -> None:
        """Tell an owner for which partitions something was given up."""
        hints = self._service.hints
        partitions = sorted(hints.dirty.get(owner, ()))
        if not self._is_member(owner):
            hints.forget_owner(owner)
        elif partitions:
            await self._run(ask(owner, [0, Verb.RESYNC, *partitions[:KEYS_PER_FRAME]]))
            hints.clean(owner, partitions[:KEYS_PER_FRAME])

    def __repr__(self) -> str:
        return f"<Handover {self._service.hints!r}>"
