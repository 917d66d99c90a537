"""Refusals: which part of a value cannot be stored, and why.

Here lives the search for the culprit after packing has failed. Never here: packing (``codec``, ``extensions``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from kvcache_client.protocol.extensions import CONTAINERS, SCALARS, pack_scalar

__all__ = ["complaint"]

_PLAIN: Final = (type(None), bool, int, float, bytes, bytearray, memoryview, list, dict)
_STORED: Final = (
    "None, bool, int, float, str, bytes, datetime, date, time, timedelta, Decimal, UUID, "
    "or a list, tuple, dict, set or frozenset of these"
)
_DEPTH: Final = 64
"""How deep the search goes: deeper, the packer's own words have to do."""


def complaint(value: Any, error: Exception) -> str:
    """Return what is wrong with ``value``, and where, if packing it raised ``error``."""
    for path, culprit in _walk(value, "value", set()):
        reason = _refusal(culprit)
        if reason:
            return f"{path} is {reason}; a value is {_STORED}"
    return f"the value cannot be stored: {error}"


def _refusal(item: Any) -> str | None:
    kind = item.__class__
    if kind is int and not -(1 << 63) <= item < (1 << 64):
        return "an integer beyond 64 bits"
    if kind is str:
        return None if item.isascii() or _is_unicode(item) else "a str that is not valid Unicode"
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


def _walk(item: Any, path: str, seen: set[int], depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield every item with its path, each container once: a list may hold itself, even twice."""
    yield path, item
    if depth > _DEPTH or id(item) in seen:
        return
    kind = item.__class__
    if kind is list or kind is tuple:
        seen.add(id(item))
        for index, inner in enumerate(item):
            yield from _walk(inner, f"{path}[{index}]", seen, depth + 1)
    elif kind is set or kind is frozenset:
        seen.add(id(item))
        for inner in item:
            yield from _walk(inner, f"the item {inner!r:.40} of {path}", seen, depth + 1)
    elif kind is dict:
        seen.add(id(item))
        for key, inner in item.items():
            yield from _walk(key, f"the key {key!r:.40} of {path}", seen, depth + 1)
            yield from _walk(inner, f"{path}[{key!r:.40}]", seen, depth + 1)
