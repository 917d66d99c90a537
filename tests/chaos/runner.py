"""Runner: plays one scenario against a cluster under load, and has it judged.

Here lives the order of a run. Never here: what goes wrong in it (``scenarios``), what is judged and how (``checkers``). ::

    cluster up -> load up -> steady -> scenario -> load down -> every replica asked -> every key read by a newcomer -> verdict

The figures of each run and its seed are printed in one line. ``KVCACHE_CHAOS_SEED`` plays a seed again; it fixes every choice
of the load and of the scenario, though not what the machine does in between.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias

from chaos.checkers import FinalState, Violation, check, counted
from chaos.cluster import ChaosCluster, ClusterShape
from chaos.figures import Figures, figures
from chaos.history import History
from chaos.load import PARENT_IDS, Load, LoadProcess, Recorder
from kvcache_client import AsyncClient

__all__ = ["Operate", "Run", "Scenario", "Verdict", "play", "seed_of_run"]

_SHOWN: Final = 5
_STEADY_SECONDS: Final = 1.5


class Operate(Protocol):
    """What an operator does with a cluster, however it is done."""

    async def drain(self, node: str) -> None:
        """Move everything away from a node; returns when it holds nothing any more."""

    async def remove(self, node: str) -> None:
        """Take a node out of the cluster."""

    async def flush(self) -> None:
        """Forget everything."""

    async def purge(self, prefix: str) -> None:
        """Forget what is under a prefix."""

    async def throttle(self, rate: int) -> None:
        """Bound the running move to so many records a second per receiver; 0 is no bound."""

    async def progress(self) -> dict[str, Any] | None:
        """Return how far the running move is, None if none is running."""

    async def snapshot(self, directory: Path) -> int:
        """Take a snapshot; returns how many records are in it."""

    async def wait_healthy(self) -> None:
        """Return when every member is up and nothing is being moved or loaded."""


@dataclass
class Run:
    """What a scenario has in its hands. ``recorder`` is a client of its own, whose calls are judged like the load's."""

    cluster: ChaosCluster
    dice: random.Random
    recorder: Recorder
    history: History
    ids: count[int]
    admin: Operate | None = None
    fault_at: float = 0.0
    healed_at: float = 0.0
    findings: list[Violation] = field(default_factory=list)

    @property
    def operate(self) -> Operate:
        """The operator. Raises ``RuntimeError`` if this run has none."""
        if self.admin is None:
            raise RuntimeError("this scenario needs an operator: play(..., operate=...)")
        return self.admin

    def fault(self) -> None:
        """Mark the moment at which things go wrong; call it just before."""
        self.fault_at = time.monotonic()

    def healed(self) -> None:
        """Mark the moment at which nothing is wrong any more."""
        self.healed_at = time.monotonic()

    async def hold(self, seconds: float) -> None:
        """Let the load go on as things are."""
        await asyncio.sleep(seconds)

    def victim(self) -> str:
        """Return a node by chance."""
        return self.dice.choice(sorted(self.cluster.nodes))

    def require(self, condition: bool, text: str) -> None:
        """Note a broken promise that no history shows."""
        if not condition:
            self.findings.append(Violation("scenario", "", text))

    @asynccontextmanager
    async def newcomer(self, name: str) -> AsyncIterator[Recorder]:
        """A client that has never seen this cluster before."""
        async with AsyncClient(self.cluster.seeds, timeout=2.0) as cache:
            yield Recorder(name, cache, self.history, self.ids)


Scenario: TypeAlias = Callable[[Run], Awaitable[None]]


@dataclass(frozen=True)
class Verdict:
    """What came out of a run."""

    name: str
    seed: int
    figures: Figures
    violations: tuple[Violation, ...]
    history: History
    final: FinalState

    def __str__(self) -> str:
        found = ", ".join(f"{name} {number}" for name, number in counted(self.violations).items() if number)
        return f"{self.name} seed={self.seed}: {self.figures}; {found or 'no promise broken'}"

    def describe(self) -> str:
        """Return the line of figures and the first violations; what an assertion shows."""
        return "\n".join([str(self), *map(str, self.violations[:_SHOWN])])


def seed_of_run() -> int:
    """Return the seed that the environment asks for, else a new one."""
    return int(os.environ.get("KVCACHE_CHAOS_SEED") or random.SystemRandom().randrange(1 << 32))


async def play(
    scenario: Scenario,
    name: str,
    *,
    shape: ClusterShape | None = None,
    load: Load | None = None,
    operate: Callable[[ChaosCluster], Operate] | None = None,
    judged: tuple[str, ...] = (),
    final_reads: bool = True,
    steady: float = _STEADY_SECONDS,
) -> Verdict:
    """Play ``scenario`` and return what the checkers named in ``judged`` (none: all) found, and the figures.

    ``steady`` is how many seconds of load go before it. Raises ``RunIsVoid`` if there was too little load.
    """
    seed = seed_of_run()
    async with ChaosCluster(shape or ClusterShape()) as cluster, AsyncClient(cluster.seeds, timeout=2.0) as cache:
        history, ids = History(), count(PARENT_IDS)
        recorder = Recorder("scenario", cache, history, ids)
        run = Run(cluster, random.Random(seed), recorder, history, ids, operate and operate(cluster))
        async with LoadProcess(replace(load or Load(), seeds=cluster.seeds, seed=seed)) as process:
            await asyncio.sleep(steady)
            run.fault()
            await scenario(run)
            ended = time.monotonic()
            done = await process.stop()
        cluster.resume_all()
        keys = (done + history).by_key()
        final = await cluster.final_state(keys)
        if final_reads:
            async with run.newcomer("newcomer") as reader:
                await asyncio.gather(*(reader.get(key) for key in keys if not key.startswith("counter-")))
        whole = done + history
        healed = run.healed_at if run.healed_at > run.fault_at else ended
        cost = figures(done, begun=process.begun, fault=run.fault_at, healed=healed, ended=ended)
    verdict = Verdict(name, seed, cost, (*run.findings, *check(whole, final, *judged)), whole, final)
    print(verdict.describe())
    return verdict
