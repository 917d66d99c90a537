"""Writing a snapshot: all of it, or nothing at all.

Here live the packing of records into blocks and what happens when that fails. Never here: which records belong into a
snapshot (what a flush or purge hides does not), and the order of fsyncs (``staging``).
"""

from __future__ import annotations

import builtins
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import blake2b
from types import TracebackType
from typing import Self

import msgpack

from kvcache.cluster.snapshots.layout import (
    BLOCK_BYTES,
    BLOCK_HEADER_BYTES,
    DIGEST_BYTES,
    FILE_HEADER_BYTES,
    MANIFEST_NAME,
    PAIR_OVERHEAD,
    SEGMENT_BYTES,
    BlockHeader,
    block_digest,
    block_header,
    segment_header,
    segment_name,
)
from kvcache.cluster.snapshots.manifest import Manifest, Segment, encode_manifest
from kvcache.cluster.snapshots.staging import Staging, free_target
from kvcache.events import journal
from kvcache.service.checks import bad_key, check_record
from kvcache_client.protocol.errors import InvalidOption, SnapshotAbandoned, TopologyError
from kvcache_client.protocol.limits import KEY_BYTES, VALUE_BYTES_CAP

__all__ = ["SnapshotWriter"]

_NEW, _OPEN, _WRITTEN, _ABANDONED = "new", "open", "written", "abandoned"


class SnapshotWriter:
    """A context manager that makes ``directory`` a snapshot of the records added inside it.

    ``directory`` must not exist yet, or be empty; else ``InvalidOption``. It appears when the context ends without an
    error. Any error in it, a cancellation too, removes everything that was written; one of the disk is raised as
    ``SnapshotAbandoned``. A writer belongs to one thread at a time: who calls ``add`` in another thread waits for it
    before leaving the context.

    ``before_publishing`` is called when all is on the disk and the directory is about to appear; what it raises abandons all.
    ``taken_at_ms`` is in milliseconds since 1970. ``block_bytes`` and ``segment_bytes`` bound the files' parts.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        cluster: str,
        cluster_id: str,
        taken_at_ms: int,
        generations: Iterable[tuple[str, int]] = (),
        block_bytes: int = BLOCK_BYTES,
        segment_bytes: int = SEGMENT_BYTES,
        before_publishing: Callable[[], None] = lambda: None,
    ) -> None:
        self.directory = free_target(directory)
        self.records = 0
        self.bytes = 0
        if not 1 <= block_bytes <= BLOCK_BYTES:
            raise InvalidOption(f"block_bytes must be {1} to {BLOCK_BYTES}, not {block_bytes}")
        self._block_bytes = block_bytes
        self._before_publishing = before_publishing
        self._segment_bytes = segment_bytes
        try:
            self._manifest = Manifest(
                cluster=cluster, cluster_id=cluster_id, taken_at_ms=taken_at_ms, generations=tuple(generations)
            )
        except TopologyError as error:
            raise InvalidOption(f"a snapshot's {error}") from error
        encode_manifest(self._manifest)
        self._id = self._manifest.id
        self._state = _NEW
        self._staging: Staging | None = None
        self._start_counting()

    def _start_counting(self) -> None:
        self._packer = msgpack.Packer(autoreset=False)
        self._pending = 0  # records in the packer
        self._pending_bytes = 0  # the most that they may take there
        self._blocks = 0
        self._checksum = blake2b(digest_size=DIGEST_BYTES)
        self._segments: list[Segment] = []  # finished ones
        self._segment = Segment(0, 0, 0)  # the open one; of size 0 when none is

    def __enter__(self) -> Self:
        if self._state != _NEW:
            raise InvalidOption(f"a snapshot is written once; this one of {self.directory} is {self._state}")
        try:
            self._staging = Staging(self.directory)
        except OSError as error:
            self._state = _ABANDONED
            raise SnapshotAbandoned(
                f"the snapshot {self.directory} could not be begun: {_reason(error)}", detail=error.errno
            ) from error
        self._state = _OPEN
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            self._discard()
            return
        staging = self._opened()
        with self._whole_or_nothing(staging):
            self._finish(staging)
        self._staging = None
        self._state = _WRITTEN
        journal.say("snapshot_written", directory=self.directory, records=self.records, bytes=self.bytes)

    def add(self, key: builtins.bytes, record: builtins.bytes) -> None:
        """Add one record, tombstones included. What is no key or no record is refused as on the wire."""
        staging = self._opened()
        if type(key) is not bytes or not 0 < len(key) <= KEY_BYTES:
            raise bad_key(key)
        check_record(record, VALUE_BYTES_CAP)
        size = len(key) + len(record)
        if self._pending_bytes + size + PAIR_OVERHEAD > self._block_bytes and self._pending:
            with self._whole_or_nothing(staging):
                self._write_block(staging)
        self._packer.pack(key)
        self._packer.pack(record)
        self._pending += 1
        self._pending_bytes += size + PAIR_OVERHEAD
        self.records += 1
        self.bytes += size

    def _opened(self) -> Staging:
        if self._state != _OPEN or self._staging is None:
            raise SnapshotAbandoned(f"the snapshot {self.directory} is not open for writing, it is {self._state}")
        return self._staging

    def _write_block(self, staging: Staging) -> None:
        payload, records = self._packer.bytes(), self._pending
        self._packer.reset()
        self._pending = self._pending_bytes = 0
        size = BLOCK_HEADER_BYTES + len(payload)
        if self._segment.size and self._segment.size + size > self._segment_bytes:
            self._end_segment(staging)
        segment = len(self._segments) + 1
        if not self._segment.size:
            staging.begin(segment_name(segment))
            staging.write(segment_header(self._id, segment))
            self._segment = Segment(FILE_HEADER_BYTES, 0, 0)
        digest = block_digest(self._id, segment, self._blocks, records, payload)
        staging.write(block_header(BlockHeader(self._blocks, records, digest, len(payload))))
        staging.write(payload)
        self._checksum.update(digest)
        self._blocks += 1
        so_far = self._segment
        self._segment = Segment(so_far.size + size, so_far.blocks + 1, so_far.records + records)

    def _end_segment(self, staging: Staging) -> None:
        staging.end()
        self._segments.append(self._segment)
        self._segment = Segment(0, 0, 0)

    def _finish(self, staging: Staging) -> None:
        if self._pending:
            self._write_block(staging)
        if self._segment.size:
            self._end_segment(staging)
        self._manifest = replace(
            self._manifest,
            records=self.records,
            bytes=self.bytes,
            checksum=self._checksum.digest(),
            segments=tuple(self._segments),
        )
        staging.publish(MANIFEST_NAME, encode_manifest(self._manifest), self._before_publishing)

    @contextmanager
    def _whole_or_nothing(self, staging: Staging) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            place = staging.place
            raise SnapshotAbandoned(
                f"the snapshot {self.directory} is abandoned: {_reason(error)}, at {place}{self._discard()}",
                detail=error.errno,
            ) from error
        except BaseException:
            self._discard()
            raise

    def _discard(self) -> str:
        """Remove what was written; return what to say about leftovers. Safe to call again."""
        staging, self._staging = self._staging, None
        if staging is None:
            return ""
        self._state = _ABANDONED
        self._packer.reset()
        try:
            staging.remove()
        except OSError as error:
            reason = _reason(error)
            journal.say("snapshot_left_over", directory=self.directory, left=repr(staging), reason=reason)
            return f"; {reason}: {staging!r} could not be removed"
        return "; nothing of it is left"

    def __repr__(self) -> str:
        return f"<SnapshotWriter {self.directory} {self._state} records={self.records} bytes={self.bytes}>"


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
