"""Layout: how a snapshot lies in its files, byte for byte.

Here live the headers of files and blocks, their checksums and their limits. Never here: what the manifest says
(``manifest``), or a file that is open. ::

    DIR/manifest.msgpack          [magic, format, checksum of the map, map]
    DIR/segment-000001.msgpack    [magic, format, id, number of the segment]
                                  [number of the block, records, checksum, payload]  [...]  ...
    payload                       key record key record ...

Every file is a stream of msgpack values, so any msgpack library can read a snapshot. Its headers use msgpack's widest
encodings only: they have one fixed length and constant bytes between their fields. So a reader knows the size of all
that comes before it reads it, and a damaged header cannot pass for another one.

A checksum is BLAKE2b (RFC 7693) of 16 bytes. A block's covers the snapshot's id, segment, block number and record count
besides the payload: a block is valid in one place of one snapshot. The checksums find accidents; they do not prove who
wrote a snapshot.
"""

from __future__ import annotations

import struct
from hashlib import blake2b
from typing import Final, NamedTuple

from kvcache_client.protocol.errors import SnapshotDamaged
from kvcache_client.protocol.limits import KEY_BYTES, VALUE_BYTES_CAP
from kvcache_client.protocol.record import HEADER_BYTES

__all__ = [
    "BLOCK_BYTES",
    "BLOCK_HEADER_BYTES",
    "BLOCK_RECORDS",
    "DIGEST_BYTES",
    "FILE_HEADER_BYTES",
    "FORMAT",
    "MANIFEST_BYTES",
    "MANIFEST_NAME",
    "PAIR_BYTES",
    "PAIR_OVERHEAD",
    "RECORD_BYTES",
    "SEGMENT_BYTES",
    "SEGMENT_PREFIX",
    "BlockHeader",
    "block_digest",
    "block_header",
    "damaged",
    "digest_of",
    "manifest_header",
    "read_block_header",
    "read_manifest_header",
    "read_segment_header",
    "segment_header",
    "segment_name",
]

FORMAT: Final = 1
"""The format that this program writes, and the only one that it reads."""

DIGEST_BYTES: Final = 16

RECORD_BYTES: Final = HEADER_BYTES + VALUE_BYTES_CAP
"""The largest record."""

PAIR_OVERHEAD: Final = 3 + 5
"""What msgpack adds to a key and a record at most."""

PAIR_BYTES: Final = KEY_BYTES + RECORD_BYTES + PAIR_OVERHEAD
"""The largest key and record as they lie in a payload."""

BLOCK_BYTES: Final = 1024 * 1024
"""The largest payload of more than one record. One record alone may take ``PAIR_BYTES``."""

BLOCK_RECORDS: Final = BLOCK_BYTES // (3 + 2 + HEADER_BYTES)
"""How many of the smallest records fit into one block."""

SEGMENT_BYTES: Final = 256 * 1024 * 1024
"""A segment ends before the block that would make it longer. Small enough for file systems and tools of any kind."""

MANIFEST_BYTES: Final = 4 * 1024 * 1024
"""The largest map in a manifest: enough for 50 TB of segments, little enough to be read at once."""

MANIFEST_NAME: Final = "manifest.msgpack"
SEGMENT_PREFIX: Final = "segment-"

_MAGIC: Final = b"kvcache-snapshot"
_ARRAY_4: Final = 0x94
_STR_16: Final = 0xB0
_UINT_8: Final = 0xCC
_UINT_32: Final = 0xCE
_BIN_32: Final = 0xC6
_BIN_16_BYTES: Final = b"\xc4\x10"

_FILE: Final = struct.Struct(">BB16sBB2s16sBI")
_BLOCK: Final = struct.Struct(">BBIBI2s16sBI")

FILE_HEADER_BYTES: Final = _FILE.size
BLOCK_HEADER_BYTES: Final = _BLOCK.size


class BlockHeader(NamedTuple):
    """What stands before a payload: the block's number in the snapshot, its records, its checksum, its length in bytes."""

    number: int
    records: int
    digest: bytes
    length: int


def damaged(file: str, offset: int, what: str) -> SnapshotDamaged:
    """Return the error that names the place; ``detail`` is the byte offset."""
    return SnapshotDamaged(f"{file}, byte {offset}: {what}", detail=offset)


def segment_name(number: int) -> str:
    """Return the file name of a segment; the first has number 1."""
    return f"{SEGMENT_PREFIX}{number:06}.msgpack"


def digest_of(data: bytes) -> bytes:
    """Return the checksum of ``data``."""
    return blake2b(data, digest_size=DIGEST_BYTES).digest()


def block_digest(snapshot_id: bytes, segment: int, number: int, records: int, payload: bytes) -> bytes:
    """Return the checksum of a block in its place."""
    state = blake2b(struct.pack(">16sIII", snapshot_id, segment, number, records), digest_size=DIGEST_BYTES)
    state.update(payload)
    return state.digest()


def manifest_header(digest: bytes, length: int) -> bytes:
    """Return what stands before the manifest's map."""
    return _file_header(digest, _BIN_32, length)


def segment_header(snapshot_id: bytes, number: int) -> bytes:
    """Return what stands before a segment's first block."""
    return _file_header(snapshot_id, _UINT_32, number)


def block_header(header: BlockHeader) -> bytes:
    """Return what stands before a payload."""
    number, records, digest, length = header
    return _BLOCK.pack(_ARRAY_4, _UINT_32, number, _UINT_32, records, _BIN_16_BYTES, digest, _BIN_32, length)


def read_manifest_header(file: str, data: bytes) -> tuple[bytes, int]:
    """Return checksum and length of the manifest's map."""
    return _read_file_header(file, data, _BIN_32)


def read_segment_header(file: str, data: bytes) -> tuple[bytes, int]:
    """Return the snapshot's id and the segment's number."""
    return _read_file_header(file, data, _UINT_32)


def read_block_header(file: str, offset: int, data: bytes) -> BlockHeader:
    """Return a block's header once it is one and its sizes are within the limits."""
    if len(data) < BLOCK_HEADER_BYTES:
        raise damaged(file, offset + len(data), "the file ends inside the header of a block")
    array, first, number, second, records, third, digest, last, length = _BLOCK.unpack(data)
    if (array, first, second, third, last) != (_ARRAY_4, _UINT_32, _UINT_32, _BIN_16_BYTES, _BIN_32):
        raise damaged(file, offset, "no block begins here")
    if not 1 <= records <= BLOCK_RECORDS:
        raise damaged(file, offset, f"a block of {records} records, it must be 1 to {BLOCK_RECORDS}")
    limit = BLOCK_BYTES if records > 1 else PAIR_BYTES
    if length > limit:
        raise damaged(file, offset, f"a block of {length} bytes for {records} records, the limit is {limit}")
    return BlockHeader(number, records, digest, length)


def _file_header(digest: bytes, marker: int, number: int) -> bytes:
    return _FILE.pack(_ARRAY_4, _STR_16, _MAGIC, _UINT_8, FORMAT, _BIN_16_BYTES, digest, marker, number)


def _read_file_header(file: str, data: bytes, marker: int) -> tuple[bytes, int]:
    if len(data) < FILE_HEADER_BYTES:
        raise damaged(file, len(data), f"the file ends inside its header of {FILE_HEADER_BYTES} bytes")
    array, text, magic, number, format_, binary, digest, last, value = _FILE.unpack(data)
    if (array, text, magic, number) != (_ARRAY_4, _STR_16, _MAGIC, _UINT_8):
        raise damaged(file, 0, "this is no file of a kvcache snapshot")
    if format_ != FORMAT:
        age = "a newer kvcache wrote it" if format_ > FORMAT else "there is no such format"
        raise damaged(file, 19, f"format {format_}, this program reads format {FORMAT} only; {age}")
    if (binary, last) != (_BIN_16_BYTES, marker):
        raise damaged(file, 20, "the header is damaged")
    return digest, value
