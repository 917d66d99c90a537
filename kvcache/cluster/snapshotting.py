"""Snapshotting: all records of a cluster into a directory, and back into a cluster of any size.

Here lives which node is asked for what, and who gets a record that comes back. Never here: the files (``snapshots``), or the lock
and the client (``admin``).

A snapshot is no moment in time: writes that come while it is taken may be in it or not. Records carry version and absolute
expiry, so what is restored never beats what is newer, and what has expired meanwhile stays expired.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from kvcache.cluster.admin import Admin, OnProgress, Progress
from kvcache.cluster.snapshots import SnapshotReader, SnapshotWriter
from kvcache_client.core.effects import Plan, Within
from kvcache_client.core.pulling import PIECE_SECONDS, Row, rows
from kvcache_client.core.reading import as_error
from kvcache_client.placement.partitions import PARTITIONS
from kvcache_client.protocol.errors import ConnectFailed, InDoubt, KvCacheError, NotOwner, NotReady, error_from_wire
from kvcache_client.protocol.limits import KEYS_PER_FRAME
from kvcache_client.protocol.record import expiry_of, is_tombstone, restored, unrestored, version_of
from kvcache_client.protocol.verbs import Request, Status, Verb

__all__ = ["lifted", "restore_snapshot", "take_snapshot"]

_AT_ONCE: Final = 32
"""Partitions that are read at the same time; each has one piece of 64 KiB on its way."""

_FRAME_BYTES: Final = 256 * 1024
_ELSEWHERE: Final = (NotOwner, NotReady, ConnectFailed, InDoubt)


def _unwatched(progress: Progress) -> None:
    return None


async def take_snapshot(admin: Admin, directory: str | Path, progress: OnProgress = _unwatched) -> dict[str, Any]:
    """Write all records into ``directory``, which must not exist or be empty; returns how many there were.

    Whatever goes wrong, nothing is left there. Raises ``InvalidOption``, ``SnapshotAbandoned`` (the disk), and what any
    operation raises.
    """
    topology = await admin.topology()
    taken_ms = admin.client.brain.hlc.now_ms()
    async with admin.lock("job", f"snapshot to {directory}"[:120]) as lock:
        with SnapshotWriter(
            directory,
            cluster=topology.cluster,
            cluster_id=topology.cluster_id,
            taken_at_ms=taken_ms,
            generations=topology.generations,
        ) as writer:
            for start in range(0, PARTITIONS, _AT_ONCE):
                lock.ensure_held()
                part = range(start, min(start + _AT_ONCE, PARTITIONS))
                await asyncio.gather(*(_read_partition(admin, partition, writer) for partition in part))
                progress(Progress(part.stop, PARTITIONS, "partitions", f"{writer.records} records"))
    return {"directory": str(directory), "records": writer.records, "bytes": writer.bytes}


async def _read_partition(admin: Admin, partition: int, writer: SnapshotWriter) -> None:
    """Read a partition from the first owner that has all of it."""

    def keep(piece: list[Row]) -> None:
        for key, record in piece:
            writer.add(key, unrestored(record))

    failure: KvCacheError | None = None
    for _ in range(3):  # the cluster may be changing: look again who owns it
        view = admin.client.brain.require_view()
        for node in view.owners[partition]:
            try:
                await admin.client.run(rows(node, partition, keep))
            except _ELSEWHERE as error:
                failure = error
            else:
                return
        await admin.topology()
    if failure is not None:
        raise failure


async def restore_snapshot(admin: Admin, directory: str | Path, progress: OnProgress = _unwatched) -> dict[str, Any]:
    """Put what a snapshot holds into the cluster; returns how many records were restored, superseded and expired.

    The whole snapshot is checked first: ``SnapshotDamaged`` names file and place, and then nothing was restored.
    """
    reader = SnapshotReader(directory)
    await asyncio.to_thread(reader.verify)
    await admin.topology()
    counts = {"restored": 0, "superseded": 0, "expired": 0}
    done = 0
    async with admin.lock("job", f"restore from {directory}"[:120]) as lock:
        for block in reader:
            lock.ensure_held()
            now_ms = admin.client.brain.hlc.now_ms()
            generations = admin.client.brain.require_view().topology.generations
            living = [(key, lifted(key, record, generations)) for key, record in block if expiry_of(record) > now_ms]
            counts["expired"] += len(block) - len(living)
            for batch in _batches(living):
                for name, number in (await _restore(admin, lock.fence, batch)).items():
                    counts[name] += number
            done += len(block)
            progress(Progress(done, reader.manifest.records, "records"))
    return {"directory": str(directory), "taken_from": reader.manifest.cluster, **counts}


def lifted(key: bytes, record: bytes, generations: Sequence[tuple[str, int]]) -> bytes:
    """Return a record that a flush or purge hides as one that is seen all the same; tombstones need not come back.

    So a restore undoes the flush. The record keeps its version: whatever was written since the flush is newer and stays, and
    of two snapshots the newer record stays, whichever is restored first. A flush that comes after ``generations`` hides it.
    """
    hidden = max((version for prefix, version in generations if key.startswith(prefix.encode())), default=-1)
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


async def _restore(admin: Admin, fence: int, batch: list[Row]) -> dict[str, int]:
    """Bring some records to all their owners; a record counts as superseded if every owner has a newer one."""
    view = admin.client.brain.require_view()
    requests: dict[str, tuple[Request, list[int]]] = {}
    for place, (key, record) in enumerate(batch):
        for node in view.writers_of(key):
            request, places = requests.setdefault(node, ([0, Verb.RESTORE, fence], []))
            request += (key, record)
            places.append(place)
    kept: set[int] = set()
    statuses = await admin.client.run(_ask_all([(node, request) for node, (request, _) in requests.items()]))
    for (_, places), answers in zip(requests.values(), statuses, strict=True):
        kept.update(place for place, status in zip(places, answers, strict=True) if status != Status.SUPERSEDED)
    return {"restored": len(kept), "superseded": len(batch) - len(kept)}


def _ask_all(asks: list[tuple[str, Request]]) -> Plan[list[list[int]]]:
    """Ask all nodes at once; raises the first error, that of a single record included."""
    outcomes = yield Within(asks, PIECE_SECONDS)
    answers = []
    for (node, request), outcome in zip(asks, outcomes, strict=True):
        error = as_error(outcome, node, request[1])
        if error is not None:
            raise error
        statuses = list(outcome[2:])
        bad = next((status for status in statuses if status not in tuple(Status)), None)
        if bad is not None:
            raise error_from_wire(bad, "a record of the snapshot was refused", node=node)
        answers.append(statuses)
    return answers
