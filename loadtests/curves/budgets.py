"""Budgets: how many bytes each system gets.

Here lives arithmetic. Never here: a server.

A budget is a share of the trace's *footprint*, the bytes of its distinct keys and their values without any overhead, in whole
MiB, because memcached counts in nothing smaller. Equal bytes means what a server grows by over its empty self:

kvcache    ``--memory`` is that by definition: resident memory stays within a tenth of empty process + budget.
Redis      ``maxmemory`` counts what the empty server uses too, so that is added to it.
memcached  ``-m`` counts pages of 1 MiB, and each size class takes a whole page however little is in it: with its 40-odd
           default classes a mixed trace takes 20 MiB at ``-m 4``. It runs with classes that double (``-f 2``), with which it
           keeps a small budget and, on these traces, hits more often than with its default. Its hash table comes on top of
           ``-m`` and is not held against it.

What each server really grew by is measured and reported beside its hit ratio.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

__all__ = ["LEAST_MIB", "SHARES", "budgets_mib", "footprint"]

SHARES: Final = (0.25, 0.375, 0.5, 0.75, 1.0)
"""Of the footprint, in rising order."""

LEAST_MIB: Final = 2
"""With one page memcached refuses to store; kvcache's least is 1 MiB."""

_MIB: Final = 1 << 20


def footprint(requests: Iterable[tuple[bytes, int]]) -> int:
    """Return the bytes of all distinct keys and the values that they had last; requests are (key, bytes of its value)."""
    sizes = dict(requests)
    return sum(len(key) + size for key, size in sizes.items())


def budgets_mib(footprint_bytes: int, shares: Iterable[float] = SHARES) -> list[int]:
    """Return a budget for each share, in whole MiB: the nearest, but no two alike and none below the least."""
    budgets: list[int] = []
    for share in shares:
        nearest = round(share * footprint_bytes / _MIB)
        budgets.append(max(nearest, budgets[-1] + 1 if budgets else LEAST_MIB))
    return budgets
