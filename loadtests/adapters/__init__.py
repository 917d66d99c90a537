"""The caches that users can put load on, each behind one small adapter.

Here lives the contract, and which adapter goes by which name. Never here: load, or a judgement.

    kvcache       the blocking Client
    kvcache-http  the HTTP API of any node
    redis         redis-py's RedisCluster
    memcached     pymemcache's HashClient
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Final

from loadtests import CannotRun
from loadtests.adapters.contract import BatchAnswer, CacheAdapter, NodeFigures, NoSuchCall, OpenAdapter

__all__ = ["ADAPTERS", "BatchAnswer", "CacheAdapter", "NoSuchCall", "NodeFigures", "OpenAdapter", "open_adapter"]

ADAPTERS: Final[Mapping[str, str]] = {
    "kvcache": "loadtests.adapters.kvcache_client:open_kvcache",
    "kvcache-http": "loadtests.adapters.kvcache_http:open_kvcache_http",
    "redis": "loadtests.adapters.redis_cluster:open_redis_cluster",
    "memcached": "loadtests.adapters.memcached_hash:open_memcached",
}
"""Name -> where its ``OpenAdapter`` is: imported only when asked for, as a peer's package may not be installed."""


def open_adapter(name: str, address: str, timeout: float) -> CacheAdapter:
    """Return an open adapter. Raises ``CannotRun`` with one line if there is no such cache, or no answer at ``address``."""
    place = ADAPTERS.get(name)
    if place is None:
        raise CannotRun(f"no cache is called {name!r}; there is: {', '.join(ADAPTERS)}")
    module, _, function = place.partition(":")
    opener: OpenAdapter = getattr(importlib.import_module(module), function)
    return opener(address, timeout)
