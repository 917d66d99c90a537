"""Restoring: the records of a snapshot back into a cluster of any size.

Here lives who gets a record that comes back, and under which mark. Never here: the files (``snapshots``), the lock and the client
(``admin``), or taking a snapshot (``snapshotting``).

Nodes check the epoch as for any write, so a record that was routed by an older topology is routed again. Each record keeps its
version: what is newer stays, and repeating a restore, or restoring two snapshots in any order, ends in the same.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from kvcache.cluster.admin import Admin, OnProgress, Progress, unwatched
from kvcache.cluster.snapshots import SnapshotReader
from kvcache_client.core.effects import REFRESH, Pause, Plan, Within
from kvcache_client.core.pulling import PIECE_SECONDS, Row
from kvcache_client.core.reading import REROUTE_PAUSE, as_error
from kvcache_client.placement.topology import Topology, hidden_to
from kvcache_client.protocol.errors import (
    ConnectFailed,
    InDoubt,
    KvCacheError,
    NotOwner,
    NotReady,
    StaleEpoch,
    Unavailable,
    error_from_wire,
)
from kvcache_client.protocol.limits import KEYS_PER_FRAME
from kvcache_client.protocol.record import expiry_of, is_tombstone, restored, version_of
from kvcache_client.protocol.verbs import Request, Status, Verb

__all__ = ["lifted", "restore_snapshot"]

_FRAME_BYTES: Final = 256 * 1024
_AWAY: Final = (ConnectFailed, InDoubt)
_REROUTE: Final = (NotOwner.code, StaleEpoch.code, NotReady.code)
_ROUTES: Final = 20
"""How often a batch is routed anew because the cluster is changing."""


async def restore_snapshot(admin: Admin, directory: str | Path, progress: OnProgress = unwatched) -> dict[str, Any]:
    """Put what a snapshot holds into the cluster; returns how many records were restored, superseded and expired.

    And how many copies wait, at another owner, for one that can't be reached (``waiting``, by node). The whole snapshot is
    checked first: ``SnapshotDamaged`` names file and place, and then nothing was restored. A flush that comes during the restore
    hides all that it brings back. Raises ``Unavailable`` if no owner of some record can be reached.
    """
    reader = SnapshotReader(directory)
    await asyncio.to_thread(reader.verify)
    counts = {"restored": 0, "superseded": 0, "expired": 0}
    waiting: Counter[str] = Counter()
    done = 0
    async with admin.lock("job", f"restore from {directory}"[:120]) as lock:
        generations = (await _known_to_all(admin)).generations
        blocks = iter(reader)
        while block := await asyncio.to_thread(next, blocks, None):
            lock.ensure_held()
            now_ms = admin.client.brain.hlc.now_ms()
            living = [(key, lifted(key, record, generations)) for key, record in block if expiry_of(record) > now_ms]
            counts["expired"] += len(block) - len(living)
            for batch in _batches(living):
                kept = await admin.client.run(_restored(admin, lock.fence, batch, waiting))
                counts["restored"] += kept
                counts["superseded"] += len(batch) - kept
            done += len(block)
            progress(Progress(done, reader.manifest.records, "records"))
    return {"directory": str(directory), "taken_from": reader.manifest.cluster, **counts, "waiting": dict(waiting)}


async def _known_to_all(admin: Admin) -> Topology:
    """Return the document once all that can be reached go by it: who has not heard of a flush would keep what it hides."""
    topology = await admin.topology()
    late = await admin.unconfirmed(topology.epoch)
    answering = await admin.reports()
    behind = [node for node in late if node in answering and answering[node].epoch < topology.epoch]
    if behind:
        raise NotReady(f"{', '.join(behind)} did not hear of epoch {topology.epoch} yet; nothing was restored")
    return await admin.topology()


def lifted(key: bytes, record: bytes, generations: Sequence[tuple[str, int]]) -> bytes:
    """Return a record that a flush or purge hides as one that is seen all the same; tombstones need not come back.

    So a restore undoes the flush. The record keeps its version: whatever was written since the flush is newer and stays, and
    of two snapshots the newer record stays, whichever is restored first. A flush that comes after ``generations`` hides it.
    """
    hidden = hidden_to(generations, key)
    return restored(record, hidden) if version_of(record) <= hidden and not is_tombstone(record) else record


def _batches(pairs: list[Row]) -> Iterator[list[Row]]:
    batch: list[Row] = []
    size = 0
    for key, record in pairs:
        if batch and (size + len(record) > _FRAME_BYTES or len(batch) >= KEYS_PER_FRAME // 2):
            yield batch
            batch, size = [], 0
        batch.append((key, record))
        size += len(key) + len(record)
    if batch:
        yield batch


def _restored(admin: Admin, fence: int, batch: list[Row], waiting: Counter[str]) -> Plan[int]:
    """Bring some records to all their owners; returns of how many at least one owner had nothing newer."""
    left, kept = batch, 0
    for _ in range(_ROUTES):
        taken, again = yield from _routed(admin, fence, left, waiting)
        kept += taken
        if not again:
            return kept
        left = again
        yield REFRESH
        yield Pause(REROUTE_PAUSE)
    raise NotReady(f"the cluster is changing: {len(left)} records could not be routed")


def _routed(admin: Admin, fence: int, batch: list[Row], waiting: Counter[str]) -> Plan[tuple[int, list[Row]]]:
    """Bring records to their owners as the topology has them; returns how many were taken, and those to be routed again."""
    view = admin.client.brain.require_view()
    owners = [view.writers_of(key) for key, _ in batch]
    places = {node: [at for at, mine in enumerate(owners) if node in mine] for node in {*sum(map(tuple, owners), ())}}
    asks: list[tuple[str, Request]] = [
        (node, [0, Verb.RESTORE, fence, view.epoch, *(field for at in mine for field in batch[at])])
        for node, mine in places.items()
    ]
    outcomes = yield Within(asks, PIECE_SECONDS)
    answers: dict[int, dict[str, int]] = {at: {} for at in range(len(batch))}
    away: dict[str, KvCacheError] = {}
    for (node, request), outcome in zip(asks, outcomes, strict=True):
        error = as_error(outcome, node, request[1])
        if isinstance(error, _AWAY):
            away[node] = error
        elif error is not None:
            raise error
        else:
            for at, status in zip(places[node], outcome[2:], strict=True):
                answers[at][node] = status
    again = {at for at, told in answers.items() if any(status in _REROUTE for status in told.values())}
    settled = {at: told for at, told in answers.items() if at not in again}
    yield from _handed_over(batch, owners, settled, away, waiting)
    taken = sum(any(status != Status.SUPERSEDED for status in told.values()) for told in settled.values())
    return taken, [batch[at] for at in sorted(again)]


def _handed_over(
    batch: list[Row],
    owners: Sequence[Sequence[str]],
    settled: dict[int, dict[str, int]],
    away: dict[str, KvCacheError],
    waiting: Counter[str],
) -> Plan[None]:
    """Leave what an owner that is away should have with one that was reached, which brings it there later (HINT)."""
    asks: list[tuple[str, Request]] = []
    for at, told in settled.items():
        bad = next((status for status in told.values() if status not in tuple(Status)), None)
        if bad is not None:
            raise error_from_wire(bad, "a record of the snapshot was refused")
        if not told:
            reasons = "; ".join(str(away[node]) for node in owners[at] if node in away)
            raise Unavailable(f"no owner of a record of the snapshot can be reached: {reasons}")
        asks += [(next(iter(told)), [0, Verb.HINT, node, *batch[at]]) for node in owners[at] if node in away]
    if asks:
        outcomes = yield Within(asks, PIECE_SECONDS)
        for (node, request), outcome in zip(asks, outcomes, strict=True):
            error = as_error(outcome, node, request[1])
            if error is not None:
                raise error
            waiting[request[2]] += 1
