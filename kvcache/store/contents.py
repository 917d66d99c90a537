"""What one partition holds: read through in the order of its keys, or summed up in one number.

Here lives the reading of a whole partition for another node. Never here: a change to it.

A scan needs no cursor in the store: keys come in byte order and the caller says after which one to go on, so records may
come and go between two calls, and one that stays is met exactly once. A digest is equal on two nodes that hold the same
versions of the same keys, whichever order they came in and whatever queue they lie in.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Final
from zlib import crc32

from kvcache.store.table import Table
from kvcache_client.protocol.record import HEADER_BYTES, TOMBSTONE_MS

__all__ = ["digest_of", "records_of", "scan_table"]

_PRIME: Final = (1 << 64) - 59
"""The largest prime of 64 bits."""

_VERSION_AND_EXPIRY: Final = Struct(">Q6s")


Belongs = Callable[[bytes], bool] | None
"""Whether a key is of the partition that is meant; None where all keys of the table are."""


def scan_table(
    table: Table,
    after: bytes,
    limit_bytes: int,
    with_payload: bool,
    visible: Callable[[bytes | None], bytes | None],
    belongs: Belongs = None,
) -> tuple[list[tuple[bytes, bytes]], bool]:
    """Return records of keys above ``after``, or their headers, as ``Store.scan`` says."""
    homes = (table.main, table.small, table.graves)
    rows: list[tuple[bytes, bytes]] = []
    room = limit_bytes
    for key in sorted([key for home in homes for key in home if key > after and (belongs is None or belongs(key))]):
        record = visible(table.find(key) or table.graves.get(key))
        if record is None:
            continue
        if rows and room <= 0:
            return rows, True
        shown = record if with_payload else record[:HEADER_BYTES]
        rows.append((key, shown))
        room -= len(key) + len(shown)
    return rows, False


def records_of(
    table: Table, visible: Callable[[bytes | None], bytes | None], belongs: Belongs = None
) -> list[tuple[bytes, bytes]]:
    """Return each key with its record, tombstones included, as ``Store.records`` says."""
    entries = ((key, home[key]) for home in (table.main, table.small, table.graves) for key in home)
    seen = ((key, visible(record)) for key, record in entries if belongs is None or belongs(key))
    return [(key, record) for key, record in seen if record is not None]


def digest_of(table: Table, forget_ms: int, belongs: Belongs = None) -> int:
    """Return the sum of ``checksum(key) * version`` over all records, modulo a prime of 64 bits.

    ``forget_ms`` is the time up to which tombstones are over. A single other version always shows; a single key in the place
    of another is missed once in 2**32. The product is what makes two keys that swapped their versions show, which a sum
    or an exclusive or of checksums would not. Value and tombstone of one version count alike, so that clocks a little apart
    agree on a record that expires between their digests.
    """
    total = 0
    read = _VERSION_AND_EXPIRY.unpack_from
    values_over = max(0, forget_ms - TOMBSTONE_MS)  # an expired value is its tombstone for that long
    for home, over_ms in ((table.main, values_over), (table.small, values_over), (table.graves, forget_ms)):
        over = over_ms.to_bytes(6, "big")
        for key, record in home.items():
            version, expiry = read(record)
            if expiry > over and (belongs is None or belongs(key)):
                total += (crc32(key) + 1) * (version + 1)
    return total % _PRIME
