"""One client process of a measurement of tails: reads for some seconds, says what it saw as one line of JSON.

Here lives the calling, with nothing but ``kvcache_client``: the same file measures another checkout, found by PYTHONPATH.
Never here: clusters, faults or goals (``tails``).
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from itertools import cycle
from typing import Any

import uvloop

from kvcache_client import AsyncClient, ClientConfig, KvCacheError

__all__ = ["main"]

KEYS = 2000


async def _fill(cache: AsyncClient) -> None:
    keys = [f"tail:{number}" for number in range(KEYS)]
    failed = (await cache.set_many(dict.fromkeys(keys, b"x" * 100))).failed
    if failed:
        raise SystemExit(f"could not fill: {next(iter(failed.values()))}")


async def _call(
    cache: AsyncClient, first: int, until: float, pause: float, took: list[float], failed: list[str]
) -> None:
    keys = random.Random(first).sample([f"tail:{number}" for number in range(KEYS)], KEYS)
    clock = time.perf_counter
    for key in cycle(keys):
        began = clock()
        if began > until:
            return
        try:
            if await cache.get(key) is None:
                failed.append("miss")
        except KvCacheError as error:
            failed.append(f"{type(error).__name__}: {error}"[:160])
        took.append(clock() - began)
        if pause:
            await asyncio.sleep(pause)


async def _measure(order: dict[str, Any]) -> dict[str, Any]:
    config = ClientConfig(timeout=order["timeout"], name="tails", **order.get("options", {}))
    async with AsyncClient(order["seeds"], timeout=10.0) as filler:
        await _fill(filler)
    async with AsyncClient(order["seeds"], config=config) as cache:
        await _run(cache, order, order["warm_up"])
        counters = cache.brain.counters
        before = {name: getattr(counters, name, 0) for name in ("hedged_reads", "hedges_won", "retries")}
        cpu = time.process_time()
        took, failed = await _run(cache, order, order["seconds"])
        cpu = time.process_time() - cpu
        took.sort()
        places = {"p50": 0.5, "p99": 0.99, "p999": 0.999}
        return {
            "calls": len(took),
            "cpu_us": cpu / len(took) * 1e6,
            "failed": len(failed),
            "failures": sorted(set(failed))[:3],
            **{name: took[int(len(took) * share)] * 1000 for name, share in places.items()},
            **{name: getattr(counters, name, 0) - value for name, value in before.items()},
            "open": list(getattr(cache.brain, "avoided", ())),
        }


async def _run(cache: AsyncClient, order: dict[str, Any], seconds: float) -> tuple[list[float], list[str]]:
    took: list[float] = []
    failed: list[str] = []
    until = time.perf_counter() + seconds
    calls = [_call(cache, number, until, order["pause"], took, failed) for number in range(order["tasks"])]
    await asyncio.gather(*calls)
    return took, failed


def main() -> None:
    """Carry out the order on the command line."""
    order = json.loads(sys.argv[1])
    import kvcache_client

    if not (kvcache_client.__file__ or "").startswith(order.get("code", "")):
        raise SystemExit(f"measures {kvcache_client.__file__}, not {order['code']}")
    print(json.dumps(uvloop.run(_measure(order))))


if __name__ == "__main__":
    main()
