"""A program that uses the whole API of Client, with the types that it gets: checked by mypy --strict, and run."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, assert_type

from kvcache_client import (
    BatchResult,
    Client,
    ClientConfig,
    ClientStats,
    CopyReport,
    Entry,
    Explanation,
    InDoubt,
    KvCacheError,
    Lock,
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


def values(cache: Client) -> None:
    """Single keys."""
    version = assert_type(cache.set("user:1", {"name": "Ada", "since": datetime.now(UTC)}, ttl=60), int)
    assert_type(cache.get("user:1"), Any)
    assert cache.get("nobody", default="default", consistency="quorum", balancing="primary") == "default"
    entry = assert_type(cache.get_entry("user:1"), Entry | None)
    assert entry is not None
    assert_type(entry.value, Any)
    assert (assert_type(entry.version, int), assert_type(entry.ttl, float | None)) == (version, entry.ttl)
    assert assert_type(cache.cas("user:1", ("a", "tuple"), entry.version), bool)
    assert assert_type(cache.add("price", Decimal("1.50"), ttl=timedelta(minutes=1)), bool)
    assert assert_type(cache.replace("price", Decimal("2.50"), acks="quorum"), bool)
    assert assert_type(cache.touch("price", ttl=30.0), bool)
    assert assert_type(cache.exists(b"price"), bool)
    assert assert_type(cache.incr("hits", by=2, initial=10), int) == 12
    assert assert_type(cache.decr("hits"), int) == 11
    assert assert_type(cache.delete("hits"), bool)


def batches(cache: Client) -> None:
    """Many keys."""
    written = assert_type(cache.set_many({"a": 1, b"b": [2]}, ttl=60), BatchResult[int])
    assert {assert_type(key, str | bytes) for key in written} == {"a", b"b"}
    found = assert_type(cache.get_many(["a", b"b", "c"]), BatchResult[Any])
    assert dict(found) == {"a": 1, b"b": [2]}
    assert "c" in assert_type(found.missing, frozenset[str | bytes])
    assert assert_type(found.failed, dict[str | bytes, KvCacheError]) == {}
    found.raise_failed()
    assert len(assert_type(cache.delete_many(["a", b"b"]), BatchResult[bool])) == 2


def scopes(cache: Client) -> None:
    """Namespaces and locks."""
    loud = assert_type(cache.namespace("loud:", serializer=Shout()), Client)
    loud.set("k", "Hello")
    assert loud.get("k") == "hello"
    with assert_type(cache.lock("tour", lease=5, timeout=5), Lock) as lock:
        cache.set("report", 1, fence=assert_type(lock.fence, int))


def looks(cache: Client) -> None:
    """What can be seen."""
    told = assert_type(cache.explain("report"), Explanation)
    assert_type(told.copies, tuple[CopyReport, ...])
    assert_type(cache.topology(), Topology)
    counters = assert_type(cache.node_statistics(), dict[str, dict[str, Any] | KvCacheError])
    assert counters.keys() == cache.brain.require_view().addresses.keys()
    stats = assert_type(cache.stats(), ClientStats)
    assert all(assert_type(node, NodeStats).p95 >= 0.0 for node in stats.nodes.values())
    assert all(0.0 <= assert_type(space, NamespaceStats).hit_ratio <= 1.0 for space in stats.namespaces.values())


def computed(cache: Client) -> None:
    """Values that are computed when they are missing."""

    def load() -> int:
        return 7

    assert assert_type(cache.get_or_compute("computed", load, ttl="5m", stale=60, jitter=0.1), int) == 7
    assert assert_type(cache.get_or_compute("plain", lambda: "text", ttl=60, negative_ttl=1.0), str) == "text"

    @cache.cached(key="user:{number}", ttl=timedelta(minutes=5))
    def user(number: int, *, loud: bool = False) -> dict[str, int]:
        return {"number": number}

    assert assert_type(user(5), dict[str, int]) == {"number": 5}
    assert assert_type(user.key(5), str) == "user:5"
    assert assert_type(user.invalidate(5), bool)


def errors(cache: Client) -> str:
    """What can go wrong, most special first."""
    try:
        cache.set("k", object())
    except UnsupportedValue as error:
        return assert_type(str(error), str)
    except UndecodableValue as error:
        return repr(error.detail)
    except (NotApplied, InDoubt) as error:
        return "again" if error.retryable else "look first"
    return "stored"


def tour(seeds: str) -> None:
    """Go through all of it."""
    with Client(seeds, config=configured()) as client:
        cache = client.namespace("blocking tour:")
        values(cache)
        batches(cache)
        scopes(cache)
        computed(cache)
        looks(cache)
        assert "value is a object" in errors(cache)
    other = Client([seeds.removeprefix("kvcache://")], timeout=5.0, connect_timeout=5.0, acks=1, fail_open=False)
    other.exists("k")
    other.close()


if __name__ == "__main__":
    tour(sys.argv[1])
