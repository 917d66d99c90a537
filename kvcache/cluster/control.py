"""Control: what a node does for other nodes and for operators, beyond serving data.

Here lives the implementation of ``service.peers.Control``: it joins the loader, the handover, the locks and the document. Never
here: the parts themselves, or the messages by which all this is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any, Final

from kvcache.cluster import changes
from kvcache.cluster.examination import examine_coordinator
from kvcache.cluster.handover import Handover
from kvcache.cluster.loader import Loader
from kvcache.cluster.lock_store import Held, LockStore
from kvcache.cluster.registry import Registry
from kvcache.events import journal
from kvcache.service.service import Service
from kvcache_client.placement.topology import Topology
from kvcache_client.protocol.errors import ControlPlaneUnavailable, InvalidOption, KvCacheError, NotReady, StaleFence
from kvcache_client.protocol.record import TOMBSTONE_MS
from kvcache_client.protocol.version import MAX_CLOCK_OFFSET_MS, version_at

__all__ = ["CHANGES", "NodeControl"]

_NAME_CHARACTERS: Final = 200

Change = Callable[..., Topology]

CHANGES: Final[dict[str, tuple[Change, dict[str, type]]]] = {
    "purge": (changes.purge, {"prefix": str}),
    "drain": (changes.drain, {"id": str}),
    "remove": (changes.remove, {"id": str, "force": bool}),
    "reweight": (changes.reweight, {"id": str, "weight": int}),
    "replicas": (changes.replicas, {"count": int}),
    "throttle": (changes.throttle, {"rate": int}),
    "cancel": (changes.cancel_move, {}),
}
"""What an operator may ask to be changed in the document -> the function that does it, and its arguments."""


class NodeControl:
    """The control of one node. Without a registry (a node that is alone) locks and changes are not to be had."""

    def __init__(
        self,
        service: Service,
        incarnation: str,
        adopt: Callable[[Topology], Awaitable[None]],
        registry: Registry | None,
        locks: LockStore | None,
    ) -> None:
        self.loader: Loader
        self.handover: Handover
        self.repairing: Callable[[list[int]], Awaitable[tuple[int, int]]]
        self._service = service
        self._incarnation = incarnation
        self._adopt = adopt
        self._registry = registry
        self._locks = locks
        self.heard_from: Callable[[str], None] = lambda node: None
        self.floor: Callable[[str], Awaitable[int]]
        self.machine: Callable[[], dict[str, Any]] = dict

    def report(self) -> dict[str, Any]:
        """Return how far this node is with what is going on, as plain data (``decisions.Report``)."""
        receiving = self.loader.receiving
        return {
            "epoch": self._service.epoch,
            "incarnation": self._incarnation,
            "session": receiving.session,
            "left": self.loader.left,
            "total": receiving.total,
            "records": receiving.records,
            "bytes": receiving.bytes,
            "hints": self._service.hints.owners(),
        }

    def resync(self, partitions: list[int]) -> None:
        """Pull these partitions from their other owners again, in the background."""
        self.loader.resync(partitions)

    async def adopt(self, document: bytes) -> int:
        """Go by a document if it is newer; returns the epoch in force."""
        topology = Topology.from_json(document)
        ownership = self._service.ownership
        if ownership is None:
            raise NotReady("the node has not joined its cluster yet")
        if topology.cluster_id != ownership.topology.cluster_id:
            raise InvalidOption(
                f"the document of cluster {topology.cluster_id} is none of {ownership.topology.cluster_id}"
            )
        if topology.epoch > ownership.epoch:
            await self._adopt(topology)
        return self._service.epoch

    async def deliver(self, owner: str) -> int:
        """Hand over what is held for ``owner``; returns how many records are left."""
        self.heard_from(owner)  # whoever asks is alive, whatever this node thought of it
        return await self.handover.deliver(owner)

    async def repair(self, partitions: list[int]) -> tuple[int, int]:
        """Compare partitions with their other owners and copy what differs; returns (compared, copied) records."""
        compared, copied = await self.repairing(partitions)
        if copied:
            journal.say("repaired", partitions=len(partitions), compared=compared, copied=copied)
        return compared, copied

    async def change(self, fence: int, change: dict[str, Any]) -> int:
        """Change the document as an operator wishes; returns its new epoch."""
        who, wish = _shown(change.pop("by", "?")), json.dumps(change)
        try:
            topology = await self._changed(fence, change)
        except KvCacheError as error:
            journal.say("operation_refused", who=who, wish=wish, fence=fence, error=error)
            raise
        journal.say("operation_done", who=who, wish=wish, fence=fence, epoch=topology.epoch)
        return topology.epoch

    async def _changed(self, fence: int, change: dict[str, Any]) -> Topology:
        make, arguments = _wish(change)
        if make is changes.purge:
            arguments |= self._reach_of_a_purge()
        registry, known = self._registry, self._known()

        def change_of(stored: Topology) -> Topology:
            if fence < stored.fence:
                self._service.fences.refused += 1
                raise StaleFence(
                    f"fence {fence}: a holder with fence {stored.fence} changed it already", detail=stored.fence
                )
            return make(stored, **arguments, fence=fence)

        topology = change_of(known) if registry is None else await registry.update(change_of, known)
        await self._adopt(topology)
        return topology

    def _reach_of_a_purge(self) -> dict[str, int]:
        """Return up to which version a purge hides, and from which on older purges must be kept.

        Somewhat ahead of our time, because clocks of clients may be: what was acknowledged before the purge must be gone.
        A write that comes later and is below it all the same is told so, and stamped again.
        """
        now_ms = self._service.clock.now_ms()
        return {
            "version": version_at(now_ms + MAX_CLOCK_OFFSET_MS // 2),
            "keep_after": version_at(max(0, now_ms - TOMBSTONE_MS)),
        }

    def _known(self) -> Topology:
        ownership = self._service.ownership
        if ownership is None:
            raise NotReady("the node has not joined its cluster yet")
        return ownership.topology

    async def lock(self, resource: str, token: str, lease_ms: int, doing: str) -> int:
        """Take a lock for a client; returns its fence. Raises ``AdminBusy``, which says who has it."""
        owner, _, reason = doing.partition(": ")
        answer = await self._store().acquire(resource, token, lease_ms, owner, reason, await self.floor(resource))
        if isinstance(answer, Held):
            raise answer.busy(resource)
        # Should the coordinator lose its counter, this is what the next fence must be above. What writes carry does not count:
        # a client that makes numbers up must not use up those of the locks.
        self._service.fences.saw("lock" if resource.startswith("user:") else resource, answer.fence)
        if not resource.startswith("user:"):
            journal.say("locked", owner=owner, resource=resource, reason=reason or "?", fence=answer.fence)
        return answer.fence

    async def renew(self, resource: str, token: str, lease_ms: int) -> bool:
        """Hold a lock for longer; returns whether it was still held."""
        return await self._store().renew(resource, token, lease_ms)

    async def unlock(self, resource: str, token: str) -> bool:
        """Give a lock back; returns whether it was still held."""
        return await self._store().release(resource, token)

    async def locks(self) -> list[dict[str, Any]]:
        """Return the locks that are held, as plain data."""
        return [asdict(held) for held in await self._store().locks()]

    async def examine(self) -> dict[str, Any]:
        """Return what this node sees of its machine and its coordinator, as plain data."""
        registry = self._registry
        seen = None if registry is None else await examine_coordinator(registry.coordinator)
        return {"machine": self.machine(), "coordinator": seen}

    def _store(self) -> LockStore:
        if self._locks is None:
            raise ControlPlaneUnavailable("this node runs without a coordinator, so there are no locks")
        return self._locks

    def __repr__(self) -> str:
        return f"<NodeControl {self.loader!r} {self.handover!r}>"


def _shown(who: object) -> str:
    """Return what somebody calls himself, fit for a line of a log."""
    text = who if isinstance(who, str) else "?"
    return "".join(character if character.isprintable() else "?" for character in text[:_NAME_CHARACTERS])


def _wish(change: dict[str, Any]) -> tuple[Change, dict[str, Any]]:
    """Return the function and the checked arguments of a change that somebody asks for."""
    name = change.get("change")
    if not isinstance(name, str) or name not in CHANGES:
        raise InvalidOption(f"change={name!r:.60}: must be one of {', '.join(CHANGES)}")
    make, kinds = CHANGES[name]
    arguments = {}
    for argument, kind in kinds.items():
        value = change.get(argument)
        if type(value) is not kind:
            raise InvalidOption(f"{name}: {argument}={value!r:.60} must be {kind.__name__}")
        arguments[argument] = value
    return make, arguments
