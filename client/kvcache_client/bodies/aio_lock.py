"""A lock as the asyncio client holds it: for as long as a block of code runs, renewed meanwhile, and noticed when it is lost.

Here lives waiting for a lock, renewing it, and the signal that it is gone. Never here: who grants it (a ``Grantor``: any node for
clients, the coordinator for nodes), or what is done under it. ::

    async with cache.lock("nightly", lease=10) as lock:
        ...                                          renewed every third of the lease meanwhile
        lock.ensure_held()                           before what must not happen without it
        await cache.set("report", data, fence=lock.fence)   and nodes refuse a fence that is not the latest

A lease is no proof: between the check and its effect a process may be paused for any time. The fence is the proof; the
lease only keeps two holders from working at once in vain. All that is promised here is to stop early:

- The lease counts from *before* the request for it was sent, so it never ends later here than at the server (up to how fast
  their clocks run), also when the answer came late.
- When a renewal finds the lock gone, or none succeeds until the lease is over, the task that runs the block is cancelled, and
  leaving the block turns this cancellation, and no other, into ``LockLost``. ``asyncio.timeout`` works the same way.
- Whatever may have been granted to a task that was cancelled meanwhile is released.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Protocol, Self

from kvcache_client.core.locking import check_seconds
from kvcache_client.core.retry import Backoff
from kvcache_client.protocol.errors import (
    AdminBusy,
    ConnectFailed,
    ControlPlaneUnavailable,
    InDoubt,
    KvCacheError,
    LockLost,
    NotReady,
    Unavailable,
    UsageError,
)
from kvcache_client.protocol.limits import LEASE_MS_MAX, LEASE_MS_MIN

__all__ = ["POLL_SECONDS", "AsyncLock", "Grantor", "LockSurroundings"]

_log = logging.getLogger(__name__)

POLL_SECONDS: Final = 0.5
"""Longest time between two attempts to get a lock that somebody else holds."""

_WAITS: Final = Backoff(0.05, 2.0)

_UNKNOWN: Final = (ControlPlaneUnavailable, InDoubt, ConnectFailed, Unavailable, NotReady)
"""Errors after which the lock may have been granted or not."""


class Grantor(Protocol):
    """Who grants locks. Each method may be repeated with the same token."""

    async def acquire(self, resource: str, token: str, lease_ms: int) -> int:
        """Take the lock and return its fence. Raises ``AdminBusy`` if another token has it."""

    async def renew(self, resource: str, token: str, lease_ms: int) -> bool:
        """Begin a new lease; False when this token does not hold the lock any more."""

    async def release(self, resource: str, token: str) -> bool:
        """Let go; False when this token does not hold the lock any more."""


@dataclass(frozen=True, slots=True)
class LockSurroundings:
    """What a lock takes from the world: a monotonic clock in seconds, chance in [0, 1), and tokens nobody can guess."""

    clock: Callable[[], float] = time.monotonic
    jitter: Callable[[], float] = random.SystemRandom().random
    draw_token: Callable[[], str] = secrets.token_hex


class AsyncLock:
    """A lock on ``resource``, as an async context manager; when it is free again, it can be used again.

    ``lease`` and ``timeout`` are seconds: how long the lock outlives a holder that died, and how long to wait for somebody else.

    Entering raises ``AdminBusy`` when the lock was not free within ``timeout`` (it says who has it, since when and what for),
    ``ControlPlaneUnavailable`` at once when coordination does not answer, and ``LockLost`` when the grant came after its own
    lease. The block ends with ``LockLost`` when the lock was lost meanwhile.
    """

    def __init__(
        self,
        grantor: Grantor,
        resource: str,
        *,
        lease: float = 10.0,
        timeout: float = 10.0,
        surroundings: LockSurroundings | None = None,
    ) -> None:
        self._grantor = grantor
        self.resource = resource
        self.lease_ms = int(check_seconds("lease", lease, LEASE_MS_MIN / 1000, LEASE_MS_MAX / 1000) * 1000)
        self.timeout = check_seconds("timeout", timeout, 0, LEASE_MS_MAX / 1000)
        self.fence = 0
        self.token = ""
        self._world = surroundings or LockSurroundings()
        self._task: asyncio.Task[object] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._expires = 0.0
        self._cancellations = 0
        self._lost = ""

    @property
    def lease_left(self) -> float:
        """Seconds for which the lock is ours for sure; 0 when it is not."""
        return max(0.0, self._expires - self._world.clock()) if self._task and not self._lost else 0.0

    def ensure_held(self) -> None:
        """Raise ``LockLost`` if the lock may be somebody else's by now; asks our own clock only."""
        if self.lease_left <= 0:
            raise self._loss()

    async def __aenter__(self) -> Self:
        task = asyncio.current_task()
        if task is None or self._task is not None or self.token:
            raise UsageError(f"{self!r} is in use already; make another one")
        self.token = self._world.draw_token()
        try:
            await self._acquire()
        except BaseException:
            self.token = ""
            raise
        self._lost = ""
        self._task, self._cancellations = task, task.cancelling()
        self._keeper = asyncio.create_task(self._keep(), name=f"keeps lock {self.resource}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signalled = bool(self._lost)
        held = self.lease_left > 0
        loss = self._loss()
        task, token = self._task, self.token
        if self._keeper is not None:
            self._keeper.cancel()
        self._task, self._keeper, self.token = None, None, ""
        release = self._give_back(token)
        ours = signalled and task is not None and task.uncancel() <= self._cancellations
        released = await asyncio.shield(release)  # None: not known, and the work is done
        held = held and released is not False
        if not held and (kind is None or (ours and kind is asyncio.CancelledError)):
            raise loss from error

    async def acquire(self) -> Self:
        """Take the lock without a block; the caller must ``release`` it."""
        return await self.__aenter__()

    async def release(self) -> None:
        """Give back what ``acquire`` took. Raises ``LockLost`` if it was lost meanwhile."""
        await self.__aexit__(None, None, None)

    async def _acquire(self) -> None:
        """Return when the lock is ours; try again and again until ``timeout`` is over."""
        clock = self._world.clock
        deadline = clock() + self.timeout
        tries = 0
        while True:
            sent = clock()
            try:
                self.fence = await self._attempt()
                break
            except AdminBusy:
                tries += 1
                left = deadline - clock()
                if left <= 0:
                    raise
            await asyncio.sleep(min(_WAITS.delay(tries, self._world.jitter), POLL_SECONDS, left))
        self._expires = sent + self.lease_ms / 1000
        if clock() >= self._expires:
            self._give_back(self.token)
            raise LockLost(f"the lease of {self.lease_ms} ms on {self.resource!r} ran out before its grant came")

    async def _attempt(self) -> int:
        """Ask for the lock once. What may have been granted to nobody, because we left or heard nothing, is released."""
        asked = asyncio.ensure_future(self._grantor.acquire(self.resource, self.token, self.lease_ms))
        try:
            return await asyncio.shield(asked)
        except asyncio.CancelledError:
            await asyncio.shield(self._give_back(self.token, asked))
            raise
        except _UNKNOWN as error:
            if not isinstance(error, AdminBusy):
                self._give_back(self.token)
            raise

    def _give_back(self, token: str, asked: asyncio.Future[int] | None = None) -> asyncio.Task[bool | None]:
        """Release in a task of its own, which goes on when we are cancelled, after ``asked`` has had its answer."""
        task = asyncio.create_task(self._release(token, asked), name=f"releases lock {self.resource}")
        _releases.add(task)
        task.add_done_callback(_releases.discard)
        return task

    async def _release(self, token: str, asked: asyncio.Future[int] | None) -> bool | None:
        """Release the lock and say whether it was ours; None when that is not known."""
        if asked is not None:
            await asyncio.wait([asked])  # a release that overtakes the request would leave the lock behind
        try:
            return await self._grantor.release(self.resource, token)
        except KvCacheError as error:
            _log.warning("lock %r ends with its lease, it could not be released: %s", self.resource, error)
            return None

    async def _keep(self) -> None:
        """Renew the lock for as long as that succeeds in time; then give the signal that it is lost."""
        wait = self.lease_ms / 3000
        failures = 0
        trouble = "nobody renewed it"
        while self.lease_left > 0:
            await asyncio.sleep(min(wait, self.lease_left))
            if (left := self.lease_left) <= 0:
                break
            sent = self._world.clock()
            try:
                async with asyncio.timeout(left):
                    kept = await self._grantor.renew(self.resource, self.token, self.lease_ms)
            except (KvCacheError, TimeoutError) as error:
                trouble = str(error) or "no renewal was answered"
                failures += 1
                wait = min(_WAITS.delay(failures, self._world.jitter), self.lease_ms / 3000)
                continue
            if not kept:
                return self._lose("it was gone when it was to be renewed")
            self._expires = sent + self.lease_ms / 1000
            wait, failures = self.lease_ms / 3000, 0
        return self._lose(f"its lease of {self.lease_ms} ms ran out: {trouble}")

    def _lose(self, reason: str) -> None:
        if self._task is not None and not self._lost:
            self._lost = reason
            _log.warning("lost lock %r with fence %d: %s", self.resource, self.fence, reason)
            self._task.cancel()

    def _loss(self) -> LockLost:
        reason = self._lost or "its lease may have run out, or it was taken away"
        return LockLost(f"the lock {self.resource!r} (fence {self.fence}) is not held any more: {reason}")

    def __repr__(self) -> str:
        state = f"lost: {self._lost}" if self._lost else f"held for {self.lease_left:.3f} s" if self._task else "free"
        return f"<{type(self).__name__} {self.resource} fence={self.fence} {state}>"


_releases: Final[set[asyncio.Task[bool | None]]] = set()
"""Releases under way: the event loop itself keeps no task alive."""
