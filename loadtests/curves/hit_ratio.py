"""Hit ratio: a trace through one server, in its order.

Here lives batching and counting. Never here: starting a server (``servers``), or how many bytes it gets (``budgets``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from loadtests.curves.servers import SYSTEMS, BudgetedServer
from loadtests.trace import Trace, key_of, value_of

__all__ = ["BATCH", "HitPoint", "batches", "hit_point", "replayed"]

BATCH: Final = 32
"""Requests that are asked at once, if their keys differ."""


@dataclass(frozen=True, slots=True)
class HitPoint:
    """One server's run through one trace; ``grown_bytes`` is resident memory over the empty server at its end."""

    trace: str
    system: str
    memory_mib: int
    requests: int
    hits: int
    refused: int
    records: int
    grown_bytes: int

    @property
    def hit_ratio(self) -> float:
        """Hits among all requests, 0 to 1."""
        return self.hits / self.requests if self.requests else 0.0


def batches(requests: Iterable[tuple[int, int]], limit: int = BATCH) -> Iterator[dict[bytes, int]]:
    """Yield the requests as (key -> bytes of its value), consecutive and each key once: a repeated one begins a new batch."""
    batch: dict[bytes, int] = {}
    for number, size in requests:
        key = key_of(number)
        if key in batch or len(batch) >= limit:
            yield batch
            batch = {}
        batch[key] = size
    if batch:
        yield batch


def replayed(
    requests: Iterable[tuple[int, int]],
    holds: Callable[[list[bytes]], set[bytes]],
    store: Callable[[Mapping[bytes, bytes]], int],
) -> tuple[int, int]:
    """Ask for each request's key and store what is missing; return the hits, and how many stores were refused."""
    hits = refused = 0
    for batch in batches(requests):
        there = holds(list(batch))
        hits += len(there)
        missing = {key: value_of(key, size) for key, size in batch.items() if key not in there}
        if missing:
            refused += store(missing)
    return hits, refused


def hit_point(trace: Trace, system: str, memory_mib: int) -> HitPoint:
    """Send the trace through a new server with this budget. Raises ``CannotRun``."""
    with SYSTEMS[system](memory_mib) as server:
        return _measured(server, trace, system, memory_mib)


def _measured(server: BudgetedServer, trace: Trace, system: str, memory_mib: int) -> HitPoint:
    server.holds([b"nothing"])  # connected
    empty = server.process.memory_bytes()
    hits, refused = replayed(trace, server.holds, server.store)
    grown = server.process.memory_bytes() - empty
    return HitPoint(trace.name, system, memory_mib, len(trace), hits, refused, server.records(), grown)
