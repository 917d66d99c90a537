"""pymemcache's HashClient under load.

Here lives the contract in terms of pymemcache. Never here: load, or starting servers (``peer_clusters``).

The client is opened as its users open it for several servers and greenlets: with pools, since a plain HashClient has one
connection a server and can't be shared. It waits for the reply to a write, as all others do, and raises its errors. memcached
counts TTLs in whole seconds, so they are rounded up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from loadtests import CannotRun
from loadtests.adapters.contract import BatchAnswer, NodeFigures, NoSuchCall

__all__ = ["MemcachedAdapter", "open_memcached"]

_POOL = 1000
"""Connections to each server at most: one for each user, as many as ask at once."""


class NotStored(Exception):
    """memcached said no to some keys of a batch."""


class MemcachedAdapter:
    """The ``CacheAdapter`` of a HashClient."""

    def __init__(self, client: Any) -> None:
        from pymemcache.exceptions import MemcacheError

        self.client = client
        self.errors: tuple[type[Exception], ...] = (MemcacheError, OSError)
        self.get = client.get
        self.delete = client.delete
        self.close = client.close

    def in_doubt(self, error: Exception) -> bool:
        """See the contract."""
        from pymemcache.exceptions import MemcacheClientError, MemcacheServerError

        return not isinstance(error, (MemcacheClientError, MemcacheServerError))

    def answered_by(self) -> str:
        """See the contract."""
        return ""

    def set(self, key: str, value: bytes, ttl: float | None) -> Any:
        """See the contract."""
        return self.client.set(key, value, _seconds(ttl))

    def touch(self, key: str, ttl: float | None) -> bool:
        """See the contract."""
        return bool(self.client.touch(key, _seconds(ttl), noreply=False))

    def incr(self, key: str, by: int) -> int:
        """See the contract."""
        new = self.client.incr(key, by, noreply=False)
        if new is None:
            if self.client.add(key, str(by).encode()):
                return by
            new = self.client.incr(key, by, noreply=False)
        return int(new)

    def get_many(self, keys: Sequence[str]) -> BatchAnswer:
        """See the contract."""
        return BatchAnswer(self.client.get_many(keys))

    def set_many(self, values: Mapping[str, bytes], ttl: float | None) -> BatchAnswer:
        """See the contract."""
        refused = {key: NotStored(key) for key in self.client.set_many(values, _seconds(ttl))}
        return BatchAnswer({key: value for key, value in values.items() if key not in refused}, refused)

    def get_or_compute(self, key: str, load: Callable[[], bytes], ttl: float, stale: float) -> Any:
        """See the contract."""
        raise NoSuchCall("pymemcache has no get_or_compute")

    def node_figures(self) -> Mapping[str, NodeFigures] | None:
        """See the contract."""
        figures = {}
        for name, pool in self.client.clients.items():
            told = pool.stats()
            figures[str(name)] = NodeFigures(
                *(int(told[field]) for field in (b"bytes", b"limit_maxbytes", b"curr_items", b"evictions"))
            )
        return figures

    def __repr__(self) -> str:
        return f"<MemcachedAdapter {len(self.client.clients)} servers>"


def open_memcached(address: str, timeout: float) -> MemcachedAdapter:
    """Return an adapter for the servers at ``memcached://HOST:PORT,HOST:PORT``. Raises ``CannotRun`` if one does not answer."""
    try:
        from pymemcache.client.hash import HashClient
        from pymemcache.exceptions import MemcacheError
    except ImportError as error:
        raise CannotRun("the package pymemcache is not installed: pip install pymemcache") from error
    try:
        servers = [
            (host, int(port))
            for host, _, port in (it.rpartition(":") for it in address.removeprefix("memcached://").split(","))
        ]
        client = HashClient(
            servers,
            use_pooling=True,
            max_pool_size=_POOL,
            no_delay=True,
            default_noreply=False,
            timeout=timeout,
            connect_timeout=timeout,
        )
        for pool in client.clients.values():
            pool.version()
    except (MemcacheError, OSError, ValueError) as error:
        raise CannotRun(f"no memcached at {address}: {error}") from error
    return MemcachedAdapter(client)


def _seconds(ttl: float | None) -> int:
    return 0 if ttl is None else max(1, math.ceil(ttl))
