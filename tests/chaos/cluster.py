"""The cluster of the chaos tests: a breakable one that can also die at a failpoint and be asked copy by copy.

Here lives what only judges and authors of bugs need. Never here: starting, killing or cutting off (``loadtests.faults.cluster``).
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from chaos.checkers import FinalState
from kvcache.cluster import failpoints
from kvcache_client.core.routing import View
from loadtests.faults.cluster import BreakableCluster, ClusterShape, eventually
from loadtests.wire import peek

__all__ = ["ChaosCluster", "ClusterShape", "eventually"]


class ChaosCluster(BreakableCluster):
    """``async with ChaosCluster(ClusterShape()) as cluster``. Nodes are called n1, n2, ..."""

    def __init__(self, shape: ClusterShape) -> None:
        super().__init__(shape)
        self._failpoints = Path(os.devnull)

    def arm(self, failpoint: str) -> None:
        """Have the first process die that reaches a failpoint."""
        self._failpoints.write_text(failpoint)

    @property
    def armed(self) -> bool:
        """Whether nobody has died of the failpoint yet."""
        return self._failpoints.exists() and bool(self._failpoints.read_text())

    async def final_state(self, keys: Iterable[str]) -> FinalState:
        """Ask every replica directly what it holds."""
        names = list(keys)
        view = View(await self.topology())
        held = {id: await peek(self.nodes[id].direct, names) for id in self.running()}
        owners = {key: tuple(view.owners_of(key.encode())) for key in names}
        return FinalState(held, owners, time.monotonic())

    def _environment(self) -> list[str]:
        return [*super()._environment(), f"{failpoints.VARIABLE}={self._failpoints}"]

    async def __aenter__(self) -> Self:
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="kvcache-chaos-"))
        self._failpoints = Path(folder) / "failpoints"
        return await super().__aenter__()
