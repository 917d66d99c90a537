"""Leases: who computes the value of a key that is missing, and who waits for it.

Here lives the table of one node: at most one holder for each key, and the others in the order in which they came. Never here:
messages (``leasing``), or how a connection sends what it is told (``transport``). The life of a lease::

    first asker --granted--> computes --fill--> all who wait get the record
                                |---- gives it back, dies, or its time is over ---> the next one is granted
                                |---- the key is written meanwhile ---------------> all who wait get what was written
                                `---- the key is deleted, flushed, purged --------> the next one is granted: the fill is void

What is filled in gets the version that was stamped when the lease was granted. So whatever was written or deleted during the
computation is newer, also at an owner of which this node hears nothing. The idea of leases against stampedes and stale sets:
Nishtala et al., "Scaling Memcache at Facebook", NSDI 2013; here the node also wakes those who wait.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from kvcache.service.later import Answer, Peer
from kvcache.service.stamps import stamp_above
from kvcache_client.protocol.errors import KvCacheError, Overloaded
from kvcache_client.protocol.record import is_tombstone, stale_from, version_of
from kvcache_client.protocol.verbs import Status
from kvcache_client.protocol.version import HybridClock

__all__ = ["After", "Asker", "Lease", "LeaseLimits", "Leases", "no_timer"]

After: TypeAlias = Callable[[float, Callable[[], None]], Any]
"""Calls a function in so many seconds."""

_OK: Final = int(Status.OK)
_MISS: Final = int(Status.MISS)
_GRANTED: Final = int(Status.GRANTED)

_HOLDERS: Final = 2
"""How many holders in a row somebody waits for: one that may die, and one that makes it good."""


def no_timer(seconds: float, work: Callable[[], None]) -> None:
    """Never call: for a service that nobody has given a timer. Its leases end by what happens, not by time."""


@dataclass(frozen=True, slots=True)
class LeaseLimits:
    """Bounds of the table; who comes beyond them is told ``Overloaded``."""

    leases: int = 65_536
    waiters: int = 16_384
    """Those who wait, for all keys together."""
    waiters_of_key: int = 1024


@dataclass(eq=False, slots=True)
class Asker:
    """Somebody who wants a key's value. ``token`` is drawn for this one time; ``seconds`` is how long it would need."""

    peer: Peer
    token: int
    seconds: float
    answer: Answer


@dataclass(eq=False, slots=True)
class Lease:
    """One key's computation under way."""

    partition: int
    holder: Asker
    version: int
    """What the fill will have."""
    waiting: deque[Asker] = field(default_factory=deque)


class Leases:
    """The leases of one node, by key. ``held`` is empty in good times, so a write pays one truth test for it."""

    __slots__ = (
        "_after",
        "_clock",
        "_limits",
        "_standing",
        "filled",
        "granted",
        "held",
        "refusal",
        "voided",
        "waiting",
    )

    def __init__(
        self,
        standing: Callable[[int, bytes], bytes | None],
        clock: HybridClock,
        limits: LeaseLimits | None = None,
    ) -> None:
        self._standing = standing
        self._clock = clock
        self._limits = limits or LeaseLimits()
        self._after: After = no_timer
        self.refusal: Callable[[int], KvCacheError | None] = lambda partition: None
        """Tells why this node must not decide in a partition, if it must not."""
        self.held: dict[bytes, Lease] = {}
        self.waiting = self.granted = self.filled = self.voided = 0

    def go_by(self, after: After) -> None:
        """Let leases end in time, by this timer."""
        self._after = after

    def ask(self, partition: int, key: bytes, asker: Asker) -> None:
        """Answer with the record, or grant the lease, or let ``asker`` wait for whoever has it."""
        record = self._record(partition, key)
        lease = self.held.get(key)
        if record is not None and self._clock.now_ms() < stale_from(record):
            asker.answer((_OK, record))
        elif lease is None and len(self.held) >= self._limits.leases:
            asker.answer(Overloaded(f"{len(self.held)} values are being computed already"))
        elif lease is None:
            self._grant(partition, key, asker, deque())
        elif lease.holder.token == asker.token:  # its answer was lost
            lease.holder = asker
            asker.answer((_GRANTED, record))
        elif record is not None:
            asker.answer((_OK, record))  # stale, and being refreshed
        else:
            self._wait(key, lease, asker)

    def _wait(self, key: bytes, lease: Lease, asker: Asker) -> None:
        self._leave(lease, lambda waiter: waiter.token == asker.token)
        if self.waiting >= self._limits.waiters or len(lease.waiting) >= self._limits.waiters_of_key:
            asker.answer(
                Overloaded(f"{self.waiting} wait for values already, {len(lease.waiting)} of them for this one")
            )
            return
        lease.waiting.append(asker)
        self.waiting += 1
        self._after(asker.seconds * _HOLDERS, lambda: self._waited_in_vain(key, asker))

    def _waited_in_vain(self, key: bytes, asker: Asker) -> None:
        lease = self.held.get(key)
        if lease is not None and asker in lease.waiting:
            self._leave(lease, lambda waiter: waiter is asker)
            asker.answer((_MISS,))

    def _leave(self, lease: Lease, leaves: Callable[[Asker], bool]) -> bool:
        staying = deque(waiter for waiter in lease.waiting if not leaves(waiter))
        left = len(lease.waiting) - len(staying)
        self.waiting -= left
        lease.waiting = staying
        return left > 0

    def _grant(self, partition: int, key: bytes, asker: Asker, waiting: deque[Asker]) -> None:
        version = stamp_above(self._clock, self._standing(partition, key))
        lease = self.held[key] = Lease(partition, asker, version, waiting)
        self.granted += 1
        self._after(asker.seconds, lambda: self._end(key, lease))
        asker.answer((_GRANTED, self._record(partition, key)))

    def fill(self, key: bytes, token: int) -> Lease | None:
        """Return the lease if it is still good, which ends with that; the caller stores the record, then calls ``settle``."""
        lease = self.held.get(key)
        if lease is None or lease.holder.token != token:
            return None
        del self.held[key]
        self.filled += 1
        return lease

    def settle(self, lease: Lease, record: bytes) -> None:
        """Give ``record`` to all who wait."""
        waiting, lease.waiting = lease.waiting, deque()
        self.waiting -= len(waiting)
        for asker in waiting:
            asker.answer((_OK, record))

    def release(self, key: bytes, token: int) -> bool:
        """Give the lease back, or stop waiting for it; returns whether there was either."""
        lease = self.held.get(key)
        if lease is None:
            return False
        if lease.holder.token == token:
            self._end(key, lease)
            return True
        return self._leave(lease, lambda waiter: waiter.token == token)

    def written(self, key: bytes) -> None:
        """The key has got another record, or a tombstone: what is being computed may follow from what was there before."""
        lease = self.held.get(key)
        if lease is not None:
            self.voided += 1
            self._end(key, lease)

    def lost(self, peer: Peer) -> None:
        """A connection has ended: whoever was behind it computes and waits no more."""
        for key, lease in list(self.held.items()):
            self._leave(lease, lambda waiter: waiter.peer is peer)
            if lease.holder.peer is peer:
                self._end(key, lease)

    def review(self, hidden_to: Callable[[bytes], int]) -> None:
        """Look at all leases after a change of the topology.

        Where this node does not decide any more, those who wait are told so and ask elsewhere. What a flush or a purge hides
        (``hidden_to`` tells up to which version) is not filled in any more.
        """
        for key, lease in list(self.held.items()):
            error = self.refusal(lease.partition)
            if error is not None:
                self._give_up(key, lease, error)
            elif hidden_to(key) >= lease.version:
                self.written(key)

    def dismiss(self, error: KvCacheError) -> None:
        """End all leases, and tell ``error`` to those who wait."""
        for key, lease in list(self.held.items()):
            self._give_up(key, lease, error)

    def _give_up(self, key: bytes, lease: Lease, error: KvCacheError) -> None:
        del self.held[key]
        waiting, lease.waiting = lease.waiting, deque()
        self.waiting -= len(waiting)
        for asker in waiting:
            asker.answer(error)

    def _end(self, key: bytes, lease: Lease) -> None:
        """End a lease without a fill. Those who wait get what is there, or the first of them is granted the next."""
        if self.held.get(key) is not lease:
            return
        del self.held[key]
        record = self._record(lease.partition, key)
        if record is not None and version_of(record) > lease.version:
            self.settle(lease, record)
        elif lease.waiting:
            asker = lease.waiting.popleft()
            self.waiting -= 1
            self._grant(lease.partition, key, asker, lease.waiting)

    def _record(self, partition: int, key: bytes) -> bytes | None:
        standing = self._standing(partition, key)
        return None if standing is None or is_tombstone(standing) else standing

    def __repr__(self) -> str:
        return f"<Leases held={len(self.held)} waiting={self.waiting}>"
