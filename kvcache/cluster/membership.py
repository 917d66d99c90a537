"""Membership: one node's part in its cluster.

Here lives how a node joins, follows the document, says that it is alive, and comes back after it was away. Never here: what
becomes of the cluster as a whole (``controller``), or data (``loader``, ``handover``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from kvcache.cluster.changes import marked, registered
from kvcache.cluster.controller import Timings
from kvcache.cluster.heartbeat import Heartbeats
from kvcache.cluster.outage import Outage
from kvcache.cluster.registry import Registry
from kvcache.events import journal
from kvcache_client.placement.topology import Member, Topology
from kvcache_client.protocol.errors import ControlPlaneUnavailable, TopologyError

__all__ = ["Membership"]

_BEATS_TO_LIVE: Final = 6
"""Heartbeats that may be lost before a node counts as missing."""


class Membership:
    """The membership of one node. ``adopt`` makes the node go by a document; ``report`` is what a heartbeat carries."""

    def __init__(
        self,
        registry: Registry,
        heartbeats: Heartbeats,
        member: Member,
        adopt: Callable[[Topology], Awaitable[None]],
        report: Callable[[], dict[str, Any]],
        jitter: Callable[[], float],
        timings: Timings,
    ) -> None:
        self.member = member
        self._registry = registry
        self._heartbeats = heartbeats
        self._adopt = adopt
        self._report = report
        self._jitter = jitter
        self._timings = timings
        self._saying = asyncio.Lock()

    async def join(self, found: Callable[[], Topology], check: Callable[[Topology], Awaitable[None]]) -> Topology:
        """Register, as soon as the coordinator answers, and return the document; ``check`` may refuse to join one that is there.

        A document that is missing may have been lost; who sees signs of others leaves it to them to bring it back.
        """
        known = await self._wait_for_signs_of_others()
        if known is not None:
            await check(known)
        return await self._registry.join(self.member, found)

    async def register_again(self) -> None:
        """Take this process's place in a document that has another life of it; tried until it is so."""
        await self._put("is here", lambda topology: registered(topology, self.member))

    async def _wait_for_signs_of_others(self) -> Topology | None:
        outage = Outage(f"cannot register {self.member.id} in cluster {self._registry.cluster!r} yet", self._jitter)
        loop = asyncio.get_running_loop()
        alone_since = None
        while True:
            try:
                if (known := await self._registry.load()) is not None:
                    return known
                others = set(await self._heartbeats.alive()) - {self.member.id}
                outage.over()
            except ControlPlaneUnavailable as error:
                await asyncio.sleep(outage.failed(error))
                continue
            if others:
                alone_since = None
            elif alone_since is None:
                alone_since = loop.time()
            if alone_since is not None and loop.time() - alone_since >= self._timings.found_after:
                return None
            await asyncio.sleep(min(0.05, self._timings.found_after))

    async def follow(self, known: Topology) -> None:
        """Go by every newer document that the coordinator announces, for ever."""
        async for topology in self._registry.watch(known):
            await self._adopt(topology)

    async def beat(self) -> None:
        """Say that this node is alive, for ever."""
        outage = Outage(f"{self.member.id} cannot be seen alive", self._jitter)
        lasting_ms = int(self._timings.beat * 1000) * _BEATS_TO_LIVE
        while True:
            try:
                await self._heartbeats.beat(self.member.id, self._report(), lasting_ms)
                outage.over()
            except ControlPlaneUnavailable as error:
                outage.failed(error)
            await asyncio.sleep(self._timings.beat)

    async def say_up(self) -> None:
        """Have the document say that this node is complete again; tried until it is so."""
        await self._say("up")

    async def say_syncing(self) -> None:
        """Have the document say that this node is alive, and still lacks what it missed."""
        await self._say("syncing")

    async def _say(self, state: str) -> None:
        def change(topology: Topology) -> Topology:
            mine = topology.member(self.member.id)
            if mine is None or mine.state == "joining" or mine.incarnation != self.member.incarnation:
                return topology
            return marked(topology, [mine.id], state)

        await self._put(f"is {state}", change)

    async def _put(self, what: str, change: Callable[[Topology], Topology]) -> None:
        outage = Outage(f"{self.member.id} cannot tell that it {what}", self._jitter)
        async with self._saying:  # one thing after the other: an old one that comes late must not be the last word
            while True:
                try:
                    await self._adopt(await self._registry.update(change))
                except (ControlPlaneUnavailable, TopologyError) as error:
                    await asyncio.sleep(outage.failed(error))
                else:
                    return

    async def leave(self) -> None:
        """Say that this process is gone; the next one need not wait for the heartbeat to run out."""
        try:
            await self._heartbeats.forget(self.member.id)
        except ControlPlaneUnavailable as error:
            journal.say("heartbeat_left", member=self.member.id, error=error)

    def __repr__(self) -> str:
        return f"<Membership of {self.member.id} in {self._registry!r}>"
