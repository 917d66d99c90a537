"""What the tests of snapshots share: small snapshots on disk, and their contents."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeAlias

from kvcache.cluster.snapshots import SnapshotReader, SnapshotWriter
from kvcache_client.protocol.record import NEVER, make_record, tombstone

Pair: TypeAlias = tuple[bytes, bytes]

ORIGIN: dict[str, Any] = {"cluster": "shop", "cluster_id": "00c0ffee00c0ffee", "taken_at_ms": 1_700_000_000_000}

SMALL: list[Pair] = [
    (b"a", make_record(1, NEVER, 0, b"")),
    (b"user:1", make_record(2, 1_700_000_060_000, 1, b"Ada")),
    (b"gone", tombstone(3, 1_700_001_800_000)),
    (b"k" * 40, make_record(4, NEVER, 3, b"42")),
    (b"\x00\xff", make_record(5, NEVER, 0x22, b"\xc1" * 30)),
]
"""In blocks of at most 80 bytes these make four blocks, in segments of at most 230 bytes two files."""

TIGHT: dict[str, Any] = {"block_bytes": 80, "segment_bytes": 230}


def write(directory: Path, pairs: Iterable[Pair] = SMALL, **options: Any) -> Path:
    """Write a snapshot and return its directory."""
    with SnapshotWriter(directory, **ORIGIN | options) as writer:
        for key, record in pairs:
            writer.add(key, record)
    return directory


def read(directory: Path) -> list[Pair]:
    """Return all records of a snapshot."""
    return [pair for block in SnapshotReader(directory) for pair in block]


def files(directory: Path) -> list[Path]:
    return sorted(directory.iterdir())
