"""Controller: the one node at a time that keeps the document true and carries moves forward.

Here lives seeing (heartbeats, reports), and putting what was decided into the coordinator. Never here: deciding
(``decisions``), or anything that the data path needs. It holds a lease; whoever gets the next one starts from the document, so
a controller can die at any line. ::

    heartbeats in Redis --+
    REPORT of each node --+--> decide(document, sight) --> compare-and-set on the epoch --> ADOPT to each node
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from kvcache.cluster.changes import reseeded
from kvcache.cluster.decisions import Report, Sight, decide
from kvcache.cluster.failpoints import reached
from kvcache.cluster.heartbeat import Heartbeats
from kvcache.cluster.lock import Lock
from kvcache.cluster.registry import Registry
from kvcache.events import journal
from kvcache_client.core.effects import Plan, Within
from kvcache_client.core.reading import as_error
from kvcache_client.placement.topology import Topology
from kvcache_client.protocol.errors import (
    AdminBusy,
    ControlPlaneUnavailable,
    LockLost,
    StaleFence,
    TopologyError,
)
from kvcache_client.protocol.verbs import Verb

__all__ = ["Controller", "Timings", "reports_of"]

_ASK_SECONDS: Final = 0.5
"""What a report may take."""


@dataclass(frozen=True, slots=True)
class Timings:
    """How fast the cluster notices things, in seconds."""

    beat: float = 0.5
    """Between two heartbeats of a node."""
    down_after: float = 5.0
    """How long a member may be missing before the document says so. Clients route around it at once, by themselves."""
    stumble: float = 0.15
    """How long a node may stand still before it asks what others did in its place; less than a client waits for an answer."""
    pause: float = 1.0
    """How long a node may stand still before it takes itself for out of date."""
    lease: float = 3.0
    """For how long the controller's lock is taken at a time."""
    look: float = 0.25
    """Between two looks of the controller when nothing is going on."""
    look_closely: float = 0.03
    """The same while a move is going on."""
    found_after: float = 0.7
    """How long a node that finds no document waits for signs of others before it founds a cluster."""


def reports_of(topology: Topology, seconds: float = _ASK_SECONDS) -> Plan[dict[str, Report]]:
    """Return what each member that is not down reports; those that don't answer within ``seconds`` are missing."""
    nodes = [member.id for member in topology.members if member.state != "down"]
    outcomes = yield Within([(node, [0, Verb.REPORT]) for node in nodes], seconds)
    return {
        node: Report.from_fields(_json(outcome[2]))
        for node, outcome in zip(nodes, outcomes, strict=True)
        if as_error(outcome, node, Verb.REPORT) is None
    }


class Controller:
    """The controlling part of one node; idle while another node has the lease.

    ``lock`` makes the lease's lock. ``known`` returns the newest document of this node, ``adopt`` takes a newer one.
    """

    def __init__(
        self,
        registry: Registry,
        heartbeats: Heartbeats,
        lock: Callable[[], Lock],
        run: Callable[[Plan[Any]], Awaitable[Any]],
        known: Callable[[], Topology],
        adopt: Callable[[Topology], Awaitable[None]],
        timings: Timings,
    ) -> None:
        self._registry = registry
        self._heartbeats = heartbeats
        self._lock = lock
        self._run = run
        self._known = known
        self._adopt = adopt
        self._timings = timings
        self._seen: dict[str, float] = {}
        self.controlling = False

    async def run(self) -> None:
        """Be the controller whenever the lease can be had, for ever."""
        while True:
            try:
                async with self._lock() as lock:
                    self.controlling = True
                    self._seen = {}
                    journal.say("controlling", fence=lock.fence)
                    await self._control(lock)
            except (AdminBusy, LockLost, ControlPlaneUnavailable) as error:
                journal.say("not_controlling", error=error)
            finally:
                self.controlling = False
            await asyncio.sleep(self._timings.lease / 3)

    async def _control(self, lock: Lock) -> None:
        while True:
            lock.ensure_held()
            try:
                busy = await self._step()
            except (TopologyError, StaleFence) as error:
                journal.say("document_unchanged", error=error)
                busy = False
            await asyncio.sleep(self._timings.look_closely if busy else self._timings.look)

    async def _step(self) -> bool:
        """Look once and do what follows from it; returns whether something is going on."""
        alive = await self._heartbeats.alive()
        topology = await self._present()
        reports = await self._run(reports_of(topology))
        now = time.monotonic()
        for member in topology.members:
            beat = alive.get(member.id)
            if member.id in reports or (beat is not None and beat.get("incarnation") == member.incarnation):
                self._seen[member.id] = now
        missing = {member.id: now - self._seen.setdefault(member.id, now) for member in topology.members}
        document = decide(
            topology,
            Sight(missing, reports),
            now_ms=time.time_ns() // 1_000_000,
            new_id=secrets.token_hex(8),
            down_after=self._timings.down_after,
        )
        stage = document.move.stage if document.move else "done" if topology.move else "calm"
        if document is not topology:
            reached(f"controller-before-{stage}")
        if document is not topology and await self._registry.commit(document, topology.epoch):
            reached(f"controller-after-{stage}")
            journal.say("document_changed", epoch=document.epoch, before=topology.epoch, document=document)
            await self._spread(document)
            return True
        return document.move is not None

    async def _present(self) -> Topology:
        """Return the document; one that the coordinator has lost, or of which it has an older one, is given back to it."""
        stored = await self._registry.load()
        known = self._known()
        if stored is not None and stored.epoch >= known.epoch:
            return stored
        reports = await self._run(reports_of(known))
        highest = max((report.epoch for report in reports.values()), default=0)
        if highest > known.epoch or 2 * len(reports) <= len([m for m in known.members if m.state != "down"]):
            raise ControlPlaneUnavailable(
                "the coordinator has lost the document, and too few members agree on what it was"
            )
        document = reseeded(known, highest)
        if not await self._registry.restore(document):
            raise ControlPlaneUnavailable("the coordinator holds the document of another cluster of this name")
        journal.say("document_given_back", lost=known.epoch, epoch=document.epoch)
        await self._spread(document)
        return document

    async def _spread(self, document: Topology) -> None:
        """Tell every member directly, so that one which can't reach the coordinator hears of it too."""
        await self._adopt(document)
        await self._run(_adopted_by_all(document))

    def __repr__(self) -> str:
        return f"<Controller {'controlling' if self.controlling else 'idle'}>"


def _adopted_by_all(document: Topology) -> Plan[None]:
    data = document.to_json()
    nodes = [member.id for member in document.members if member.state != "down"]
    yield Within([(node, [0, Verb.ADOPT, data]) for node in nodes], _ASK_SECONDS)


def _json(data: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(data)
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}
