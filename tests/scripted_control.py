"""A control that does what a test tells it: the node's part beyond data, without other nodes or a coordinator."""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine
from typing import Any

from kvcache_client.protocol.errors import AdminBusy

__all__ = ["ScriptedControl", "finished"]


class ScriptedControl:
    """Remembers what it was asked. Locks are real, but their leases never end."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.held: dict[str, tuple[str, int, str]] = {}
        self.fence = 0
        self.epoch = 2

    def report(self) -> dict[str, Any]:
        return {"epoch": self.epoch}

    def resync(self, partitions: list[int]) -> None:
        self.asked.append(("resync", *partitions))

    async def adopt(self, document: bytes) -> int:
        self.asked.append(("adopt", document))
        return self.epoch

    async def deliver(self, owner: str) -> int:
        self.asked.append(("deliver", owner))
        return 0

    async def repair(self, partitions: list[int]) -> tuple[int, int]:
        self.asked.append(("repair", *partitions))
        return len(partitions), 0

    async def change(self, fence: int, change: dict[str, Any]) -> int:
        self.asked.append(("change", fence, change))
        self.epoch += 1
        return self.epoch

    async def lock(self, resource: str, token: str, lease_ms: int, doing: str) -> int:
        holder, fence, what = self.held.get(resource, (token, 0, doing))
        if holder != token:
            raise AdminBusy(f"{resource} is held: {what}", detail=lease_ms)
        if not fence:
            self.fence = fence = self.fence + 1
        self.held[resource] = (token, fence, doing)
        return fence

    async def renew(self, resource: str, token: str, lease_ms: int) -> bool:
        return self.held.get(resource, ("",))[0] == token

    async def unlock(self, resource: str, token: str) -> bool:
        mine = await self.renew(resource, token, 0)
        if mine:
            del self.held[resource]
        return mine

    async def locks(self) -> list[dict[str, Any]]:
        return [{"resource": name, "fence": fence, "doing": what} for name, (_, fence, what) in self.held.items()]

    async def examine(self) -> dict[str, Any]:
        return {"machine": {"descriptors": 9}, "coordinator": None}


def finished(work: Awaitable[Any]) -> Any:
    """Run work that waits for nothing to its end and return its result."""
    coroutine: Coroutine[Any, Any, Any] = work  # type: ignore[assignment]  # all of a ScriptedControl's are
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits for something")
