"""Refusals: which part of a value cannot be stored, and why.

Here lives the search for the culprit after packing has failed. Never here: packing (``codec``, ``extensions``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, Final, NamedTuple

from kvcache_client.protocol.extensions import CONTAINERS, SCALARS, pack_scalar
from kvcache_client.protocol.nesting import TooDeep, chain_of
from kvcache_client.protocol.shown import shown

__all__ = ["complaint"]

_PLAIN: Final = (type(None), bool, int, float, bytes, bytearray, list, dict)
_STORED: Final = (
    "None, bool, int, float, str, bytes, datetime, date, time, timedelta, Decimal, UUID, "
    "or a list, tuple, dict, set or frozenset of these"
)
_MSGPACK_DEPTH: Final = 1024
"""How deep msgpack itself follows lists and dicts."""

_PATH: Final = 160
"""Characters of a path that are shown, half of them from either end."""


class _Step(NamedTuple):
    """How to come from a container to something in it."""

    describe: Callable[[str, Any], str]
    """Returns the path of what is in it, of the path of the container and the key."""
    key: Any
    inner: Any


def complaint(value: Any, error: Exception) -> str:
    """Return what is wrong with ``value``, and where, if packing it raised ``error``."""
    for trail, culprit in _walk(value):
        reason = _refusal(culprit)
        if reason:
            return f"{_path(trail)} is {reason}; a value is {_STORED}"
    if isinstance(error, TooDeep):
        return _depth_complaint(value, error.container, error.limit)
    if type(value) in (list, dict) and "recursion" in str(error):
        return _depth_complaint(value, value, _MSGPACK_DEPTH)
    return f"the value cannot be stored: {error}"


def _depth_complaint(value: Any, container: Any, limit: int) -> str:
    """Return where the containers stand that are deeper in ``container`` than ``limit``, or which of them holds itself."""
    start = next((trail for trail, item in _walk(value) if item is container), [])
    links = chain_of(container, limit + 1)
    steps = [_step_to(inner, outer) for outer, inner in pairwise(links)]
    first: dict[int, int] = {}
    for place, link in enumerate(links):
        before = first.setdefault(id(link), place)
        if before < place:
            again = _path([*start, *steps[:before]])
            return f"{_path([*start, *steps[:place]])} is {again} again: a value that holds itself has no end"
    return (
        f"{_path(start)} is a {type(container).__name__} in which containers stand more than {limit} deep in each other, "
        f"down to {_path([*start, *steps])}"
    )


def _refusal(item: Any) -> str | None:
    kind = item.__class__
    if kind is int and not -(1 << 63) <= item < (1 << 64):
        return "an integer beyond 64 bits"
    if kind is str:
        return None if item.isascii() or _is_unicode(item) else "a str that is not valid Unicode"
    if kind is memoryview:
        return _view_refusal(item)
    if kind in _PLAIN or kind in CONTAINERS:
        return None
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    if kind in SCALARS:
        try:
            pack_scalar(item)
        except ValueError as error:
            return f"a {name} {error}"
        return None
    return f"a {name}"


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _view_refusal(view: memoryview) -> str | None:
    try:
        return None if view.c_contiguous else "a memoryview with gaps, whose bytes must be copied first: bytes(view)"
    except ValueError:
        return "a memoryview that was released"


def _walk(value: Any) -> Iterator[tuple[list[_Step], Any]]:
    """Yield every item with the way to it, each container once: a list may hold itself, even twice.

    The way is one list that goes on changing. There are no calls within calls, for a value may be deeper than these may be.
    """
    trail: list[_Step] = []
    yield trail, value
    seen = {id(value)}
    open_ = [_steps(value)]
    while open_:
        step = next(open_[-1], None)
        if step is None:
            open_.pop()
            del trail[len(open_) - 1 :]
            continue
        trail.append(step)
        yield trail, step.inner
        if id(step.inner) in seen or not _is_container(step.inner):
            trail.pop()
        else:
            seen.add(id(step.inner))
            open_.append(_steps(step.inner))


def _steps(item: Any) -> Iterator[_Step]:
    kind = item.__class__
    if kind is list or kind is tuple:
        for index, inner in enumerate(item):
            yield _Step(_at, index, inner)
    elif kind is set or kind is frozenset:
        for inner in item:
            yield _Step(_item, inner, inner)
    elif kind is dict:
        for key, inner in item.items():
            yield _Step(_key, key, key)
            yield _Step(_at, key, inner)


def _is_container(item: Any) -> bool:
    return item.__class__ in (list, dict) or item.__class__ in CONTAINERS


def _step_to(inner: Any, outer: Any) -> _Step:
    return next(step for step in _steps(outer) if step.inner is inner)


def _path(trail: list[_Step]) -> str:
    path = "value"
    for step in trail:
        path = step.describe(path, step.key)
        if len(path) > _PATH:
            path = f"{path[: _PATH // 2]}...{path[-(_PATH // 2) :]}"
    return path


def _at(path: str, key: Any) -> str:
    return f"{path}[{shown(key, 40)}]"


def _item(path: str, item: Any) -> str:
    return f"the item {shown(item, 40)} of {path}"


def _key(path: str, key: Any) -> str:
    return f"the key {shown(key, 40)} of {path}"
