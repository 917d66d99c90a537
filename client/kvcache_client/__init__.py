"""kvcache_client: what a program needs to speak to a kvcache cluster.

``AsyncClient`` for asyncio, ``Client`` for threads and greenlets: the same verbs, the same brain. Everything that can go
wrong is a ``KvCacheError``; its subclasses say whether the call was applied and whether asking again can help.
"""

from kvcache_client.aio import AsyncClient
from kvcache_client.blocking import Client
from kvcache_client.bodies.aio_lock import AsyncLock
from kvcache_client.bodies.blocking_lock import Lock
from kvcache_client.core.config import ClientConfig
from kvcache_client.core.results import BatchResult, CopyReport, Entry, Explanation
from kvcache_client.core.statistics import ClientStats, NamespaceStats, NodeStats
from kvcache_client.protocol import errors as _errors
from kvcache_client.protocol import value_errors as _value_errors
from kvcache_client.protocol.errors import *  # noqa: F403  # the whole tree is public
from kvcache_client.protocol.serializers import Serializer
from kvcache_client.protocol.signed_pickle import SignedPickle
from kvcache_client.protocol.value_errors import *  # noqa: F403

__all__ = [
    "AsyncClient",
    "AsyncLock",
    "BatchResult",
    "Client",
    "ClientConfig",
    "ClientStats",
    "CopyReport",
    "Entry",
    "Explanation",
    "Lock",
    "NamespaceStats",
    "NodeStats",
    "Serializer",
    "SignedPickle",
    *_errors.__all__,
    *_value_errors.__all__,
]
