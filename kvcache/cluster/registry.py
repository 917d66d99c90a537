"""Registry: the one topology document of a cluster, in Redis or Valkey, changed by compare-and-set.

Here live reading, changing and following the document. Never here: what a change should be (that is computed
on the immutable ``Topology``), and never a retry that hides from its caller that coordination is away.

::

    node A  -- load: epoch 7 ----------------------->  kvcache:{cluster}:topology   JSON
    node A     with_member(A): epoch 8, computed here
    node A  -- commit(epoch 8, expected 7) --------->  one script: still 7? then SET and PUBLISH
    node B  <- kvcache:{cluster}:events: "8" --------  B loads epoch 8

Every document is checked as untrusted input. One that does not pass is never overwritten, and one that is
older than what was seen before is never handed on: an empty or rolled-back server must not shrink the ring.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from kvcache.cluster.changes import registered
from kvcache.cluster.coordinator import COORDINATOR_SECONDS, Coordinator, Subscription, checked_cluster
from kvcache.cluster.outage import Outage, delays
from kvcache.events import journal
from kvcache_client.placement.topology import Member, Topology
from kvcache_client.protocol.errors import ControlPlaneUnavailable, StaleFence, TopologyError

__all__ = ["Registry"]

POLL_SECONDS: Final = 1.0
"""How long a change may go unnoticed when its event was lost."""

CONFLICTS_MAX: Final = 1000
"""Lost races after which a registration gives up; every lost race is another node's success."""

_COMMIT: Final = """
local stored = redis.call('GET', KEYS[1])
if stored then
  local valid, document = pcall(cjson.decode, stored)
  if not valid or type(document) ~= 'table' or type(document.epoch) ~= 'number' then return 'damaged' end
  if document.epoch ~= tonumber(ARGV[1]) then return 'conflict' end
  if document.cluster_id ~= ARGV[2] then return 'foreign' end
  if (document.fence or 0) > tonumber(ARGV[5]) then return 'fenced' end
elseif ARGV[1] ~= '0' then
  return 'conflict'
end
redis.call('SET', KEYS[1], ARGV[4])
redis.call('PUBLISH', KEYS[2], ARGV[3])
return 'done'
"""
"""The compare-and-set. Keys: document, channel. Arguments: expected epoch, cluster id, new epoch, JSON, fence."""

_RESTORE: Final = """
local stored = redis.call('GET', KEYS[1])
if stored then
  local valid, document = pcall(cjson.decode, stored)
  if valid and type(document) == 'table' then
    if document.cluster_id ~= ARGV[1] then return 'foreign' end
    if type(document.epoch) == 'number' and document.epoch >= tonumber(ARGV[2]) then return 'newer' end
  end
end
redis.call('SET', KEYS[1], ARGV[3])
redis.call('PUBLISH', KEYS[2], ARGV[2])
return 'done'
"""
"""Puts a document above an older one of its cluster. Keys: document, channel. Arguments: cluster id, epoch, JSON."""


_draw: Final = random.SystemRandom().random
"""Not the ``random`` module's shared generator: a program that seeds it must see no trace of us."""


class Registry:
    """The cluster's document in Redis or Valkey.

    ``url`` is ``redis://``, ``rediss://`` or ``unix://`` (``valkey://`` and ``valkeys://`` mean the first
    two). ``timeout`` bounds each exchange with the server, in seconds. ``jitter`` draws from [0, 1).
    ``coordinator`` is the connection, which locks and heartbeats share; ``close`` closes it.

    Every method raises ``ControlPlaneUnavailable`` when the server does not answer, and ``TopologyError``
    when what it holds is no valid document of this cluster. Raises ``InvalidOption`` for a bad URL or name.
    """

    def __init__(
        self,
        url: str,
        cluster: str,
        *,
        timeout: float = COORDINATOR_SECONDS,
        jitter: Callable[[], float] = _draw,
    ) -> None:
        self.cluster = checked_cluster(cluster)
        self.coordinator = Coordinator(url, timeout=timeout)
        self.key = f"kvcache:{cluster}:topology"
        self.channel = f"kvcache:{cluster}:events"
        self._jitter = jitter

    async def load(self) -> Topology | None:
        """Return the stored document, or None when there is none."""
        data = await self._ask("GET", self.key)
        if data is None:
            return None
        try:
            document = Topology.from_json(data)
        except TopologyError as error:
            raise TopologyError(f"the document {self.key} at {self.coordinator.server} is damaged: {error}") from error
        if document.cluster != self.cluster:
            raise TopologyError(f"{self.key} at {self.coordinator.server} is the document of {document.cluster!r}")
        return document

    async def commit(self, document: Topology, expected_epoch: int) -> bool:
        """Store ``document`` and announce its epoch, if the stored one has ``expected_epoch`` (0: is absent).

        False says that another writer was first. After ``ControlPlaneUnavailable`` the document may have been
        stored: ask again, compare-and-set makes that safe.
        """
        if document.cluster != self.cluster or document.epoch <= expected_epoch:
            raise TopologyError(f"{document!r} cannot follow epoch {expected_epoch} of {self.cluster!r}")
        outcome = await self._ask(
            "EVAL",
            _COMMIT,
            2,
            self.key,
            self.channel,
            expected_epoch,
            document.cluster_id,
            document.epoch,
            document.to_json(),
            document.fence,
        )
        if outcome == b"fenced":
            raise StaleFence(f"fence {document.fence} of topology: a later holder of the lock has changed {self.key}")
        if outcome in (b"damaged", b"foreign"):
            raise TopologyError(f"{self.key} at {self.coordinator.server} is {outcome.decode()}; it was left as it is")
        return bool(outcome == b"done")

    async def register(self, member: Member, found: Callable[[], Topology]) -> Topology:
        """Have ``member`` in the document as a process that is alive now, and return the document.

        The first member of all starts from ``found()``. What is there already as it should be makes no new epoch.
        """
        return await self._change(lambda stored: registered(stored or found(), member))

    async def update(self, change: Callable[[Topology], Topology], known: Topology | None = None) -> Topology:
        """Put ``change`` of the stored document in its place, and return what is stored then.

        It is computed again when another writer was first. Raises ``ControlPlaneUnavailable`` if the document is gone, or
        older than ``known``: a server that has lost it must be given it back first.
        """

        def checked(stored: Topology | None) -> Topology:
            if stored is None or (known is not None and stored.epoch < known.epoch):
                state = f"is at epoch {stored.epoch}" if stored else "is gone"
                raise ControlPlaneUnavailable(
                    f"the document {self.key} at {self.coordinator.server} {state}; not restored yet"
                )
            return change(stored)

        return await self._change(checked)

    async def _change(self, change: Callable[[Topology | None], Topology]) -> Topology:
        waits = delays(self._jitter)
        for _ in range(CONFLICTS_MAX):
            stored = await self.load()
            document = change(stored)
            if document is stored or await self.commit(document, stored.epoch if stored else 0):
                return document
            await asyncio.sleep(min(0.1, next(waits)))
        raise ControlPlaneUnavailable(f"{CONFLICTS_MAX} other changes of {self.key} came first; this one gave up")

    async def restore(self, document: Topology) -> bool:
        """Give a server that has lost the document, or fallen back to an older one, ``document``; True if it was taken."""
        outcome = await self._ask(
            "EVAL", _RESTORE, 2, self.key, self.channel, document.cluster_id, document.epoch, document.to_json()
        )
        return bool(outcome == b"done")

    async def join(self, member: Member, found: Callable[[], Topology]) -> Topology:
        """Register, and go on trying for as long as coordination does not answer; logs when that begins."""
        outage = Outage(f"cannot register {member.id} in cluster {self.cluster!r} yet", self._jitter)
        while True:
            try:
                document = await self.register(member, found)
            except ControlPlaneUnavailable as error:
                await asyncio.sleep(outage.failed(error))
            else:
                outage.over()
                return document

    async def watch(self, known: Topology | None = None) -> AsyncIterator[Topology]:
        """Yield each document that is newer than ``known`` and than all yielded before, for ever.

        Woken by events, and by a poll for those that were lost. Goes on when the server goes away and comes
        back. A document that is absent, older, damaged or of another cluster is logged, once, and not
        yielded.
        """
        latest = known
        outage = Outage(f"cluster {self.cluster!r} does not hear of changes", self._jitter)
        oddity = ""
        while True:
            try:
                async with self.coordinator.subscription(self.channel) as events:
                    while True:
                        document, complaint = await self._newer(latest)
                        outage.over()
                        if complaint and complaint != oddity:
                            journal.say("document_ignored", complaint=complaint, document=latest)
                        oddity = complaint
                        if document is not None:
                            latest = document
                            yield document
                        await self._wake_up(events, latest)
            except ControlPlaneUnavailable as error:
                await asyncio.sleep(outage.failed(error))

    async def close(self) -> None:
        """Close the connections. Safe to call again."""
        await self.coordinator.close()

    async def _newer(self, latest: Topology | None) -> tuple[Topology | None, str]:
        """Return the stored document if it may follow ``latest``, and what is wrong if it may not."""
        try:
            document = await self.load()
        except TopologyError as error:
            return None, str(error)
        if document is None:
            return None, f"{self.key} at {self.coordinator.server} is gone" if latest else ""
        if latest is None or (document.cluster_id == latest.cluster_id and document.epoch > latest.epoch):
            return document, ""
        if document == latest:
            return None, ""
        return None, f"refused a foreign or older document in {self.key} at {self.coordinator.server}: {document!r}"

    async def _wake_up(self, events: Subscription, latest: Topology | None) -> None:
        """Return when a newer epoch is announced, or when it is time to poll."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + POLL_SECONDS * (0.75 + self._jitter() / 2)
        while (left := deadline - loop.time()) > 0:
            announced = await events.next(left)
            if announced is not None and not (latest and announced == b"%d" % latest.epoch):
                return

    async def _ask(self, *command: str | bytes | int) -> Any:
        try:
            return await self.coordinator.ask(*command)
        except ControlPlaneUnavailable as error:
            if error.detail == b"WRONGTYPE":
                raise TopologyError(f"{self.key} at {self.coordinator.server} is no document: {error}") from error
            raise

    def __repr__(self) -> str:
        return f"<Registry {self.key} at {self.coordinator.server} timeout={self.coordinator.timeout}s>"
