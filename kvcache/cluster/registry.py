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
import logging
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Final
from urllib.parse import urlsplit

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from kvcache.cluster.outage import Outage, delays
from kvcache.option_values import parse_coordinator, parse_name
from kvcache_client.placement.topology import Member, Topology
from kvcache_client.protocol.errors import ControlPlaneUnavailable, InvalidOption, TopologyError

__all__ = ["Registry"]

_log = logging.getLogger(__name__)

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
elseif ARGV[1] ~= '0' then
  return 'conflict'
end
redis.call('SET', KEYS[1], ARGV[4])
redis.call('PUBLISH', KEYS[2], ARGV[3])
return 'done'
"""
"""The compare-and-set. Keys: document, channel. Arguments: expected epoch, cluster id, new epoch, JSON."""


_draw: Final = random.SystemRandom().random
"""Not the ``random`` module's shared generator: a program that seeds it must see no trace of us."""


class Registry:
    """The cluster's document in Redis or Valkey.

    ``url`` is ``redis://``, ``rediss://`` or ``unix://`` (``valkey://`` and ``valkeys://`` mean the first
    two). ``timeout`` bounds each exchange with the server, in seconds. ``jitter`` draws from [0, 1).

    Every method raises ``ControlPlaneUnavailable`` when the server does not answer, and ``TopologyError``
    when what it holds is no valid document of this cluster. Raises ``InvalidOption`` for a bad URL or name.
    """

    def __init__(
        self,
        url: str,
        cluster: str,
        *,
        timeout: float = 1.0,
        jitter: Callable[[], float] = _draw,
    ) -> None:
        self.cluster = _checked(parse_name, "cluster", cluster)
        self.key = f"kvcache:{cluster}:topology"
        self.channel = f"kvcache:{cluster}:events"
        self.timeout = timeout
        self._jitter = jitter
        self._redis = _client(_checked(parse_coordinator, "coordinator", url), timeout)
        self._server = _without_secrets(url)

    async def load(self) -> Topology | None:
        """Return the stored document, or None when there is none."""
        data = await self._ask("GET", self.key)
        if data is None:
            return None
        try:
            document = Topology.from_json(data)
        except TopologyError as error:
            raise TopologyError(f"the document {self.key} at {self._server} is damaged: {error}") from error
        if document.cluster != self.cluster:
            raise TopologyError(f"{self.key} at {self._server} is the document of {document.cluster!r}")
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
        )
        if outcome in (b"damaged", b"foreign"):
            raise TopologyError(f"{self.key} at {self._server} is {outcome.decode()}; it was left as it is")
        return bool(outcome == b"done")

    async def register(self, member: Member, found: Callable[[], Topology]) -> Topology:
        """Put ``member`` into the document, in place of the one with its id, and return the document.

        The first member of all starts from ``found()``. A member that stands there already makes no new
        epoch.
        """
        waits = delays(self._jitter)
        for _ in range(CONFLICTS_MAX):
            stored = await self.load()
            base = stored or found()
            if member in base.members and stored is not None:
                return stored
            document = base if member in base.members else base.with_member(member)
            if await self.commit(document, stored.epoch if stored else 0):
                return document
            await asyncio.sleep(min(0.1, next(waits)))
        raise ControlPlaneUnavailable(f"{CONFLICTS_MAX} other changes of {self.key} came first; registration gave up")

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
                async with self._subscription() as events:
                    while True:
                        document, complaint = await self._newer(latest)
                        outage.over()
                        if complaint and complaint != oddity:
                            _log.warning("%s; keeping %r", complaint, latest)
                        oddity = complaint
                        if document is not None:
                            latest = document
                            yield document
                        await self._wake_up(events, latest)
            except ControlPlaneUnavailable as error:
                await asyncio.sleep(outage.failed(error))

    async def close(self) -> None:
        """Close the connections. Safe to call again."""
        await self._redis.aclose()

    async def _newer(self, latest: Topology | None) -> tuple[Topology | None, str]:
        """Return the stored document if it may follow ``latest``, and what is wrong if it may not."""
        try:
            document = await self.load()
        except TopologyError as error:
            return None, str(error)
        if document is None:
            return None, f"{self.key} at {self._server} is gone" if latest else ""
        if latest is None or (document.cluster_id == latest.cluster_id and document.epoch > latest.epoch):
            return document, ""
        if document == latest:
            return None, ""
        return None, f"refused a foreign or older document in {self.key} at {self._server}: {document!r}"

    @asynccontextmanager
    async def _subscription(self) -> AsyncIterator[Any]:
        events = self._redis.pubsub()
        try:
            with self._translated():
                await events.subscribe(self.channel)
            yield events
        finally:
            with suppress(ControlPlaneUnavailable), self._translated():
                await events.aclose()  # type: ignore[no-untyped-call]

    async def _wake_up(self, events: Any, latest: Topology | None) -> None:
        """Return when a newer epoch is announced, or when it is time to poll."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + POLL_SECONDS * (0.75 + self._jitter() / 2)
        while (left := deadline - loop.time()) > 0:
            with self._translated():
                message = await events.get_message(ignore_subscribe_messages=True, timeout=left)
            if message and not (latest and message["data"] == b"%d" % latest.epoch):
                return

    async def _ask(self, *command: str | bytes | int) -> Any:
        with self._translated():
            async with asyncio.timeout(2 * self.timeout):  # one to connect, one to answer
                return await self._redis.execute_command(*command)  # type: ignore[no-untyped-call]

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """The one place where errors of redis and of the system become ours.

        It also revives a cancellation that was swallowed inside: ``asyncio.wait_for``, on which redis-py builds, loses
        one that comes in the moment of success (until Python 3.12), and who cancelled would wait for ever.
        """
        task = asyncio.current_task()
        cancellations = task.cancelling() if task else 0
        try:
            yield
        except ResponseError as error:
            if str(error).startswith("WRONGTYPE"):
                raise TopologyError(f"{self.key} at {self._server} is no document: {error}") from error
            raise ControlPlaneUnavailable(f"coordination at {self._server} refused: {error}") from error
        except (RedisError, OSError) as error:
            reason = str(error) or type(error).__name__
            raise ControlPlaneUnavailable(f"coordination at {self._server} does not answer: {reason}") from error
        finally:
            if task and task.cancelling() > cancellations:
                raise asyncio.CancelledError

    def __repr__(self) -> str:
        return f"<Registry {self.key} at {self._server} timeout={self.timeout}s>"


def _client(url: str, timeout: float) -> redis.Redis:
    """Return a client that neither retries nor waits on its own: both are decided here."""
    try:
        return redis.Redis.from_url(
            url.replace("valkey", "redis", 1) if url.startswith("valkey") else url,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
            client_name="kvcache",
        )
    except ValueError as error:
        raise InvalidOption(f"coordinator: {error}") from error


def _checked(parse: Callable[[object], str | None], option: str, raw: str) -> str:
    try:
        value = parse(raw)
    except ValueError as error:
        raise InvalidOption(f"{option}: {error}") from error
    if not value:
        raise InvalidOption(f"{option} is empty")
    return value


def _without_secrets(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
