"""A lock as the blocking client holds it: for as long as a block of code runs, renewed by a thread meanwhile.

Here lives waiting for a lock, renewing it, and saying that it is lost. Never here: asking for it (``core.locking``). The promises
are those of ``aio_lock``, but one: nothing can interrupt the block. So call ``ensure_held()`` before what must not happen without
the lock, and write with ``set(..., fence=lock.fence)``, which nodes check.

Made of plain threads and events, so it works under gevent as well, which makes greenlets of them.
"""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Final, Self

from kvcache_client.bodies.aio_lock import POLL_SECONDS, LockSurroundings
from kvcache_client.bodies.blocking_session import BlockingSession
from kvcache_client.bodies.surroundings import who_am_i
from kvcache_client.core import locking
from kvcache_client.core.retry import Backoff
from kvcache_client.protocol.errors import AdminBusy, KvCacheError, LockLost, UsageError
from kvcache_client.protocol.limits import LEASE_MS_MAX, LEASE_MS_MIN

__all__ = ["Lock"]

_WAITS: Final = Backoff(0.05, 2.0)


class Lock:
    """A lock on ``resource``, as a context manager; when it is free again, it can be used again. Seconds as ``AsyncLock``."""

    def __init__(
        self,
        session: BlockingSession,
        resource: str,
        *,
        lease: float = 10.0,
        timeout: float = 10.0,
        surroundings: LockSurroundings | None = None,
    ) -> None:
        self._session = session
        self.resource = resource
        self.lease_ms = int(locking.check_seconds("lease", lease, LEASE_MS_MIN / 1000, LEASE_MS_MAX / 1000) * 1000)
        self.timeout = locking.check_seconds("timeout", timeout, 0, LEASE_MS_MAX / 1000)
        self.fence = 0
        self.token = ""
        self._world = surroundings or LockSurroundings()
        self._expires = 0.0
        self._lost = ""
        self._ended = threading.Event()
        self._keeper: threading.Thread | None = None

    @property
    def lease_left(self) -> float:
        """Seconds for which the lock is ours for sure; 0 when it is not."""
        return max(0.0, self._expires - self._world.clock()) if self.token and not self._lost else 0.0

    def ensure_held(self) -> None:
        """Raise ``LockLost`` if the lock may be somebody else's by now; asks our own clock only."""
        if self.lease_left <= 0:
            raise self._loss()

    def acquire(self) -> Self:
        """Take the lock without a block; the caller must ``release`` it. Raises ``AdminBusy`` after ``timeout`` seconds."""
        if self.token:
            raise UsageError(f"{self!r} is in use already; make another one")
        token = self._world.draw_token()
        self._session.open()
        self._expires = self._wait_for(token)
        self.token, self._lost = token, ""
        self._ended.clear()
        self._keeper = threading.Thread(target=self._keep, name=f"keeps lock {self.resource}", daemon=True)
        self._keeper.start()
        return self

    def release(self) -> None:
        """Give the lock back. Raises ``LockLost`` if it was lost meanwhile."""
        self._ended.set()
        held, loss, token = self.lease_left > 0, self._loss(), self.token
        self.token = ""
        if self._keeper is not None:
            self._keeper.join(self.lease_ms / 1000)
            self._keeper = None
        try:
            released = self._session.run(locking.release(self._session.brain, self.resource, token))
        except KvCacheError:
            released = True  # it ends with its lease
        if not (held and released):
            raise loss

    def _wait_for(self, token: str) -> float:
        """Return until when the lock is ours for sure."""
        clock = self._world.clock
        deadline = clock() + self.timeout
        brain = self._session.brain
        doing = f"{who_am_i(brain.config.name)}: "
        tries = 0
        while True:
            sent = clock()  # before asking: the lease may have begun at any time since
            try:
                self.fence = self._session.run(locking.acquire(brain, self.resource, token, self.lease_ms, doing))
            except AdminBusy:
                tries += 1
                left = deadline - clock()
                if left <= 0:
                    raise
                self._ended.clear()
                self._ended.wait(min(_WAITS.delay(tries, self._world.jitter), POLL_SECONDS, left))
            else:
                return sent + self.lease_ms / 1000

    def _keep(self) -> None:
        """Renew the lock until it is released or lost."""
        wait = self.lease_ms / 3000
        failures = 0
        while not self._ended.wait(min(wait, max(self.lease_left, 0.001))) and self.lease_left > 0:
            sent = self._world.clock()
            try:
                plan = locking.renew(self._session.brain, self.resource, self.token, self.lease_ms)
                if not self._session.run(plan):
                    self._lost = "it was gone when it was to be renewed"
                    return
            except KvCacheError:
                failures += 1
                wait = min(_WAITS.delay(failures, self._world.jitter), self.lease_ms / 3000)
            else:
                self._expires = sent + self.lease_ms / 1000
                wait, failures = self.lease_ms / 3000, 0

    def _loss(self) -> LockLost:
        reason = self._lost or "its lease may have run out, or it was taken away"
        return LockLost(f"the lock {self.resource!r} (fence {self.fence}) is not held any more: {reason}")

    def __enter__(self) -> Self:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.release()
        except LockLost:
            if kind is None:
                raise  # what went wrong inside is more important than that the lock was lost

    def __repr__(self) -> str:
        state = f"lost: {self._lost}" if self._lost else f"held for {self.lease_left:.3f} s" if self.token else "free"
        return f"<Lock {self.resource} fence={self.fence} {state}>"
