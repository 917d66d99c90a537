"""Admin: what operators do with a cluster, for the command line, HTTP and programs alike.

Here lives each operation from its lock to its outcome. Never here: what a change makes of the document
(``changes``, at the nodes), or how it is shown. All of it goes through a client with the role ADMIN: no operation needs Redis
or its credentials. ::

    LOCK topology or job -> fence -> CHANGE / REPAIR / RESTORE, each with the fence -> wait until all nodes know -> UNLOCK
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from kvcache.cluster.controller import reports_of
from kvcache.cluster.decisions import Report, Sight, waiting_for
from kvcache_client import AsyncClient
from kvcache_client.bodies.aio_grantor import ClientGrantor
from kvcache_client.bodies.aio_lock import AsyncLock
from kvcache_client.bodies.surroundings import who_am_i
from kvcache_client.core.locking import ask_any, held_locks
from kvcache_client.core.pulling import ask
from kvcache_client.placement.partitions import PARTITIONS
from kvcache_client.placement.routes import Routes
from kvcache_client.placement.topology import Topology
from kvcache_client.protocol.errors import DeadlineExceeded, InDoubt, InvalidOption, KvCacheError, NotApplied
from kvcache_client.protocol.verbs import Verb

__all__ = ["Admin", "OnProgress", "Progress", "unwatched"]

LEASE_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.05
_REPAIRED_AT_ONCE: Final = 128
_PASSING: Final = (NotApplied, InDoubt)
"""What may be over at the next look."""

_CHANGE_SECONDS: Final = 5.0
"""What a change may take: the node computes the placement that follows from it, and other changes may come first."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an operation is: ``done`` of ``total`` ``unit``."""

    done: int
    total: int
    unit: str
    text: str = ""


OnProgress: TypeAlias = Callable[[Progress], None]


def unwatched(progress: Progress) -> None:
    """Show progress to nobody."""


class Admin:
    """The operations on one cluster. ``client`` must have the role ADMIN; ``patience`` is how long a lock is waited for.

    Every operation raises ``AdminBusy`` when somebody else is at it (it says who, since when, doing what),
    ``ControlPlaneUnavailable`` when coordination does not answer, ``StaleFence`` or ``LockLost`` when the lock was lost.
    """

    def __init__(self, client: AsyncClient, *, patience: float = 2.0) -> None:
        self.client = client
        self.patience = patience

    def lock(self, resource: str, doing: str) -> AbstractAsyncContextManager[AsyncLock]:
        """Return the lock under which an operation works."""
        grantor = ClientGrantor(self.client.session, doing)
        return AsyncLock(grantor, resource, lease=LEASE_SECONDS, timeout=self.patience)

    # Looking

    async def topology(self) -> Topology:
        """Return the newest document."""
        return await self.client.topology()

    async def reports(self) -> dict[str, Report]:
        """Return what each living member reports."""
        return await self.client.run(reports_of(await self.topology()))

    async def locks(self) -> list[dict[str, Any]]:
        """Return the locks that are held: resource, owner, doing, since, lease left, fence."""
        await self.topology()
        return await self.client.run(held_locks(self.client.brain))

    async def status(self) -> dict[str, Any]:
        """Return members, states, balance, epoch, and the move that is going on with what it waits for."""
        topology = await self.topology()
        reports = await self.client.run(reports_of(topology))
        copies = Routes(topology).placement.copies()
        return {
            "cluster": topology.cluster,
            "epoch": topology.epoch,
            "replication_factor": topology.replication_factor,
            "healthy": not _ailments(topology, reports),
            "waiting_for": _ailments(topology, reports),
            "move": _describe_move(topology, reports),
            "members": [
                {
                    "id": member.id,
                    "address": member.address,
                    "state": member.shown_state,
                    "weight": member.weight,
                    "zone": member.zone,
                    "copies": copies.get(member.id, 0),
                    "answers": member.id in reports,
                    "left": reports[member.id].left if member.id in reports else None,
                    "hints": sum(reports[member.id].hints.values()) if member.id in reports else None,
                }
                for member in topology.members
            ],
        }

    async def wait_healthy(self, seconds: float = 60.0, progress: OnProgress = unwatched) -> Topology:
        """Return when every member is up and complete, nothing moves and nothing is held for others.

        The gate of a rolling restart. Raises ``DeadlineExceeded`` after so many seconds, which says what is missing.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while True:
            try:
                topology, reports = await self._look()
                problems = _ailments(topology, reports)
            except KvCacheError as error:
                problems = [str(error)]
            else:
                _show_move(topology, reports, progress)
                if not problems:
                    return topology
            if loop.time() > deadline:
                raise DeadlineExceeded(f"not healthy within {seconds:g} s: {'; '.join(problems)}")
            await asyncio.sleep(_POLL_SECONDS)

    # Changing the document

    async def flush(self) -> dict[str, Any]:
        """Forget everything; returns the epoch, and members that have not confirmed it (they forget when they are back)."""
        return await self.purge("")

    async def purge(self, prefix: str) -> dict[str, Any]:
        """Forget everything under ``prefix``. When this returns, no node that can be reached shows an old value."""
        return await self._change("purge", prefix=prefix)

    async def drain(self, id: str, *, wait: float = 0.0, progress: OnProgress = unwatched) -> dict[str, Any]:
        """Have a node hand over all that it holds and leave. ``wait`` is how many seconds to wait for the end of that."""
        return await self._move("drain", wait, progress, id=id)

    async def remove(
        self, id: str, *, force: bool = False, wait: float = 0.0, progress: OnProgress = unwatched
    ) -> dict[str, Any]:
        """Take a node out, alive or not. Refuses when data would be lost, unless ``force``."""
        return await self._move("remove", wait, progress, id=id, force=force)

    async def reweight(
        self, id: str, weight: int, *, wait: float = 0.0, progress: OnProgress = unwatched
    ) -> dict[str, Any]:
        """Give a node another share of the keys."""
        return await self._move("reweight", wait, progress, id=id, weight=weight)

    async def replicas(self, count: int, *, wait: float = 0.0, progress: OnProgress = unwatched) -> dict[str, Any]:
        """Keep another number of copies of each key."""
        return await self._move("replicas", wait, progress, count=count)

    async def throttle(self, rate: int) -> dict[str, Any]:
        """Bound the running move to ``rate`` records a second per receiver; 0 is no bound."""
        return await self._change("throttle", rate=rate)

    async def cancel(self) -> dict[str, Any]:
        """Give up the running move, and the wishes that led to it."""
        return await self._change("cancel")

    async def _move(self, change: str, wait: float, progress: OnProgress, **arguments: Any) -> dict[str, Any]:
        outcome = await self._change(change, **arguments)
        if wait:
            await self.wait_settled(wait, progress)
        return outcome

    async def wait_settled(self, seconds: float, progress: OnProgress = unwatched) -> Topology:
        """Return when what is wanted is in force and nothing moves. Raises ``DeadlineExceeded``.

        What goes by, such as a node that does not answer for a moment, does not end the wait.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while True:
            try:
                topology, reports = await self._look()
            except _PASSING as error:
                state: object = str(error)
            else:
                _show_move(topology, reports, progress)
                leaving = [member.id for member in topology.members if member.leaving]
                if topology.at_rest and not leaving:
                    return topology
                state = _describe_move(topology, reports)
            if loop.time() > deadline:
                raise DeadlineExceeded(f"the move did not end within {seconds:g} s: {state}")
            await asyncio.sleep(_POLL_SECONDS)

    async def _look(self) -> tuple[Topology, dict[str, Report]]:
        topology = await self.topology()
        return topology, await self.client.run(reports_of(topology))

    async def _change(self, change: str, **arguments: Any) -> dict[str, Any]:
        await self.topology()
        by = who_am_i(self.client.brain.config.name)
        wish = json.dumps({"change": change, "by": by, **arguments}).encode()
        async with self.lock("topology", change) as lock:
            lock.ensure_held()
            request = [0, Verb.CHANGE, lock.fence, wish]
            reply = await self.client.run(ask_any(self.client.brain, request, _CHANGE_SECONDS))
        epoch: int = reply[2]
        return {"epoch": epoch, "fence": lock.fence, "unconfirmed": await self.unconfirmed(epoch)}

    async def unconfirmed(self, epoch: int, seconds: float = 3.0) -> list[str]:
        """Wait until every member goes by ``epoch``; returns those that did not say so in time."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        late: list[str] = []
        while True:
            with suppress(*_PASSING):  # the change is made: what fails now must not look as if it were not
                topology, reports = await self._look()
                late = [m.id for m in topology.members if m.id not in reports or reports[m.id].epoch < epoch]
                down = {member.id for member in topology.members if member.state == "down"}
                if topology.epoch >= epoch and (not set(late) - down or loop.time() > deadline):
                    return late
            if loop.time() > deadline + seconds:
                return late
            await asyncio.sleep(_POLL_SECONDS)

    # Long work

    async def dry_run(self, change: Callable[[Topology], Topology] = lambda topology: topology) -> dict[str, Any]:
        """Return what would move between which nodes if ``change`` (of ``cluster.changes``) were made; changes nothing."""
        topology = await self.topology()
        statistics = await self.client.node_statistics()
        return forecast(topology, change(topology), statistics)

    async def repair(self, partitions: list[int] | None = None, progress: OnProgress = unwatched) -> dict[str, Any]:
        """Compare all copies (or those of some partitions) and copy what differs; returns how much that was.

        ``skipped`` is how many partitions could not be looked at, by owners that are not up.
        """
        wanted = list(range(PARTITIONS)) if partitions is None else partitions
        if any(type(partition) is not int or not 0 <= partition < PARTITIONS for partition in wanted):
            raise InvalidOption(f"a partition is a number from 0 to {PARTITIONS - 1}")
        topology = await self.topology()
        groups, skipped = _comparers(topology, wanted)
        compared = copied = done = 0
        async with self.lock("job", "repair") as lock:
            for node, group in groups.items():
                for start in range(0, len(group), _REPAIRED_AT_ONCE):
                    part = group[start : start + _REPAIRED_AT_ONCE]
                    lock.ensure_held()
                    reply = await self.client.run(ask(node, [0, Verb.REPAIR, lock.fence, *part], 60.0))
                    compared, copied, done = compared + reply[2], copied + reply[3], done + len(part)
                    progress(Progress(done, len(wanted), "partitions", f"{copied} records copied"))
        outcome = {"partitions": done, "compared": compared, "copied": copied, "fence": lock.fence}
        return outcome | {"skipped": dict(skipped)}

    def __repr__(self) -> str:
        return f"<Admin {self.client!r}>"


def _comparers(topology: Topology, partitions: list[int]) -> tuple[dict[str, list[int]], Counter[str]]:
    """Return which node is to compare which partitions, its first owner that is up, and how many each other owner misses."""
    up = {member.id for member in topology.members if member.state == "up"}
    groups: dict[str, list[int]] = {}
    skipped: Counter[str] = Counter()
    readers = Routes(topology).readers
    for partition in partitions:
        owners = readers[partition]
        first = next((node for node in owners if node in up), None)
        if first is not None:
            groups.setdefault(first, []).append(partition)
        skipped.update(node for node in owners if node not in up)
    return groups, skipped


def forecast(before: Topology, after: Topology, statistics: Mapping[str, Any]) -> dict[str, Any]:
    """Return partitions, records and bytes by pair of nodes for the way from ``before``'s layout to what ``after`` wants."""
    old = Routes(before).placement.owners
    new = Routes(after.settled()).placement.owners
    pairs: Counter[tuple[str, str]] = Counter()
    for holding, gaining in zip(old, new, strict=True):
        pairs.update((holding[0], node) for node in gaining if node not in holding)
    sizes = {id: _per_partition(told) for id, told in statistics.items() if isinstance(told, dict)}
    rows = [
        {
            "from": source,
            "to": target,
            "partitions": count,
            "records": round(count * sizes.get(source, (0.0, 0.0))[0]),
            "bytes": round(count * sizes.get(source, (0.0, 0.0))[1]),
        }
        for (source, target), count in sorted(pairs.items())
    ]
    totals = {name: sum(row[name] for row in rows) for name in ("partitions", "records", "bytes")}  # type: ignore[misc]
    return {"moves": rows, **totals}


def _per_partition(told: Mapping[str, Any]) -> tuple[float, float]:
    """Return records and bytes in an average partition of a node."""
    held = max(1, told["topology"]["partitions"])
    return told["store"]["records"] / held, told["store"]["used_bytes"] / held


def _ailments(topology: Topology, reports: Mapping[str, Report]) -> list[str]:
    """Return what keeps the cluster from being healthy, in words."""
    problems = [f"{member.id} is {member.shown_state}" for member in topology.members if member.shown_state != "up"]
    for member in topology.members:
        report = reports.get(member.id)
        if report is None:
            problems += [f"{member.id} does not answer"]
        elif report.incarnation != member.incarnation:
            problems += [f"{member.id} has restarted"]
        elif report.epoch < topology.epoch:
            problems += [f"{member.id} is at epoch {report.epoch} of {topology.epoch}"]
        else:
            problems += [f"{member.id} has {report.left} partitions to load"] if report.left else []
            problems += [f"{member.id} holds records for {owner}" for owner, count in report.hints.items() if count]
    if topology.move is not None:
        problems += [f"a move is in stage {topology.move.stage}"]
    elif topology.wanted() != topology.layout:
        problems += ["a move is about to begin"]
    return problems


def _describe_move(topology: Topology, reports: Mapping[str, Report]) -> dict[str, Any] | None:
    move = topology.move
    if move is None:
        return None
    receivers = [report for id, report in reports.items() if report.session == move.id]
    return {
        "id": move.id,
        "stage": move.stage,
        "reason": move.reason,
        "began_ms": move.began_ms,
        "rate": move.rate,
        "left": sum(report.left for report in receivers),
        "total": sum(report.total for report in receivers),
        "records": sum(report.records for report in receivers),
        "bytes": sum(report.bytes for report in receivers),
        "waiting_for": waiting_for(topology, Sight({}, reports)),
    }


def _show_move(topology: Topology, reports: Mapping[str, Report], progress: OnProgress) -> None:
    move = _describe_move(topology, reports)
    if move is not None:
        text = f"{move['stage']}: {move['records']} records"
        progress(Progress(move["total"] - move["left"], max(1, move["total"]), "partitions", text))
