"""What both clients promise of large batches, over real sockets: every key has its outcome, and no node suffers or is blamed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from polling import PATIENCE

from kvcache_client import InDoubt, KvCacheError, NotApplied

KEYS = [f"key-{number}" for number in range(20_000)]

CALLS: dict[str, Callable[[Any], Any]] = {
    "set_many": lambda cache: cache.set_many(dict.fromkeys(KEYS, 1)),
    "get_many": lambda cache: cache.get_many(KEYS),
    "delete_many": lambda cache: cache.delete_many(iter(KEYS)),
}


async def test_a_large_batch_succeeds_where_there_is_time(open_client: Any, cluster: Any) -> None:
    cache = open_client(cluster.seeds, timeout=60.0).namespace("patient:")
    assert len(await cache.set_many(dict.fromkeys(KEYS, 1))) == len(KEYS)
    assert dict(await cache.get_many(KEYS)) == dict.fromkeys(KEYS, 1)
    assert len(await cache.delete_many(KEYS)) == len(KEYS)


async def test_many_megabytes_are_written_and_read_where_there_is_time(open_client: Any, cluster: Any) -> None:
    cache = open_client(cluster.seeds, timeout=60.0).namespace("large:")
    values = {f"{number}": bytes([number]) * 1_000_000 for number in range(24)}
    assert set(await cache.set_many(values)) == set(values)
    found = await cache.get_many(values)
    assert not found.failed
    assert dict(found).items() <= values.items()
    assert set(found) | found.missing == set(values)  # these nodes have room for some of them


@pytest.mark.parametrize("verb", CALLS)
async def test_a_large_batch_in_a_hurry_has_an_outcome_for_each_key(open_client: Any, cluster: Any, verb: str) -> None:
    cache = open_client(cluster.seeds, timeout=0.1)
    result = await CALLS[verb](cache.namespace("hasty:"))
    parts = (set(result), set(result.missing), set(result.failed))
    assert set.union(*parts) == set(KEYS)
    assert sum(map(len, parts)) == len(KEYS)
    assert all(isinstance(error, NotApplied | InDoubt) for error in result.failed.values())
    deadline = time.monotonic() + PATIENCE
    while True:  # a busy machine may take longer than that for one key, too
        try:
            assert await cache.set("k", 1)
            assert await cache.get("k") == 1
            break
        except KvCacheError:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.005)
