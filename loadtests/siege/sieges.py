"""The sieges: attacks beside peace, and the price of the walls.

Here lives the order of a measurement and the goals. Never here: printing, or what an attacker does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import median
from subprocess import PIPE, Popen
from typing import Any, Final

from kvcache_client import AsyncClient
from loadtests import CannotRun
from loadtests.siege.attacks import ATTACKS, VALUE_KEY
from loadtests.siege.bystander import bystander
from loadtests.siege.stronghold import Stronghold, stronghold

__all__ = ["GOALS", "PRICES", "Finding", "besiege", "price_of"]

GOALS: Final = {"idle": 1.2, "slow-loris": 2.0, "never-reading": 2.0, "connects": 2.0, "guesses": 2.0}
"""Attack -> how many times as long the bystander's p99 may be."""

PRICES: Final = {"secret": 0.95, "tls": 0.60}
"""Wall -> the share of the speed without it that must be left."""

IDLE_BYTES: Final = 20 * 1024
_SETTLE_SECONDS: Final = 1.0
_TASKS: Final = 50


@dataclass(frozen=True, slots=True)
class Finding:
    """What one siege found: ``figure`` is a ratio, which must not be over ``goal`` (or below it, if ``at_least``)."""

    name: str
    figure: float
    goal: float
    at_least: bool = False
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def reached(self) -> bool:
        """Whether all that is asked for holds."""
        good = self.figure >= self.goal if self.at_least else self.figure <= self.goal
        memory = self.details.get("bytes_per_connection", 0) <= IDLE_BYTES
        return good and memory and not self.details.get("accepted", 0)


async def besiege(name: str, rounds: int, seconds: float, core: int | None) -> Finding:
    """Measure the bystander in peace and under the attack, alternately."""
    with stronghold(secret=name == "guesses", core=core) as node:
        async with AsyncClient([node.address], config=node.config) as cache:
            await _fill(cache)
            await bystander(cache, seconds / 2)  # warms up
            peace, war, failed = [], [], 0
            done: dict[str, Any] = {}
            memory = node.process.memory_bytes()
            for _ in range(rounds):
                latencies, _ = await bystander(cache, seconds)
                peace.append(latencies.percentile(0.99))
                with _under_attack(name, node) as attack:
                    held = await attack.ready()
                    if held:
                        done["bytes_per_connection"] = round((node.process.memory_bytes() - memory) / held)
                    latencies, lost = await bystander(cache, seconds)
                    war.append(latencies.percentile(0.99))
                    failed += lost
                done |= attack.told
                await asyncio.sleep(_SETTLE_SECONDS)
    ratios = [under / before for before, under in zip(peace, war, strict=True)]
    done |= {"p99_ms": [round(p * 1e3, 2) for p in peace], "p99_ms_attacked": [round(p * 1e3, 2) for p in war]}
    return Finding(name, median(ratios), GOALS[name], details=done | {"failed_calls": failed})


async def price_of(wall: str, rounds: int, seconds: float, core: int | None) -> Finding:
    """Compare the node's CPU seconds per request without and with the wall; the inverse is the speed that is left."""
    costs: dict[bool, list[float]] = {False: [], True: []}
    speeds: dict[bool, list[float]] = {False: [], True: []}
    with contextlib.ExitStack() as stack:
        options = {"secret": {"secret": True}, "tls": {"tls": True}}[wall]
        nodes = {False: stack.enter_context(stronghold(core=core))}
        nodes[True] = stack.enter_context(stronghold(**options, core=core))
        for number in range(rounds + 1):
            for walled in (False, True) if number % 2 else (True, False):
                cost, speed = await _ask_at_full_speed(nodes[walled], seconds)
                if number:  # the first round warms up
                    costs[walled].append(cost)
                    speeds[walled].append(speed)
    left = median(costs[False]) / median(costs[True])
    details = {
        "cpu_us_per_get": round(median(costs[False]) * 1e6, 2),
        f"cpu_us_per_get_with_{wall}": round(median(costs[True]) * 1e6, 2),
        "gets_per_second_ratio": round(median(speeds[True]) / median(speeds[False]), 3),
    }
    return Finding(f"price of {wall}", left, PRICES[wall], at_least=True, details=details)


async def _ask_at_full_speed(node: Stronghold, seconds: float) -> tuple[float, float]:
    """Return (CPU seconds of the node per get, gets per second)."""
    async with AsyncClient([node.address], config=node.config) as cache:
        await cache.set("siege:0", b"x" * 100)
        gets = 0
        before, begun = node.process.cpu_seconds(), time.perf_counter()
        end = begun + seconds

        async def ask() -> None:
            nonlocal gets
            while time.perf_counter() < end:
                await cache.get("siege:0")
                gets += 1

        await asyncio.gather(*(ask() for _ in range(_TASKS)))
        return (node.process.cpu_seconds() - before) / gets, gets / (time.perf_counter() - begun)


async def _fill(cache: AsyncClient) -> None:
    for number in range(8):
        await cache.set(f"siege:{number}", b"x" * 100)
    await cache.set(VALUE_KEY, b"x" * 100_000)


class _Attack:
    """An attacker process. ``told`` is what it says it did."""

    def __init__(self, name: str, port: int) -> None:
        self._name = name
        command = [sys.executable, "-m", "loadtests.siege.attacks", name, str(port)]
        self._process = Popen(command, stdout=PIPE, text=True, start_new_session=True)
        self.told: dict[str, Any] = {}

    async def ready(self) -> int:
        """Return when the attack is in full swing; how many connections it holds, if that is its point."""
        line = await asyncio.to_thread(self._line)
        if not line:
            raise CannotRun(f"the attack {self._name} did not begin")
        await asyncio.sleep(_SETTLE_SECONDS)
        return int(json.loads(line).get("held", 0))

    def stop(self) -> None:
        """End it and hear what it did."""
        self._process.terminate()
        line = self._line()
        self.told = json.loads(line) if line else {}
        self._process.wait(10)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _line(self) -> str:
        return self._process.stdout.readline() if self._process.stdout is not None else ""


@contextlib.contextmanager
def _under_attack(name: str, node: Stronghold) -> Iterator[_Attack]:
    if name not in ATTACKS:
        raise LookupError(f"there is no attack {name!r}; there are {', '.join(ATTACKS)}")
    attack = _Attack(name, node.port)
    try:
        yield attack
    finally:
        attack.stop()
