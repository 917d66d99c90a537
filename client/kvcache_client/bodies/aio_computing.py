"""Computing what is missing, in asyncio: the part of AsyncClient that calls the caller's functions.

Here live ``get_or_compute`` and ``cached``. Never here: when a value is computed, and by whom (``core.computing``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from inspect import isawaitable
from typing import Any, ParamSpec, TypeVar, overload

from kvcache_client.bodies.aio_session import AsyncSession
from kvcache_client.bodies.cached import AsyncCached
from kvcache_client.core import plans
from kvcache_client.core.computing import Recipe, get_or_compute, recipe_of
from kvcache_client.core.durations import Duration, Ttl
from kvcache_client.core.space import Space
from kvcache_client.protocol.codec import Key
from kvcache_client.protocol.errors import Unavailable

__all__ = ["AsyncComputing"]

P = ParamSpec("P")
R = TypeVar("R")


class AsyncComputing:
    """What ``AsyncClient`` does beyond single verbs."""

    _session: AsyncSession
    _space: Space

    @overload  # of a union, mypy can't tell what a coroutine function returns
    async def get_or_compute(
        self,
        key: Key,
        load: Callable[[], Awaitable[R]],
        ttl: Ttl = None,
        *,
        stale: Duration | None = None,
        jitter: float = 0.0,
        negative_ttl: Duration | None = None,
        lease: Duration | None = None,
    ) -> R: ...

    @overload
    async def get_or_compute(
        self,
        key: Key,
        load: Callable[[], R],
        ttl: Ttl = None,
        *,
        stale: Duration | None = None,
        jitter: float = 0.0,
        negative_ttl: Duration | None = None,
        lease: Duration | None = None,
    ) -> R: ...

    async def get_or_compute(
        self,
        key: Key,
        load: Callable[[], Any],
        ttl: Ttl = None,
        *,
        stale: Duration | None = None,
        jitter: float = 0.0,
        negative_ttl: Duration | None = None,
        lease: Duration | None = None,
    ) -> Any:
        """Return the value; if it is missing, have it computed by ``load``, once in the whole cluster, and keep it for ``ttl``.

        Who asks meanwhile gets what comes of that. After ``ttl`` it may still be served for ``stale`` more, while one caller
        refreshes it, and if ``load`` raises. ``jitter`` shortens each life by up to that share; a None is kept for
        ``negative_ttl`` (by default like any value). ``lease`` is how long ``load`` may take before another caller is asked to do
        it; 5 s unless ``ClientConfig`` says otherwise. Durations are seconds, timedeltas or text like ``"5m"``.

        If ``load`` raises, nothing is kept and the error goes to its caller and to those of this process that wait. If the key
        is changed meanwhile, the value is returned and not kept. If no node can be reached, ``load`` is called all the same.

        >>> await cache.get_or_compute("page", lambda: "computed", ttl="5m", stale=60)
        'computed'
        """
        return await self._compute(recipe_of(self._session.brain, ttl, stale, jitter, negative_ttl, lease), key, load)

    async def _compute(self, recipe: Recipe, key: Key, load: Callable[[], Any]) -> Any:
        try:
            return await self._session.run(get_or_compute(self._session.brain, self._space, key, load, recipe))
        except Unavailable:
            if self._session.brain.view is not None:
                raise  # by load itself
            self._session.brain.counters.computed_alone += 1
            result = load()  # no seed has ever answered
            return await result if isawaitable(result) else result

    def cached(
        self,
        *,
        key: str,
        ttl: Ttl = None,
        stale: Duration | None = None,
        jitter: float = 0.0,
        negative_ttl: Duration | None = None,
        lease: Duration | None = None,
    ) -> Callable[[Callable[P, Awaitable[R]]], AsyncCached[P, R]]:
        """Return a decorator that keeps what a coroutine function, or a function, returns, as ``get_or_compute`` does.

        ``key`` is made of the arguments, like ``"user:{id}"``. The result has ``invalidate(...)`` and ``key(...)``, which take
        the function's own arguments. A function becomes a coroutine function.

        >>> @cache.cached(key="square:{number}", ttl="5m")
        ... async def square(number):
        ...     return number * number
        >>> await square(7), square.key(7), await square.invalidate(7)
        (49, 'square:7', True)
        """
        recipe = recipe_of(self._session.brain, ttl, stale, jitter, negative_ttl, lease)

        def decorate(function: Callable[P, Awaitable[R]]) -> AsyncCached[P, R]:
            return AsyncCached(function, key, partial(self._compute, recipe), self._delete)

        return decorate

    def _delete(self, key: Key) -> Coroutine[Any, Any, bool]:
        return self._session.run(plans.delete(self._session.brain, self._space, key))
