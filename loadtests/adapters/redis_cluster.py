"""redis-py's RedisCluster under load.

Here lives the contract in terms of redis-py. Never here: load, or starting servers (``peer_clusters``).

The client is opened as its users open it: one for the process, with its own pool of connections. Batches go out as redis-py's
own calls for a cluster send them, one command a node; a batch that expires goes through a pipeline, since MSET knows no TTL.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from loadtests import CannotRun
from loadtests.adapters.contract import BatchAnswer, NodeFigures, NoSuchCall

__all__ = ["RedisClusterAdapter", "open_redis_cluster"]


class RedisClusterAdapter:
    """The ``CacheAdapter`` of a RedisCluster."""

    def __init__(self, client: Any) -> None:
        from redis import exceptions

        self.client = client
        self.errors: tuple[type[Exception], ...] = (exceptions.RedisError, exceptions.RedisClusterException, OSError)
        self._unknown = (exceptions.TimeoutError, exceptions.ConnectionError, OSError)
        self.get = client.get
        self.delete = client.delete
        self.close = client.close

    def in_doubt(self, error: Exception) -> bool:
        """See the contract."""
        return isinstance(error, self._unknown)

    def answered_by(self) -> str:
        """See the contract."""
        return ""

    def set(self, key: str, value: bytes, ttl: float | None) -> Any:
        """See the contract."""
        return self.client.set(key, value) if ttl is None else self.client.set(key, value, px=_milliseconds(ttl))

    def touch(self, key: str, ttl: float | None) -> bool:
        """See the contract."""
        if ttl is not None:
            return bool(self.client.pexpire(key, _milliseconds(ttl)))
        return bool(self.client.persist(key) or self.client.exists(key))

    def incr(self, key: str, by: int) -> int:
        """See the contract."""
        return int(self.client.incrby(key, by))

    def get_many(self, keys: Sequence[str]) -> BatchAnswer:
        """See the contract."""
        values = self.client.mget_nonatomic(keys)
        return BatchAnswer({key: value for key, value in zip(keys, values, strict=True) if value is not None})

    def set_many(self, values: Mapping[str, bytes], ttl: float | None) -> BatchAnswer:
        """See the contract."""
        if ttl is None:
            self.client.mset_nonatomic(values)
        else:
            pipeline = self.client.pipeline()
            for key, value in values.items():
                pipeline.set(key, value, px=_milliseconds(ttl))
            pipeline.execute()
        return BatchAnswer(values)

    def get_or_compute(self, key: str, load: Callable[[], bytes], ttl: float, stale: float) -> Any:
        """See the contract."""
        raise NoSuchCall("redis-py has no get_or_compute")

    def node_figures(self) -> Mapping[str, NodeFigures] | None:
        """See the contract."""
        told = self.client.info(target_nodes="primaries")
        return {str(node): _figures(facts) for node, facts in told.items()}

    def __repr__(self) -> str:
        return f"<RedisClusterAdapter {len(self.client.get_nodes())} nodes>"


def _figures(facts: Mapping[str, Any]) -> NodeFigures:
    records = facts.get("db0", {}).get("keys", 0)
    return NodeFigures(facts["used_memory"], facts["maxmemory"], records, facts["evicted_keys"])


def open_redis_cluster(address: str, timeout: float) -> RedisClusterAdapter:
    """Return an adapter for the cluster at ``redis://HOST:PORT``. Raises ``CannotRun`` if it does not answer."""
    try:
        from redis.cluster import RedisCluster
        from redis.exceptions import RedisClusterException, RedisError
    except ImportError as error:
        raise CannotRun("the package redis is not installed: pip install redis") from error
    host, _, port = address.removeprefix("redis://").split(",")[0].rpartition(":")
    try:
        client = RedisCluster(host=host, port=int(port), socket_timeout=timeout, socket_connect_timeout=timeout)
    except (RedisClusterException, RedisError, OSError, ValueError) as error:
        raise CannotRun(f"no Redis cluster at {address}: {error}") from error
    return RedisClusterAdapter(client)


def _milliseconds(ttl: float) -> int:
    return max(1, math.ceil(ttl * 1000))
