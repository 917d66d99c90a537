"""The grantor of an asyncio client's locks: any node, which does the coordinator's part.

Here lives driving the plans of ``core.locking``. Never here: what a lock does while it is held (``aio_lock``).
"""

from __future__ import annotations

from kvcache_client.bodies.aio_session import AsyncSession
from kvcache_client.bodies.surroundings import who_am_i
from kvcache_client.core import locking

__all__ = ["ClientGrantor"]


class ClientGrantor:
    """Grants locks through ``session``; ``doing`` tells others what for."""

    def __init__(self, session: AsyncSession, doing: str = "") -> None:
        self._session = session
        self._doing = f"{who_am_i(session.brain.config.name)}: {doing}"

    async def acquire(self, resource: str, token: str, lease_ms: int) -> int:
        """Take the lock and return its fence. Raises ``AdminBusy`` if another token has it."""
        await self._session.open()
        return await self._session.run(locking.acquire(self._session.brain, resource, token, lease_ms, self._doing))

    async def renew(self, resource: str, token: str, lease_ms: int) -> bool:
        """Begin a new lease; False when this token does not hold the lock any more."""
        return await self._session.run(locking.renew(self._session.brain, resource, token, lease_ms))

    async def release(self, resource: str, token: str) -> bool:
        """Let go; False when this token does not hold the lock any more."""
        return await self._session.run(locking.release(self._session.brain, resource, token))

    def __repr__(self) -> str:
        return f"<ClientGrantor {self._doing!r}>"
