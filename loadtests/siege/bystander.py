"""The bystander: somebody who asks a node for keys at a steady rate and notes how long it takes.

Here lives that load and its p99. Never here: what else happens to the node meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from kvcache_client import AsyncClient
from kvcache_client.protocol.errors import KvCacheError
from loadtests.histogram import LatencyHistogram

__all__ = ["bystander"]

_TASKS: Final = 8
_PAUSE_SECONDS: Final = 0.004


async def bystander(cache: AsyncClient, seconds: float) -> tuple[LatencyHistogram, int]:
    """Ask for ``seconds``; returns the latencies, failed calls included, and how many failed."""
    latencies, failed = LatencyHistogram(), 0
    end = time.perf_counter() + seconds

    async def ask(number: int) -> None:
        nonlocal failed
        while time.perf_counter() < end:
            begun = time.perf_counter()
            try:
                await cache.get(f"siege:{number}")
            except KvCacheError:
                failed += 1
            latencies.record(time.perf_counter() - begun)
            await asyncio.sleep(_PAUSE_SECONDS)

    await asyncio.gather(*(ask(number) for number in range(_TASKS)))
    return latencies, failed
