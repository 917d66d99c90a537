"""The manifest: what a snapshot is of, and how much of it there must be.

Here live its fields, their check and their encoding. Never here: files. A directory without a manifest is no snapshot,
because the manifest is written last.
"""

from __future__ import annotations

import builtins
import struct
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

import msgpack

from kvcache.cluster.snapshots.layout import (
    BLOCK_RECORDS,
    DIGEST_BYTES,
    FILE_HEADER_BYTES,
    MANIFEST_BYTES,
    damaged,
    digest_of,
    manifest_header,
    read_manifest_header,
)
from kvcache_client.placement.fields import CLUSTER_ID, NAME, check_integer, check_text, refuse
from kvcache_client.protocol.errors import InvalidOption, TopologyError
from kvcache_client.protocol.limits import KEY_BYTES
from kvcache_client.protocol.record import NEVER
from kvcache_client.protocol.version import MAX_VERSION

__all__ = ["Manifest", "Segment", "decode_manifest", "encode_manifest"]

_MOST: Final = (1 << 63) - 1
_UINT_32_MAX: Final = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class Segment:
    """What one segment file holds: its size in bytes, headers included, its blocks and its records."""

    size: int
    blocks: int
    records: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A snapshot's own description.

    ``bytes`` counts keys and records without the snapshot's headers. ``generations`` are those of the topology document
    when the snapshot was taken, for information: what they hide is not in the snapshot. ``checksum`` is of the checksums
    of all blocks in their order.
    """

    cluster: str
    cluster_id: str
    taken_at_ms: int
    generations: tuple[tuple[str, int], ...] = ()
    records: int = 0
    bytes: int = 0
    checksum: builtins.bytes = b""
    segments: tuple[Segment, ...] = ()

    def __post_init__(self) -> None:
        check_text("cluster", self.cluster, NAME)
        check_text("cluster_id", self.cluster_id, CLUSTER_ID)
        check_integer("taken_at_ms", self.taken_at_ms, 0, NEVER)
        check_integer("records", self.records, 0, _MOST)
        check_integer("bytes", self.bytes, 0, _MOST)
        for index, (prefix, version) in enumerate(self.generations):
            if type(prefix) is not str or len(prefix.encode(errors="surrogatepass")) > KEY_BYTES:
                refuse(f"generations[{index}][0]", prefix, f"text of at most {KEY_BYTES} bytes")
            check_integer(f"generations[{index}][1]", version, 0, MAX_VERSION)
        for number, segment in enumerate(self.segments, 1):
            check_integer(f"size of segment {number}", segment.size, 1, _MOST)
            check_integer(f"blocks of segment {number}", segment.blocks, 1, _UINT_32_MAX)
            check_integer(f"records of segment {number}", segment.records, 1, segment.blocks * BLOCK_RECORDS)
        if self.records != (total := sum(segment.records for segment in self.segments)):
            raise TopologyError(f"{self.records} records in all, but {total} in the segments")

    @property
    def id(self) -> builtins.bytes:
        """What binds the files of one snapshot together: 16 bytes made of its cluster and its time."""
        state = blake2b(self.cluster_id.encode(), digest_size=DIGEST_BYTES)
        state.update(struct.pack(">Q", self.taken_at_ms) + self.cluster.encode())
        return state.digest()


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the manifest's file. Raises ``InvalidOption`` when it has too many generations to be read again."""
    fields = {
        "cluster": manifest.cluster,
        "cluster_id": manifest.cluster_id,
        "taken_at_ms": manifest.taken_at_ms,
        "generations": manifest.generations,
        "records": manifest.records,
        "bytes": manifest.bytes,
        "checksum": manifest.checksum,
        "segments": [(segment.size, segment.blocks, segment.records) for segment in manifest.segments],
    }
    payload: bytes = msgpack.packb(fields, unicode_errors="surrogatepass")
    if len(payload) > MANIFEST_BYTES:
        raise InvalidOption(f"a manifest of {len(payload)} bytes, the limit is {MANIFEST_BYTES}")
    return manifest_header(digest_of(payload), len(payload)) + payload


def decode_manifest(file: str, data: bytes) -> Manifest:
    """Return what a manifest's file says. ``data`` is at most one byte longer than a manifest may be."""
    digest, length = read_manifest_header(file, data[:FILE_HEADER_BYTES])
    payload = data[FILE_HEADER_BYTES:]
    if length > MANIFEST_BYTES:
        raise damaged(file, FILE_HEADER_BYTES - 4, f"a manifest of {length} bytes, the limit is {MANIFEST_BYTES}")
    if len(payload) != length:
        end = FILE_HEADER_BYTES + min(len(payload), length)
        raise damaged(file, end, f"the file is not {FILE_HEADER_BYTES + length} bytes long, as its header says")
    if digest_of(payload) != digest:
        raise damaged(file, FILE_HEADER_BYTES, "the checksum of the manifest does not match")
    try:
        return _manifest_of(
            msgpack.unpackb(payload, max_map_len=16, max_ext_len=0, unicode_errors="surrogatepass"),
        )
    except (ValueError, TypeError, RecursionError, TopologyError, msgpack.exceptions.UnpackException) as error:
        raise damaged(
            file, FILE_HEADER_BYTES, f"the manifest makes no sense: {error or type(error).__name__}"
        ) from error


def _manifest_of(fields: Any) -> Manifest:
    """Return the manifest of a decoded map that may hold anything."""
    names = Manifest.__dataclass_fields__.keys()
    if type(fields) is not dict or fields.keys() != names:
        raise TopologyError(f"it is not a map of {', '.join(names)}")
    checksum = fields["checksum"]
    if type(checksum) is not bytes or len(checksum) != DIGEST_BYTES:
        refuse("checksum", checksum, f"{DIGEST_BYTES} bytes")
    generations = tuple((prefix, version) for prefix, version in _rows(fields, "generations"))
    segments = tuple(Segment(*row) for row in _rows(fields, "segments"))
    return Manifest(**fields | {"generations": generations, "segments": segments})


def _rows(fields: dict[str, Any], name: str) -> list[list[Any]]:
    rows = fields[name]
    if type(rows) is not list or not all(type(row) is list for row in rows):
        refuse(name, rows, "a list of lists")
    return rows
