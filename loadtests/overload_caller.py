"""One process that reads at a rate which does not wait for answers; says what it saw as one line of JSON.

Here lives the calling, by several clients in turn, and counting by phase. Never here: clusters or goals (``tails``).

Latency counts from the time at which a call was due, so a client that falls behind hides nothing. What was sent is what the
nodes say that they were asked, from the first phase to the last.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

import uvloop

from kvcache.transport.watch import SAMPLED_VERBS
from kvcache_client import AsyncClient, ClientConfig, KvCacheError
from kvcache_client.protocol.verbs import Role, Verb
from loadtests.wire import Wire

__all__ = ["main"]

KEYS = 500
_ATTEMPTS: Final = 6

_COUNTED: Final = {verb.name for verb in SAMPLED_VERBS}
"""Verbs of clients; the others, which nodes ask each other, are counted one by one and can be taken away."""


@dataclass(slots=True)
class _Phase:
    """``rate`` calls a second for ``seconds``; what was asked for and answered, by the second in which it was due."""

    rate: float
    seconds: float
    asked: Counter[int] = field(default_factory=Counter)
    good: Counter[int] = field(default_factory=Counter)
    took: list[float] = field(default_factory=list)
    late: float = 0.0
    """How far the caller itself fell behind, at worst, in seconds."""
    errors: Counter[str] = field(default_factory=Counter)

    async def call(self, client: AsyncClient, key: str, due: float, second: int) -> None:
        self.asked[second] += 1
        try:
            found = await client.get(key)
        except KvCacheError as error:
            self.errors[type(error).__name__] += 1
        else:
            self.good[second] += found is not None
            self.took.append(asyncio.get_running_loop().time() - due)

    def as_dict(self, extra: int) -> dict[str, Any]:
        seconds = range(int(self.seconds))
        self.took.sort()
        return {
            "asked": self.asked.total(),
            "by_second": [self.asked[second] for second in seconds],
            "good": [self.good[second] for second in seconds],
            "p99": self.took[len(self.took) * 99 // 100] * 1000 if self.took else float("inf"),
            "extra": extra,
            "late": self.late * 1000,
        }


async def _run(phase: _Phase, clients: Sequence[AsyncClient], began: float, calls: set[asyncio.Task[None]]) -> float:
    """Call for one phase; returns when it was over. Calls of its last moments may still be under way."""
    clock = asyncio.get_running_loop().time
    for number in range(int(phase.rate * phase.seconds)):
        due = began + number / phase.rate
        now = clock()
        if due > now:
            await asyncio.sleep(due - now)
        else:
            phase.late = max(phase.late, now - due)
        call = phase.call(clients[number % len(clients)], f"tail:{number % KEYS}", due, int(due - began))
        task = asyncio.create_task(call)
        calls.add(task)
        task.add_done_callback(calls.discard)
    return began + phase.seconds


async def _asked(seeds: Sequence[str]) -> int:
    """Return how many reads and writes the nodes have been sent so far, those that they refused included."""
    total = 0
    for seed in seeds:
        stats = await _told_by(seed)
        others = {
            name: it["count"] for name, it in stats["requests"]["handling_seconds"].items() if name not in _COUNTED
        }
        total += stats["stream"]["requests"] - sum(others.values())
    return total


async def _told_by(seed: str) -> dict[str, Any]:
    """Return a node's counters. One that is still at what came in the overload may take several attempts."""
    for _ in range(_ATTEMPTS):
        try:
            async with Wire(seed, role=Role.ADMIN) as wire:  # operators are answered also while load is shed
                stats: dict[str, Any] = json.loads((await wire.ask(int(Verb.STATS)))[1])
                return stats
        except (TimeoutError, OSError):
            continue
    raise SystemExit(f"{seed} tells nothing in {_ATTEMPTS} attempts")


async def _measure(order: dict[str, Any]) -> dict[str, Any]:
    seeds = order["seeds"]
    clients = [AsyncClient(seeds, config=ClientConfig(hedging=order["hedging"])) for _ in range(order["clients"])]
    async with AsyncClient(seeds, timeout=30.0) as filler:
        for start in range(0, KEYS, 50):
            (await filler.set_many({f"tail:{number}": "x" * 100 for number in range(start, start + 50)})).raise_failed()
    try:
        for client in clients:
            await asyncio.gather(*(client.get(f"tail:{number}") for number in range(8)), return_exceptions=True)
        return await _phases(seeds, clients, [_Phase(rate, seconds) for rate, seconds in order["phases"]])
    finally:
        await asyncio.gather(*(client.close() for client in clients))


async def _phases(seeds: Sequence[str], clients: Sequence[AsyncClient], phases: list[_Phase]) -> dict[str, Any]:
    calls: set[asyncio.Task[None]] = set()
    before = await _asked(seeds)
    extra = [_extra(clients)]
    began = asyncio.get_running_loop().time()
    for phase in phases:
        began = await _run(phase, clients, began, calls)
        extra.append(_extra(clients))
    await asyncio.gather(*calls)
    more = [later - earlier for earlier, later in pairwise(extra)]
    return {
        "phases": [phase.as_dict(beyond) for phase, beyond in zip(phases, more, strict=True)],
        "errors": dict(sum((phase.errors for phase in phases), Counter())),
        "sent": await _asked(seeds) - before,
    }


def _extra(clients: Sequence[AsyncClient]) -> int:
    """Return how many requests clients have repeated or hedged so far, by their own account."""
    return sum(client.brain.counters.retries + client.brain.counters.hedged_reads for client in clients)


def main() -> None:
    """Carry out the order on the command line."""
    print(json.dumps(uvloop.run(_measure(json.loads(sys.argv[1])))))


if __name__ == "__main__":
    main()
