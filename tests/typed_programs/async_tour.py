"""A program that uses the whole API of AsyncClient, with the types that it gets: checked by mypy --strict, and run."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, assert_type

from kvcache_client import (
    AsyncClient,
    AsyncLock,
    BatchResult,
    ClientConfig,
    ClientStats,
    CopyReport,
    Entry,
    Explanation,
    InDoubt,
    KvCacheError,
    NamespaceStats,
    NodeStats,
    NotApplied,
    Serializer,
    SignedPickle,
    UndecodableValue,
    UnsupportedValue,
)
from kvcache_client.placement.topology import Topology


class Shout:
    """A serializer of one's own: text in capitals."""

    name = "shout"

    def dumps(self, value: Any, /) -> bytes:
        """Return the text in capitals."""
        return str(value).upper().encode()

    def loads(self, data: bytes, /) -> Any:
        """Return the text in small letters."""
        return data.decode().lower()


def configured() -> ClientConfig:
    """Return options; every one of them may be left out."""
    readable: tuple[Serializer, ...] = (SignedPickle(b"sixteen bytes or more"),)
    return ClientConfig(timeout=5.0, connect_timeout=5.0, acks="all", serializers=readable, compression="lz4")


async def values(cache: AsyncClient) -> None:
    """Single keys."""
    version = assert_type(await cache.set("user:1", {"name": "Ada", "since": datetime.now(UTC)}, ttl=60), int)
    assert_type(await cache.get("user:1"), Any)
    assert await cache.get("nobody", default="default", consistency="quorum", balancing="primary") == "default"
    entry = assert_type(await cache.get_entry("user:1"), Entry | None)
    assert entry is not None
    assert_type(entry.value, Any)
    assert (assert_type(entry.version, int), assert_type(entry.ttl, float | None)) == (version, entry.ttl)
    assert assert_type(await cache.cas("user:1", ("a", "tuple"), entry.version), bool)
    assert assert_type(await cache.add("price", Decimal("1.50"), ttl=timedelta(minutes=1)), bool)
    assert assert_type(await cache.replace("price", Decimal("2.50"), acks="quorum"), bool)
    assert assert_type(await cache.touch("price", ttl=30.0), bool)
    assert assert_type(await cache.exists(b"price"), bool)
    assert assert_type(await cache.incr("hits", by=2, initial=10), int) == 12
    assert assert_type(await cache.decr("hits"), int) == 11
    assert assert_type(await cache.delete("hits"), bool)


async def batches(cache: AsyncClient) -> None:
    """Many keys."""
    written = assert_type(await cache.set_many({"a": 1, b"b": [2]}, ttl=60), BatchResult[int])
    assert {assert_type(key, str | bytes) for key in written} == {"a", b"b"}
    found = assert_type(await cache.get_many(["a", b"b", "c"]), BatchResult[Any])
    assert dict(found) == {"a": 1, b"b": [2]}
    assert "c" in assert_type(found.missing, frozenset[str | bytes])
    assert assert_type(found.failed, dict[str | bytes, KvCacheError]) == {}
    found.raise_failed()
    assert len(assert_type(await cache.delete_many(["a", b"b"]), BatchResult[bool])) == 2


async def scopes(cache: AsyncClient) -> None:
    """Namespaces and locks."""
    loud = assert_type(cache.namespace("loud:", serializer=Shout()), AsyncClient)
    await loud.set("k", "Hello")
    assert await loud.get("k") == "hello"
    async with assert_type(cache.lock("tour", lease=5, timeout=5), AsyncLock) as lock:
        await cache.set("report", 1, fence=assert_type(lock.fence, int))


async def looks(cache: AsyncClient) -> None:
    """What can be seen."""
    told = assert_type(await cache.explain("report"), Explanation)
    assert_type(told.copies, tuple[CopyReport, ...])
    assert_type(await cache.topology(), Topology)
    counters = assert_type(await cache.node_statistics(), dict[str, dict[str, Any] | KvCacheError])
    assert counters.keys() == cache.brain.require_view().addresses.keys()
    stats = assert_type(cache.stats(), ClientStats)
    assert all(assert_type(node, NodeStats).p95 >= 0.0 for node in stats.nodes.values())
    assert all(0.0 <= assert_type(space, NamespaceStats).hit_ratio <= 1.0 for space in stats.namespaces.values())


async def computed(cache: AsyncClient) -> None:
    """Values that are computed when they are missing."""

    async def load() -> int:
        return 7

    assert assert_type(await cache.get_or_compute("computed", load, ttl="5m", stale=60, jitter=0.1), int) == 7
    assert assert_type(await cache.get_or_compute("plain", lambda: "text", ttl=60, negative_ttl=1.0), str) == "text"

    @cache.cached(key="user:{number}", ttl=timedelta(minutes=5))
    async def user(number: int, *, loud: bool = False) -> dict[str, int]:
        return {"number": number}

    assert assert_type(await user(5), dict[str, int]) == {"number": 5}
    assert assert_type(user.key(5), str) == "user:5"
    assert assert_type(await user.invalidate(5), bool)


async def errors(cache: AsyncClient) -> str:
    """What can go wrong, most special first."""
    try:
        await cache.set("k", object())
    except UnsupportedValue as error:
        return assert_type(str(error), str)
    except UndecodableValue as error:
        return repr(error.detail)
    except (NotApplied, InDoubt) as error:
        return "again" if error.retryable else "look first"
    return "stored"


async def tour(seeds: str) -> None:
    """Go through all of it."""
    async with AsyncClient(seeds, config=configured()) as client:
        cache = client.namespace("async tour:")
        await values(cache)
        await batches(cache)
        await scopes(cache)
        await computed(cache)
        await looks(cache)
        assert "value is a object" in await errors(cache)
    other = AsyncClient([seeds.removeprefix("kvcache://")], timeout=5.0, connect_timeout=5.0, acks=1, fail_open=False)
    await other.exists("k")
    await other.close()


if __name__ == "__main__":
    asyncio.run(tour(sys.argv[1]))
