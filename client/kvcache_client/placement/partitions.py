"""Partitions: which of the 16384 fixed slices of the hash space a key belongs to.

Here lives the one hash of keys. Never here: nodes or owners (``ring``). The number of partitions never
changes, so a partition id is a lasting name: streaming, digests, statistics and ownership all speak of
partitions.
"""

from __future__ import annotations

from typing import Final

from mmh3 import mmh3_x64_128_utupledigest

__all__ = ["PARTITIONS", "PARTITION_SHIFT", "partition_of"]

PARTITIONS: Final = 16384
"""How many partitions there are; part of the agreement, never configurable."""

PARTITION_SHIFT: Final = 64 - 14
"""What is left of the first hash half after this shift is the partition."""


def partition_of(key: bytes, seed: int) -> int:
    """Return the partition of ``key``: the top 14 bits of the first half of MurmurHash3 x64_128.

    ``seed`` is the cluster's own (32 bits), so that nobody outside can aim all keys at one node.
    Source: Appleby, MurmurHash3 (public domain, 2011).
    """
    # Not hash64(key, seed, True, False): mmh3 5.3 ignores "unsigned" when it is passed by position.
    return mmh3_x64_128_utupledigest(key, seed)[0] >> PARTITION_SHIFT
