"""Lock: a lock of the cluster as a node holds it, straight from the coordinator.

Here lives how the coordinator's locks and the fences that nodes report make a ``Grantor``. Never here: waiting, renewing and
losing (``kvcache_client.bodies.aio_lock``, the same for clients and nodes), or how Redis keeps a lock (``lock_store``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from kvcache.cluster.lock_store import Held, LockStore
from kvcache_client.bodies.aio_lock import AsyncLock, LockSurroundings
from kvcache_client.protocol.errors import ControlPlaneUnavailable

__all__ = ["FLOOR_SECONDS", "Lock", "LockSurroundings", "StoreGrantor"]

FLOOR_SECONDS: Final = 2.0
"""How long the nodes may take to report their highest fences."""


async def _nothing_reported() -> int:
    return 0


class StoreGrantor:
    """Grants the locks of ``store``. ``owner`` and ``doing`` tell others who holds one and what for.

    ``floor`` returns the highest fence of the resource that the nodes have seen; it is asked anew before each attempt, so that
    a coordinator which has lost its counter never hands a number out again.
    """

    def __init__(self, store: LockStore, owner: str, doing: str, floor: Callable[[], Awaitable[int]]) -> None:
        self.owner = owner
        self.doing = doing
        self._store = store
        self._floor = floor

    async def acquire(self, resource: str, token: str, lease_ms: int) -> int:
        """Take the lock and return its fence. Raises ``AdminBusy`` if another token has it, and what ``floor`` raises."""
        try:
            async with asyncio.timeout(FLOOR_SECONDS):
                floor = await self._floor()
        except TimeoutError as error:
            raise ControlPlaneUnavailable(
                f"the nodes did not report their fences of {resource!r} in {FLOOR_SECONDS:g} s"
            ) from error
        answer = await self._store.acquire(resource, token, lease_ms, self.owner, self.doing, floor)
        if isinstance(answer, Held):
            raise answer.busy(resource)
        return answer.fence

    async def renew(self, resource: str, token: str, lease_ms: int) -> bool:
        """Begin a new lease; False when this token does not hold the lock any more."""
        return await self._store.renew(resource, token, lease_ms)

    async def release(self, resource: str, token: str) -> bool:
        """Let go; False when this token does not hold the lock any more."""
        return await self._store.release(resource, token)

    def __repr__(self) -> str:
        return f"<StoreGrantor {self.owner!r} {self._store!r}>"


class Lock(AsyncLock):
    """``AsyncLock`` on the coordinator itself."""

    def __init__(
        self,
        store: LockStore,
        resource: str,
        *,
        owner: str,
        doing: str,
        lease: float = 10.0,
        timeout: float = 10.0,
        floor: Callable[[], Awaitable[int]] = _nothing_reported,
        surroundings: LockSurroundings | None = None,
    ) -> None:
        grantor = StoreGrantor(store, owner, doing, floor)
        super().__init__(grantor, resource, lease=lease, timeout=timeout, surroundings=surroundings)
