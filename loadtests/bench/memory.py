"""Works of memory: what a record costs beyond its key and value, and whether a budget holds.

Here lives what is written and which memory is read. Never here: how a server is started, or a goal.

Each figure comes from a fresh process, by its resident memory (VmRSS), written through the blocking client.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import random
from collections.abc import Iterable, Iterator
from typing import Final

from loadtests.bench.arena import Arena
from loadtests.bench.calls import Missed
from loadtests.bench.turns import Contestant
from loadtests.local_cluster import ClusterOptions
from loadtests.peers import BLOCKING_CLIENTS

__all__ = ["memory_budget_contestant", "memory_record_contestant", "mixed_records", "small_records"]

RECORDS: Final = 1_000_000
BUDGET_MIB: Final = 256
OVERFILL: Final = 4
_KEY_BYTES: Final = 16
_VALUE_BYTES: Final = 100
_SMALLEST, _LARGEST = 64, 4096
_BATCH: Final = 500
_CLIENT_OF: Final = {"kvcache": "kvcache", "redis-server": "redis-py", "memcached": "pymemcache"}


def small_records(count: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield ``count`` records of 16 B and 100 B, no two values alike."""
    for number in range(count):
        key = b"key:%012d" % number
        yield key, key.ljust(_VALUE_BYTES, b".")


def mixed_records(total_bytes: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield records of 64 B to 4 KiB (small ones as frequent as large ones) until they add up to ``total_bytes``."""
    sizes = random.Random(4711)
    low, high = math.log(_SMALLEST), math.log(_LARGEST)
    for number in itertools.count():
        if total_bytes <= 0:
            return
        key = b"key:%012d" % number
        value = key.ljust(int(math.exp(sizes.uniform(low, high))), b".")
        total_bytes -= len(key) + len(value)
        yield key, value


def memory_record_contestant(arena: Arena, name: str) -> Contestant:
    """Bytes per record beyond key and value, with a million small records and room for all."""

    def run(_: float) -> float:
        grown = _growth(arena, name, small_records(RECORDS), memory_mib=2048, all_stay=True)
        return grown / RECORDS - _KEY_BYTES - _VALUE_BYTES

    return Contestant(name, run)


def memory_budget_contestant(arena: Arena, name: str) -> Contestant:
    """Resident memory beyond the empty process, over a budget of 256 MiB, after writing four times that."""

    def run(_: float) -> float:
        budget = BUDGET_MIB << 20
        grown = _growth(arena, name, mixed_records(OVERFILL * budget), memory_mib=BUDGET_MIB, all_stay=False)
        return grown / budget

    return Contestant(name, run)


def _growth(arena: Arena, name: str, records: Iterable[tuple[bytes, bytes]], *, memory_mib: int, all_stay: bool) -> int:
    """Return by how many bytes a fresh server grew while the records were written."""
    spec = BLOCKING_CLIENTS[_CLIENT_OF[name]]
    with contextlib.ExitStack() as stack:
        shape = ClusterOptions(nodes=1, replicas=1, memory=f"{memory_mib}MiB")
        process, address = arena.start(spec.server, stack, shape, memory_mib)
        cache = spec.open(address)
        stack.callback(cache.close)
        cache.get(b"nothing")  # connected
        empty = process.memory_bytes()
        last: dict[bytes, bytes] = {}
        for batch in _batched(records):
            if failures := cache.failures_of(cache.set_many(batch)):
                raise Missed(f"a set_many of {len(batch)} keys failed for {failures}")
            last = batch
        full = process.memory_bytes()
        if all_stay:
            _check_all_there(cache.hits_of(cache.get_many([key for key, _ in small_records(_BATCH)])))
        _check_all_there(cache.hits_of(cache.get_many(list(last))), len(last))
    return full - empty


def _batched(records: Iterable[tuple[bytes, bytes]]) -> Iterator[dict[bytes, bytes]]:
    remaining = iter(records)
    while batch := dict(itertools.islice(remaining, _BATCH)):
        yield batch


def _check_all_there(hits: int, expected: int = _BATCH) -> None:
    if hits != expected:
        raise Missed(f"{hits} of {expected} records are there")
