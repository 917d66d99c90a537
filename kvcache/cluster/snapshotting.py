"""Snapshotting: all records of a cluster into a directory.

Here lives which node is asked for what, and that the disk holds nobody up. Never here: the files (``snapshots``), the lock and
the client (``admin``), or the way back (``restoring``).

A snapshot is no moment in time: writes that come while it is taken may be in it or not. Records carry version and absolute
expiry, so what is restored never beats what is newer, and what has expired meanwhile stays expired.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from kvcache.cluster.admin import Admin, OnProgress, Progress, unwatched
from kvcache.cluster.snapshots import SnapshotWriter
from kvcache_client.core.pulling import Row, rows
from kvcache_client.placement.partitions import PARTITIONS
from kvcache_client.protocol.errors import ConnectFailed, InDoubt, KvCacheError, NotOwner, NotReady
from kvcache_client.protocol.record import unrestored

__all__ = ["take_snapshot"]

T = TypeVar("T")

_AT_ONCE: Final = 32
"""Partitions that are read at the same time, and held in memory until all of them are there."""

_ELSEWHERE: Final = (NotOwner, NotReady, ConnectFailed, InDoubt)


async def take_snapshot(admin: Admin, directory: str | Path, progress: OnProgress = unwatched) -> dict[str, Any]:
    """Write all records into ``directory``, which must not exist or be empty; returns how many there were.

    Whatever goes wrong, nothing is left there, and nothing appears there once the lock is lost. Raises ``InvalidOption``,
    ``SnapshotAbandoned`` (the disk), and what any operation raises.
    """
    topology = await admin.topology()
    async with admin.lock("job", f"snapshot to {directory}"[:120]) as lock:
        writer = SnapshotWriter(
            directory,
            cluster=topology.cluster,
            cluster_id=topology.cluster_id,
            taken_at_ms=admin.client.brain.hlc.now_ms(),
            generations=topology.generations,
            before_publishing=lock.ensure_held,
        )
        async with _opened(writer):
            for start in range(0, PARTITIONS, _AT_ONCE):
                lock.ensure_held()
                part = range(start, min(start + _AT_ONCE, PARTITIONS))
                found = await asyncio.gather(*(_read_partition(admin, partition) for partition in part))
                await _in_thread(partial(_add_all, writer, found))
                progress(Progress(part.stop, PARTITIONS, "partitions", f"{writer.records} records"))
    return {"directory": str(directory), "records": writer.records, "bytes": writer.bytes}


def _add_all(writer: SnapshotWriter, partitions: list[list[Row]]) -> None:
    for found in partitions:
        for key, record in found:
            writer.add(key, unrestored(record))


async def _read_partition(admin: Admin, partition: int) -> list[Row]:
    """Return a partition as the first owner has it that has all of it: never a part of one and the whole of the next."""
    failure: KvCacheError | None = None
    for _ in range(3):  # the cluster may be changing: look again who owns it
        view = admin.client.brain.require_view()
        for node in view.owners[partition]:
            found: list[Row] = []
            try:
                await admin.client.run(rows(node, partition, found.extend))
            except _ELSEWHERE as error:
                failure = error
            else:
                return found
        await admin.topology()
    raise failure or NotReady(f"nobody owns partition {partition}")


@asynccontextmanager
async def _opened(writer: SnapshotWriter) -> AsyncIterator[None]:
    """Enter and leave the writer's context in a thread: what it syncs takes as long as the disk likes."""
    await _in_thread(writer.__enter__)
    try:
        yield
    except BaseException as error:
        await _in_thread(partial(writer.__exit__, type(error), error, error.__traceback__))
        raise
    await _in_thread(partial(writer.__exit__, None, None, None))


async def _in_thread(work: Callable[[], T]) -> T:
    """Run ``work`` in a thread and return its result. Whoever is cancelled leaves only when it has ended."""
    working = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        while not working.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([working])
        raise
