"""Cached functions: what the decorator ``cached`` of either client makes.

Here lives calling a function through the cache. Never here: keys (``core.templates``), or computing once (``core.computing``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from functools import partial, update_wrapper
from types import MethodType
from typing import Any, Generic, ParamSpec, TypeVar

from kvcache_client.core.templates import KeyTemplate

__all__ = ["AsyncCached", "Cached"]

P = ParamSpec("P")
R = TypeVar("R")


class Cached(Generic[P, R]):
    """A function whose results are kept. ``__wrapped__`` is the function itself; also good for methods."""

    __wrapped__: Callable[P, R]

    def __init__(
        self,
        function: Callable[P, R],
        key: str,
        compute: Callable[[str, Callable[[], R]], R],
        delete: Callable[[str], bool],
    ) -> None:
        self._template = KeyTemplate(key, function)
        self._function = function
        self._compute = compute
        self._delete = delete
        update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return the kept result, or call the function."""
        return self._compute(self.key(*args, **kwargs), partial(self._function, *args, **kwargs))

    def key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Return the key under which the result of these arguments is kept."""
        return self._template.key(args, kwargs)

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Delete the result of these arguments, also one that is being computed; returns whether there was one."""
        return self._delete(self.key(*args, **kwargs))

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    def __repr__(self) -> str:
        return f"<Cached {self._template!r}>"


class AsyncCached(Generic[P, R]):
    """The same for a coroutine function, or a function that is to be called from asyncio."""

    __wrapped__: Callable[P, Awaitable[R] | R]

    def __init__(
        self,
        function: Callable[P, Awaitable[R] | R],
        key: str,
        compute: Callable[[str, Callable[[], Awaitable[R] | R]], Coroutine[Any, Any, R]],
        delete: Callable[[str], Coroutine[Any, Any, bool]],
    ) -> None:
        self._template = KeyTemplate(key, function)
        self._function = function
        self._compute = compute
        self._delete = delete
        update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Return the kept result, or call the function."""
        return self._compute(self.key(*args, **kwargs), partial(self._function, *args, **kwargs))

    def key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Return the key under which the result of these arguments is kept."""
        return self._template.key(args, kwargs)

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, bool]:
        """Delete the result of these arguments, also one that is being computed; returns whether there was one."""
        return self._delete(self.key(*args, **kwargs))

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    def __repr__(self) -> str:
        return f"<AsyncCached {self._template!r}>"
