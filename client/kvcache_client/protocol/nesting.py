"""Nesting: how deep the containers of a value stand in each other.

Here lives the one way to measure that, before a value is packed and after it was refused. Never here: what a container is packed
as (``extensions``), or the words of a refusal (``refusals``).

Packing calls itself for every container in another, on the stack of the C compiler, which nothing guards: too deep a value ends
the process. msgpack bounds its own calls, but begins anew for every tuple and set that we pack for it. So a value is measured
without calls within calls, level by level; in each level a container stands once, however often it is referred to.
"""

from __future__ import annotations

from collections.abc import Iterator
from gc import get_referents
from itertools import islice
from typing import Any, Final

from kvcache_client.protocol.limits import CONTAINER_DEPTH

__all__ = ["TooDeep", "chain_of", "require_depth"]

_CONTAINERS: Final = frozenset((list, dict, tuple, set, frozenset))


class TooDeep(ValueError):
    """A container in which others stand deeper than allowed; itself counts as the first."""

    def __init__(self, container: Any, limit: int) -> None:
        super().__init__(f"containers stand more than {limit} deep in each other")
        self.container = container
        self.limit = limit


def require_depth(container: Any) -> None:
    """Raise ``TooDeep`` for a list, tuple or set that is more than ``CONTAINER_DEPTH`` deep, as is one that holds itself."""
    inner = get_referents(*container)  # what its items refer to: most often nothing, which takes 2 ns an item to see
    if not inner or not get_referents(*inner):
        return
    for _ in islice(_levels(container), CONTAINER_DEPTH, None):
        raise TooDeep(container, CONTAINER_DEPTH)


def chain_of(container: Any, length: int) -> list[Any]:
    """Return containers each of which stands in the one before, from ``container`` on: ``length``, or as many as there are."""
    levels = list(islice(_levels(container), length))
    links = [next(iter(levels.pop().values()))]
    for level in reversed(levels):
        links.append(
            next(outer for outer in level.values() if any(inner is links[-1] for inner in get_referents(outer)))
        )
    return links[::-1]


def _levels(container: Any) -> Iterator[dict[int, Any]]:
    """Yield the containers at each depth by their id, without an end if one holds itself."""
    level = {id(container): container}
    while level:
        yield level
        level = {id(inner): inner for inner in get_referents(*level.values()) if type(inner) in _CONTAINERS}
