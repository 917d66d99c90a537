"""AsyncClient: kvcache for asyncio.

Here lives the public face of the asyncio body: one line for each verb. Never here: what a verb does (``core.plans``) or how
a plan is driven (``bodies.aio_session``).
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from kvcache_client.bodies.aio_computing import AsyncComputing
from kvcache_client.bodies.aio_grantor import ClientGrantor
from kvcache_client.bodies.aio_lock import AsyncLock
from kvcache_client.bodies.aio_session import AsyncSession
from kvcache_client.bodies.surroundings import real_surroundings
from kvcache_client.bodies.tracing import Tracing, tracing_for
from kvcache_client.core import explaining, inspecting, plans
from kvcache_client.core.balancing import Balancing
from kvcache_client.core.brain import Brain
from kvcache_client.core.config import ClientConfig, configured
from kvcache_client.core.consistency import Acks
from kvcache_client.core.durations import Ttl
from kvcache_client.core.effects import Plan
from kvcache_client.core.locking import check_name
from kvcache_client.core.results import BatchResult, Entry, Explanation
from kvcache_client.core.statistics import ClientStats, client_stats
from kvcache_client.credentials import secrets_for, tls_for
from kvcache_client.placement.topology import Topology
from kvcache_client.protocol.codec import Key, Value
from kvcache_client.protocol.errors import KvCacheError
from kvcache_client.protocol.serializers import Serializer
from kvcache_client.seeds import parse_seeds

__all__ = ["AsyncClient"]

T = TypeVar("T")


class AsyncClient(AsyncComputing):
    """A kvcache cluster, for asyncio.

    ``seeds`` is ``"kvcache://host:port,host:port"`` or a list of ``"host:port"``; one living seed is enough. All calls
    share one connection per node, and what tasks ask for in one turn of the loop travels together. Belongs to the event
    loop that uses it first; after a fork, the child's first use connects anew. ``secret`` is what the cluster asks for, if it
    does; by default it comes from ``KVCACHE_SECRET_FILE`` or ``KVCACHE_SECRET``.

    >>> async with AsyncClient("kvcache://127.0.0.1:7700") as cache:
    ...     version = await cache.set("user:1", {"name": "Ada"}, ttl=60)
    ...     await cache.get("user:1")
    {'name': 'Ada'}
    """

    _tracing: Tracing | None = None

    def __init__(
        self,
        seeds: str | Sequence[str] = "127.0.0.1:7700",
        *,
        timeout: float | None = None,
        connect_timeout: float | None = None,
        acks: Acks | None = None,
        cluster: str | None = None,
        fail_open: bool | None = None,
        secret: str | None = None,
        config: ClientConfig | None = None,
    ) -> None:
        addresses, name = parse_seeds(seeds)
        config = configured(
            config,
            name,
            timeout=timeout,
            connect_timeout=connect_timeout,
            acks=acks,
            cluster=cluster,
            fail_open=fail_open,
            secrets=secrets_for(secret, anywhere=config is None),
            tls=tls_for(seeds, anywhere=config is None),
        )
        self._session = AsyncSession(addresses, config, real_surroundings())
        self._space = self.brain.spaces.whole
        self._tracing = tracing_for(config)
        if self._tracing is not None:
            self._session = self._tracing.observing(self._session)
            self._tracing.wrap(self, self._space, awaited=True)

    @property
    def brain(self) -> Brain:
        """What this client knows: view, clock, health, counters."""
        return self._session.brain

    @property
    def session(self) -> AsyncSession:
        """What this client shares with its namespaces."""
        return self._session

    def run(self, plan: Plan[T]) -> Coroutine[Any, Any, T]:
        """Drive a plan of ``core``; the verbs below are made of this."""
        return self._session.run(plan)

    def namespace(self, prefix: Key, *, serializer: str | Serializer | None = None) -> Self:
        """Return the same client with every key prefixed; it shares all connections and needs no closing of its own.

        ``serializer`` replaces that of ``ClientConfig`` for what is written here.

        >>> shop = cache.namespace("shop:")
        >>> version = await shop.set("k", 1)
        >>> await cache.get("shop:k")
        1
        """
        scoped = object.__new__(type(self))
        scoped._session = self._session
        scoped._space = self.brain.spaces.within(self._space, prefix, serializer)
        scoped._tracing = self._tracing
        if scoped._tracing is not None:
            scoped._tracing.wrap(scoped, scoped._space, awaited=True)
        return scoped

    def get(
        self, key: Key, default: Any = None, *, consistency: str | None = None, balancing: str | Balancing | None = None
    ) -> Coroutine[Any, Any, Value]:
        """Return the value, or ``default`` on a miss. ``get_entry`` tells a stored None from a miss.

        ``consistency`` is "one", "quorum" or "all". Raises ``Unavailable`` or ``DeadlineExceeded`` if no copy could be read, and
        ``UndecodableValue`` for a value that this client can't make sense of.

        >>> version = await cache.set("user:1", {"name": "Ada"}, ttl=60)
        >>> await cache.get("user:1"), await cache.get("nobody", default="nothing")
        ({'name': 'Ada'}, 'nothing')
        """
        return self._session.run(plans.get(self._session.brain, self._space, key, default, consistency, balancing))

    def get_entry(
        self, key: Key, *, consistency: str | None = None, balancing: str | Balancing | None = None
    ) -> Coroutine[Any, Any, Entry | None]:
        """Return value, version and seconds left, or None on a miss. Raises as ``get``.

        >>> version = await cache.set("k", None)
        >>> await cache.get_entry("k") == Entry(value=None, version=version, ttl=None)
        True
        """
        return self.run(plans.get_entry(self.brain, self._space, key, consistency, balancing))

    def set(
        self,
        key: Key,
        value: Value,
        ttl: Ttl = None,
        *,
        fence: int | None = None,
        acks: Acks | None = None,
        strict: bool = False,
    ) -> Coroutine[Any, Any, int]:
        """Write a value and return its version. ``ttl`` is seconds, a timedelta, or None: until memory is needed.

        On return as many owners as ``acks`` says hold it (2 by default; "one", "quorum", "all"). ``fence`` is that of a lock: a
        node that holds a value written under a higher one refuses with ``StaleFence``. Raises ``UnsupportedValue``,
        ``ValueTooLarge``, ``InvalidTtl`` before anything is sent, ``Unavailable`` if nothing was written, ``InDoubt`` if too few
        have confirmed it.

        Of two writes at the same time the one with the newer version stays; which is whose makes no difference to most
        callers. With ``strict`` the one that met the newer raises ``Superseded``.

        >>> await cache.set("user:1", ["Ada", (1815, 12)], ttl=0.5) > 0
        True
        """
        return self._session.run(
            plans.set_value(self._session.brain, self._space, key, value, ttl, fence, acks, strict)
        )

    def add(
        self, key: Key, value: Value, ttl: Ttl = None, *, acks: Acks | None = None, operation: int | None = None
    ) -> Coroutine[Any, Any, bool]:
        """Write only if the key is absent. Not a lock: see ``cas`` for read-modify-write. Raises as ``cas``.

        >>> await cache.add("once", 1, ttl=60), await cache.add("once", 2, ttl=60)
        (True, False)
        """
        return self.run(plans.add(self.brain, self._space, key, value, ttl, acks, operation))

    def replace(
        self, key: Key, value: Value, ttl: Ttl = None, *, acks: Acks | None = None, operation: int | None = None
    ) -> Coroutine[Any, Any, bool]:
        """Write only if the key is there. Raises as ``cas``.

        >>> await cache.replace("nobody", 1)
        False
        """
        return self.run(plans.replace(self.brain, self._space, key, value, ttl, acks, operation))

    def cas(
        self,
        key: Key,
        value: Value,
        version: int,
        ttl: Ttl = None,
        *,
        acks: Acks | None = None,
        operation: int | None = None,
    ) -> Coroutine[Any, Any, bool]:
        """Write only if the key still has ``version``; False when another writer was first.

        Raises ``NotApplied`` (``Unavailable``, ...) if for certain nothing was written, and ``InDoubt`` if that is not known.

        >>> version = await cache.set("stock", 5)
        >>> await cache.cas("stock", 4, version), await cache.cas("stock", 3, version)
        (True, False)
        """
        return self.run(plans.cas(self.brain, self._space, key, value, version, ttl, acks, operation))

    def delete(self, key: Key, *, acks: Acks | None = None) -> Coroutine[Any, Any, bool]:
        """Delete the key; returns whether there was something to delete. Raises as ``set``; it may be repeated at will.

        >>> await cache.delete("nobody")
        False
        """
        return self.run(plans.delete(self.brain, self._space, key, acks))

    def exists(self, key: Key) -> Coroutine[Any, Any, bool]:
        """Say whether the key has a value. Raises as ``get``.

        >>> await cache.exists("nobody")
        False
        """
        return self.run(plans.exists(self.brain, self._space, key))

    def touch(
        self, key: Key, ttl: Ttl = None, *, acks: Acks | None = None, operation: int | None = None
    ) -> Coroutine[Any, Any, bool]:
        """Give the key another time to live (``ttl``: seconds, a timedelta, or None for ever); returns whether it is there.

        >>> version = await cache.set("session", 1, ttl=1)
        >>> await cache.touch("session", ttl=3600), (await cache.get_entry("session")).ttl > 3000
        (True, True)
        """
        return self.run(plans.touch_key(self.brain, self._space, key, ttl, acks, operation))

    def incr(
        self,
        key: Key,
        by: int = 1,
        initial: int | None = 0,
        ttl: Ttl = None,
        *,
        acks: Acks | None = None,
        operation: int | None = None,
    ) -> Coroutine[Any, Any, int]:
        """Add ``by`` and return the new number. A missing key starts at ``initial``, and only then gets ``ttl``.

        Applied once: when an answer is lost, the same operation is asked again, which nodes recognise. If that settles nothing in
        time, ``InDoubt`` is raised; ``incr(..., operation=error.operation)`` asks again later. See ``InDoubt``. Raises
        ``NotAnInteger`` for another kind of value, and ``CounterOverflow`` beyond 64 bits, signed.

        >>> await cache.incr("hits", initial=100), await cache.incr("hits", by=5)
        (101, 106)
        """
        return self.run(plans.incr(self.brain, self._space, key, by, initial, ttl, acks, operation))

    def decr(
        self,
        key: Key,
        by: int = 1,
        initial: int | None = 0,
        ttl: Ttl = None,
        *,
        acks: Acks | None = None,
        operation: int | None = None,
    ) -> Coroutine[Any, Any, int]:
        """Subtract ``by`` and return the new number; otherwise as ``incr``.

        >>> await cache.decr("left", initial=10)
        9
        """
        return self.run(plans.decr(self.brain, self._space, key, by, initial, ttl, acks, operation))

    def get_many(
        self, keys: Iterable[Key], *, consistency: str | None = None, balancing: str | Balancing | None = None
    ) -> Coroutine[Any, Any, BatchResult[Value]]:
        """Return the values of many keys, up to 1024 in one round trip to each node and up to 100,000 in all.

        What went wrong with a key is in ``failed``; only what is wrong with the call as a whole is raised. Keys for which the
        timeout of the client was too short are there too, with ``DeadlineExceeded``.

        >>> written = await cache.set_many({"a": 1, "b": 2})
        >>> found = await cache.get_many(["a", "b", "c"])
        >>> dict(found), set(found.missing), found.failed
        ({'a': 1, 'b': 2}, {'c'}, {})
        """
        return self.run(plans.get_many(self.brain, self._space, keys, consistency, balancing))

    def set_many(
        self, values: Mapping[Key, Value], ttl: Ttl = None, *, acks: Acks | None = None
    ) -> Coroutine[Any, Any, BatchResult[int]]:
        """Write many values; the result maps each key to its version. Nothing is sent if one of them can't be stored.

        What there is no time for any more (``timeout``) is not sent: such keys are in ``failed`` with ``DeadlineExceeded``, those
        just on their way with ``InDoubt``, and can be written again.

        >>> sorted(await cache.set_many({"a": 1, "b": 2}, ttl=60))
        ['a', 'b']
        """
        return self.run(plans.set_many(self.brain, self._space, values, ttl, acks))

    def delete_many(self, keys: Iterable[Key], *, acks: Acks | None = None) -> Coroutine[Any, Any, BatchResult[bool]]:
        """Delete many keys; those that were not there are ``missing``, and ``failed`` is as that of ``set_many``.

        >>> written = await cache.set_many({"a": 1})
        >>> gone = await cache.delete_many(["a", "b"])
        >>> dict(gone), set(gone.missing)
        ({'a': True}, {'b'})
        """
        return self.run(plans.delete_many(self.brain, self._space, keys, acks))

    def lock(self, name: str, *, lease: float = 10.0, timeout: float = 10.0) -> AsyncLock:
        """Return the lock ``name`` of the cluster, to be held by ``async with``; a namespace prefixes its name.

        ``lease`` and ``timeout`` are seconds: how long the lock outlives a holder that died, and how long to wait for it. It is
        renewed while the block runs. Good for doing work once at a time, to save effort. Not a proof: whoever was paused may
        go on after the lease. Where that would do harm, write with ``set(..., fence=lock.fence)``, which nodes check. Entering
        raises ``AdminBusy`` if somebody else has it for too long, ``ControlPlaneUnavailable`` if nobody can give it.

        >>> async with cache.lock("nightly", lease=5) as lock:
        ...     version = await cache.set("report", "ready", fence=lock.fence)
        """
        prefix = self._space.prefix.decode(errors="replace")
        return AsyncLock(ClientGrantor(self._session), f"user:{check_name(name, prefix)}", lease=lease, timeout=timeout)

    def explain(self, key: Key) -> Coroutine[Any, Any, Explanation]:
        """Return where the key lives and why, what each place holds, and which node a read would ask. Raises nothing of theirs.

        >>> told = await cache.explain("user:1")
        >>> told.copies[0].role, told.copies[0].state, 0 <= told.partition < 16384
        ('primary', 'up', True)
        """
        return self.run(explaining.explain(self.brain, self._space, key))

    def topology(self) -> Coroutine[Any, Any, Topology]:
        """Return the newest topology that any node tells.

        >>> (await cache.topology()).replication_factor
        2
        """
        return self.run(inspecting.topology(self.brain))

    def stats(self) -> ClientStats:
        """Return what this client has seen of its nodes and its keys, its namespaces included. Sends nothing; times are seconds.

        >>> value = await cache.get("nobody")
        >>> cache.stats().misses["absent"] > 0
        True
        """
        return client_stats(self.brain)

    def node_statistics(self) -> Coroutine[Any, Any, dict[str, dict[str, Any] | KvCacheError]]:
        """Return each node's counters, or why it did not tell.

        >>> counters = await cache.node_statistics()
        >>> {told["node"]["ready"] for told in counters.values()}
        {True}
        """
        return self.run(inspecting.node_statistics(self.brain))

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def __aenter__(self) -> Self:
        try:
            await self._session.open_or_fail_open()
        except BaseException:
            await self._session.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<AsyncClient {self._session!r}>"
