"""Reading a snapshot: block by block, and nothing of it is believed before it is checked.

Here live the checks of files and blocks, each of which names the file and the byte. Never here: what is done with the
records. Memory is bounded by one block (``layout.PAIR_BYTES``) and the manifest, whatever a file claims.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from itertools import islice
from typing import IO, Any, Final

import msgpack

from kvcache.cluster.snapshots.layout import (
    BLOCK_HEADER_BYTES,
    DIGEST_BYTES,
    FILE_HEADER_BYTES,
    MANIFEST_BYTES,
    MANIFEST_NAME,
    PAIR_BYTES,
    RECORD_BYTES,
    SEGMENT_PREFIX,
    BlockHeader,
    block_digest,
    damaged,
    read_block_header,
    read_segment_header,
    segment_name,
)
from kvcache.cluster.snapshots.manifest import Manifest, Segment, decode_manifest
from kvcache.service.checks import bad_key, check_record
from kvcache_client.protocol.errors import InvalidKey, InvalidOption, InvalidRecord, ValueTooLarge
from kvcache_client.protocol.limits import KEY_BYTES, VALUE_BYTES_CAP

__all__ = ["SnapshotReader"]

# O_NONBLOCK: a named pipe in the place of a file must not stop us for ever. It means nothing to regular files.
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_UNPACK_ERRORS: Final = (ValueError, msgpack.exceptions.UnpackException, msgpack.exceptions.BufferFull)


class SnapshotReader:
    """The snapshot in ``directory``. Iterating yields the records of one block after another, as ``(key, record)``.

    Making one reads the manifest and looks at the sizes of all files. Raises ``InvalidOption`` when there is no such
    directory and ``SnapshotDamaged``, with file and byte, for anything that is not as it was written. A block is checked
    before it is yielded, the totals after the last one: who wants to know that all is well before it uses the first
    record calls ``verify`` first. May be iterated again; other files in the directory are left alone.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = os.path.abspath(directory)
        if not os.path.isdir(self.directory):
            raise InvalidOption(f"{self.directory} is no directory, so there is no snapshot")
        self.manifest: Manifest = self._read_manifest()
        self._check_files()

    def __iter__(self) -> Iterator[list[tuple[bytes, bytes]]]:
        checksum = blake2b(digest_size=DIGEST_BYTES)
        total = blocks = 0
        for number, segment in enumerate(self.manifest.segments, 1):
            for digest, pairs in self._read_segment(number, segment, blocks):
                checksum.update(digest)
                total += sum(len(key) + len(record) for key, record in pairs)
                yield pairs
            blocks += segment.blocks
        if total != self.manifest.bytes:
            raise self._manifest_is_wrong(f"it promises {self.manifest.bytes} bytes, the segments hold {total}")
        if checksum.digest() != self.manifest.checksum:
            raise self._manifest_is_wrong("its checksum of all blocks does not match")

    def verify(self) -> None:
        """Read and check everything. Raises ``SnapshotDamaged``."""
        deque(self, maxlen=0)

    def _manifest_is_wrong(self, what: str) -> Exception:
        return damaged(self._path(MANIFEST_NAME), FILE_HEADER_BYTES, what)

    def _read_manifest(self) -> Manifest:
        with self._open(
            MANIFEST_NAME, "there is no manifest, so this is no snapshot, or one that was never finished"
        ) as (
            file,
            path,
        ):
            return decode_manifest(path, file.read(FILE_HEADER_BYTES + MANIFEST_BYTES + 1))

    def _check_files(self) -> None:
        expected = {segment_name(number): it for number, it in enumerate(self.manifest.segments, 1)}
        with _reading(self.directory), os.scandir(self.directory) as entries:
            for entry in entries:
                if entry.name.startswith(SEGMENT_PREFIX) and entry.name not in expected:
                    raise damaged(entry.path, 0, "the manifest knows no such segment")
        for name, segment in expected.items():
            path = self._path(name)
            with _reading(path, "the segment is missing"):
                found = os.lstat(path)
            if not stat.S_ISREG(found.st_mode):
                raise damaged(path, 0, "this is no regular file")
            size = found.st_size
            if size != segment.size:
                raise damaged(path, min(size, segment.size), f"the file has {size} bytes, it must have {segment.size}")

    def _read_segment(
        self, number: int, segment: Segment, first: int
    ) -> Iterator[tuple[bytes, list[tuple[bytes, bytes]]]]:
        """Yield digest and records of each block; ``first`` is the number of the first one."""
        with self._open(segment_name(number), "the segment is missing") as (file, path):
            snapshot_id, found = read_segment_header(path, file.read(FILE_HEADER_BYTES))
            if snapshot_id != self.manifest.id:
                raise damaged(path, 0, "the segment belongs to another snapshot")
            if found != number:
                raise damaged(path, 0, f"the file holds segment {found}, its name says {number}")
            offset, records = FILE_HEADER_BYTES, 0
            for block in range(first, first + segment.blocks):
                header = read_block_header(path, offset, file.read(BLOCK_HEADER_BYTES))
                if header.number != block:
                    raise damaged(path, offset, f"block {header.number} stands in the place of block {block}")
                payload = _payload_of(file, path, offset, header, segment.size)
                if block_digest(snapshot_id, number, block, header.records, payload) != header.digest:
                    raise damaged(path, offset, f"the checksum of block {block} does not match")
                yield header.digest, _pairs_in(payload, path, offset, header.records)
                offset += BLOCK_HEADER_BYTES + header.length
                records += header.records
            if file.read(1):
                raise damaged(path, offset, "the file goes on after its last block")
            if records != segment.records:
                raise damaged(path, offset, f"the segment holds {records} records, it must hold {segment.records}")

    def _path(self, name: str) -> str:
        return os.path.join(self.directory, name)

    @contextmanager
    def _open(self, name: str, missing: str) -> Iterator[tuple[IO[bytes], str]]:
        """Open a regular file of the snapshot; a link or a device in its place is refused."""
        path = self._path(name)
        with _reading(path, missing), open(path, "rb", opener=_opened) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise damaged(path, 0, "this is no regular file")
            yield file, path

    def __repr__(self) -> str:
        manifest = self.manifest
        return f"<SnapshotReader {self.directory} cluster={manifest.cluster} records={manifest.records}>"


def _opened(path: str, _flags: int) -> int:
    return os.open(path, _READ)


@contextmanager
def _reading(path: str, missing: str = "it is missing") -> Iterator[None]:
    """Translate what the file system says; ``missing`` is for a path that is not there."""
    try:
        yield
    except FileNotFoundError as error:
        raise damaged(path, 0, missing) from error
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise damaged(path, 0, "this is no regular file but a symbolic link") from error
        raise damaged(path, 0, f"it cannot be read: {error.strerror}") from error


def _payload_of(file: IO[bytes], path: str, offset: int, header: BlockHeader, size: int) -> bytes:
    """Return a block's payload, read only if the file is long enough for it."""
    start = offset + BLOCK_HEADER_BYTES
    if start + header.length > size:
        raise damaged(path, offset, f"block {header.number} of {header.length} bytes is longer than the file")
    payload = file.read(header.length)
    if len(payload) != header.length:
        raise damaged(path, start + len(payload), f"the file ends inside block {header.number}")
    return payload


def _pairs_in(payload: bytes, path: str, offset: int, records: int) -> list[tuple[bytes, bytes]]:
    """Return the keys and records of a payload whose block begins at ``offset``.

    No container can nest, and no more is decoded than the header promised, so a payload cannot grow in memory.
    """
    unpacker = msgpack.Unpacker(
        max_buffer_size=PAIR_BYTES,
        max_bin_len=RECORD_BYTES,
        max_str_len=0,
        max_array_len=0,
        max_map_len=0,
        max_ext_len=0,
    )
    unpacker.feed(payload)
    try:
        fields = list(islice(unpacker, 2 * records))
    except _UNPACK_ERRORS as error:
        place = offset + BLOCK_HEADER_BYTES + unpacker.tell()
        raise damaged(path, place, f"neither key nor record: {error or type(error).__name__}") from error
    end = unpacker.tell()
    if len(fields) != 2 * records or end != len(payload):
        what = f"the block of {records} records holds {len(fields) // 2} in its first {end} of {len(payload)} bytes"
        raise damaged(path, offset + BLOCK_HEADER_BYTES + end, what)
    pairs = list(zip(fields[::2], fields[1::2], strict=True))
    for index, (key, record) in enumerate(pairs):
        _check_pair(key, record, path, offset, index)
    return pairs


def _check_pair(key: Any, record: Any, path: str, offset: int, index: int) -> None:
    try:
        if type(key) is not bytes or not 0 < len(key) <= KEY_BYTES:
            raise bad_key(key)
        check_record(record, VALUE_BYTES_CAP)
    except (InvalidKey, InvalidRecord, ValueTooLarge) as error:
        raise damaged(path, offset, f"record {index} of this block: {error}") from error
