"""The asyncio session: what an AsyncClient and its namespaces share.

Here lives driving plans with awaits, finding the cluster and keeping up with it. Never here: what a verb does
(``core.plans``), which the blocking session drives just as well, or the bytes (``aio_connection``).
"""

from __future__ import annotations

import asyncio
import os
import weakref
from asyncio import get_running_loop
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from kvcache_client.bodies.aio_connection import connect
from kvcache_client.bodies.aio_flights import AsyncFlights, load
from kvcache_client.bodies.aio_link import AsyncLink, Nowhere
from kvcache_client.bodies.aio_round import RaceWaiter, RoundWaiter, WatchedWaiter
from kvcache_client.core import inspecting
from kvcache_client.core.brain import Brain, Surroundings
from kvcache_client.core.config import ClientConfig
from kvcache_client.core.effects import (
    Ask,
    Effect,
    Load,
    Outcome,
    Pause,
    Plan,
    Race,
    Refresh,
    Round,
    Share,
    Slow,
    Watched,
    Within,
)
from kvcache_client.core.failing_open import OPEN_AGAIN_SECONDS, is_forgiven
from kvcache_client.core.routing import View
from kvcache_client.placement.topology import Topology
from kvcache_client.protocol.errors import (
    ClientClosed,
    KvCacheError,
    NoAnswer,
    TopologyError,
    Unauthenticated,
    Unavailable,
    WrongCluster,
    WrongEventLoop,
)
from kvcache_client.protocol.verbs import Verb
from kvcache_client.seeds import no_seed_answered

__all__ = ["AsyncSession"]

T = TypeVar("T")

_GET = int(Verb.GET)

_REFRESH_JITTER = 0.1
"""Seconds over which the clients of a cluster spread their look at a new topology."""

_sessions: weakref.WeakSet[AsyncSession] = weakref.WeakSet()


class AsyncSession:
    """The connections and the knowledge that a client and its namespaces share."""

    def __init__(self, seeds: Sequence[str], config: ClientConfig, around: Surroundings) -> None:
        self.seeds = tuple(seeds)
        self.brain = Brain(config, around)
        self._random = around.random
        self._links: dict[str, AsyncLink] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        """The loop in which calls may run right now; None until a topology is known, and after closing."""
        self._create_future: Callable[[], asyncio.Future[Outcome]] = _no_loop
        self._owner: asyncio.AbstractEventLoop | None = None
        self._learning: asyncio.Task[None] | None = None
        self._flights = AsyncFlights(self.brain, self.run, self._post_alone)
        self._closed = False
        self._open_again_at = float("-inf")
        _sessions.add(self)

    async def run(self, plan: Plan[T]) -> T:
        """Drive ``plan`` to its end and return its result."""
        if self._loop is not get_running_loop():
            await self.open_or_fail_open()
        links = self._links
        create_future = self._create_future
        try:
            effect = plan.send(None)
            while True:
                if effect.__class__ is tuple:
                    ask: Ask = effect  # type: ignore[assignment]  # the class was just compared
                    node, request = ask
                    future = create_future()
                    (links.get(node) or self._link(node)).post(request, future)
                    outcome: Any = await future
                    if outcome.__class__ is Slow and request[1] != _GET:
                        outcome = await self._wait_on(outcome)
                    effect = plan.send(outcome)
                elif effect.__class__ is list:  # a set at two copies: the second answer is mostly there after the first
                    futures = []
                    for node, request in effect:
                        futures.append(future := create_future())
                        (links.get(node) or self._link(node)).post(request, future)
                    outcomes = []
                    for future in futures:
                        outcome = await future
                        outcomes.append(outcome if outcome.__class__ is not Slow else await self._wait_on(outcome))
                    effect = plan.send(outcomes)
                else:
                    effect = plan.send(await self._perform(effect))
        except StopIteration as done:
            result: T = done.value
            return result

    async def _perform(self, effect: Effect) -> Any:
        match effect:
            case Within():
                return await self._within(effect.round, effect.seconds)
            case Watched():
                return await self._watched(effect.round)
            case Race():
                return await self._race(effect.slow, effect.others)
            case Load():
                return await load(effect)
            case Share():
                return await self._flights.share(effect)
            case Pause():
                await asyncio.sleep(effect.seconds)
            case Refresh():
                await self.refresh()
        return None

    async def _within(self, asks: Round, seconds: float) -> list[Outcome]:
        waiter = self._post_all(asks, patiently=seconds > self.brain.attempt)
        await asyncio.wait((waiter.future,), timeout=seconds)
        waiter.future.cancel()  # a reply that still comes is dropped by its id
        return [
            NoAnswer(f"no answer within {seconds:.3g} s", node=node) if outcome is None else outcome
            for (node, _), outcome in zip(asks, waiter.outcomes, strict=True)
        ]

    async def _watched(self, asks: Round) -> list[Outcome | Slow]:
        waiter = WatchedWaiter(get_running_loop(), asks, self.brain.nodes)
        self._post_round(asks, waiter)
        waiter.watch()
        return await waiter.future

    async def _race(self, slow: Sequence[Slow], others: Round) -> list[Outcome | None]:
        waiter = RaceWaiter(get_running_loop(), len(slow) + len(others), len(slow))
        for place, one in enumerate(slow):
            one.forward(waiter.at(place))
        self._post_round(others, waiter, len(slow))
        outcomes: list[Outcome | None] = await waiter.future
        return outcomes

    async def _wait_on(self, slow: Slow) -> Outcome:
        """Wait for an answer that must not be asked for twice."""
        (outcome,) = await self._race([slow], [])
        return outcome  # type: ignore[return-value]  # it is settled when it is alone

    def _post_alone(self, ask: Ask) -> None:
        """Send a request whose answer nobody waits for."""
        if not self._closed:
            self._post_all([ask])

    def _post_all(self, asks: Round, *, patiently: bool = False) -> RoundWaiter:
        waiter = RoundWaiter(get_running_loop(), len(asks))
        self._post_round(asks, waiter, patiently=patiently)
        return waiter

    def _post_round(self, asks: Round, waiter: RoundWaiter, first: int = 0, *, patiently: bool = False) -> None:
        for place, (node, request) in enumerate(asks, first):
            link = self._links.get(node) or self._link(node)
            (link.post_patiently if patiently else link.post)(request, waiter.at(place))

    def _link(self, node: str) -> AsyncLink | Nowhere:
        link = self._links.get(node)
        if link is None:
            address = self.brain.require_view().addresses.get(node)
            if address is None:
                return Nowhere(node)
            link = self._links[node] = AsyncLink(self.brain, node, address, self._heard_of_epoch)
        return link

    async def open_or_fail_open(self) -> None:
        """Open; a client that fails open goes on without a cluster, and looks for one again after a while."""
        if self.brain.clock() < self._open_again_at and not self._closed:
            return
        try:
            await self.open()
        except KvCacheError as error:
            if not is_forgiven(self.brain, error):
                raise
            self._open_again_at = self.brain.clock() + OPEN_AGAIN_SECONDS

    async def open(self) -> None:
        """Bind to the running loop and learn the topology. Raises ``Unavailable`` that names each seed and why."""
        if self._closed:
            raise ClientClosed("the client is closed")
        self._owner = running = self._own_loop()
        self._create_future = running.create_future
        if self.brain.view is None:
            await self._single_flight()
        self._loop = running

    def _own_loop(self) -> asyncio.AbstractEventLoop:
        """Return the running loop; what belonged to one that is gone is forgotten, and one that lives keeps its client."""
        running = asyncio.get_running_loop()
        if self._owner is not None and self._owner is not running:
            if not self._owner.is_closed():
                raise WrongEventLoop("this AsyncClient is used from two event loops; make one for each")
            self._forget_connections()
        return running

    async def refresh(self) -> None:
        """Learn the newest topology; what can't be learnt leaves the client with what it has."""
        try:
            await self._single_flight()
        except (Unavailable, TopologyError, Unauthenticated):
            self.brain.require_view()

    async def _single_flight(self) -> None:
        """However many calls find the topology too old, one of them asks."""
        if self._learning is None or self._learning.done():
            self._learning = asyncio.get_running_loop().create_task(self._learn(), name="kvcache topology")
            self._learning.add_done_callback(_looked_at)
        learning = self._learning
        try:
            await asyncio.shield(learning)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._closed and learning.cancelled() and not (task and task.cancelling()):
                raise ClientClosed("the client was closed during the call") from None  # the caller was not cancelled
            raise

    async def _learn(self) -> None:
        topology = None
        if self.brain.view is not None:
            self._loop = asyncio.get_running_loop()
            topology = await self.run(inspecting.newest_topology(self.brain))
        if topology is None:
            topology = await self._ask_seeds()
        if self.brain.knows(topology):
            return
        # Building a placement takes tens of milliseconds: not on the caller's event loop.
        for link in self.adopt(await asyncio.get_running_loop().run_in_executor(None, View, topology)):
            await link.close()

    def adopt(self, view: View) -> list[AsyncLink]:
        """Route by ``view`` from now on; returns the ways to nodes that are gone, or elsewhere now, for the caller to close."""
        before = self.brain.view
        self.brain.adopt(view)
        if self.brain.view is not view:
            return []
        lives = before.lives if before else {}
        moved = [
            link
            for node, link in self._links.items()
            if view.addresses.get(node) != link.address
            or (view.lives[node] != lives.get(node) and not link.connected)  # a new process: no use to wait any longer
        ]
        for link in moved:
            del self._links[link.node]
        return moved

    async def _ask_seeds(self) -> Topology:
        errors: dict[str, KvCacheError] = {}
        for seed in sorted(self.seeds, key=lambda seed: self._random()):
            try:
                connection, _ = await connect(self.brain, seed)
                try:
                    outcome = await connection.ask([0, Verb.TOPOLOGY])
                finally:
                    connection.end(ConnectionError("asked all that was needed"))
                return inspecting.read_topology(outcome)
            except KvCacheError as error:
                errors[seed] = error
        raise no_seed_answered(errors)

    def _heard_of_epoch(self, epoch: int) -> None:
        view = self.brain.view
        if view is not None and epoch > view.epoch and self._owner is not None and not self._closed:
            self._owner.call_later(self._random() * _REFRESH_JITTER, self._refresh_soon)

    def _refresh_soon(self) -> None:
        if not self._closed and (self._learning is None or self._learning.done()):
            self._learning = asyncio.get_running_loop().create_task(self._learn_quietly(), name="kvcache topology")

    async def _learn_quietly(self) -> None:
        try:
            await self._learn()
        except (Unavailable, TopologyError, WrongCluster, Unauthenticated):
            return  # nobody waits for this; the next call that needs a newer topology says what is wrong

    def _forget_connections(self) -> None:
        """Start over without closing sockets: they belong to another process or to a loop that is gone."""
        self._links = {}
        self._loop = self._owner = self._learning = None
        self._create_future = _no_loop
        self.brain.start_over()

    async def close(self) -> None:
        """Close all connections; calls under way end with an error, later ones with ``ClientClosed``.

        Raises ``WrongEventLoop``, and leaves all as it is, where the client belongs to another loop that lives.
        """
        self._own_loop()
        self._closed = True
        self._loop = None
        await self._flights.close()
        learning, self._learning = self._learning, None
        if learning is not None:
            learning.cancel()
            await asyncio.gather(learning, return_exceptions=True)
        links, self._links = self._links, {}
        for link in links.values():
            await link.close()
        self._owner = None

    def __repr__(self) -> str:
        return (
            f"<AsyncSession {'closed' if self._closed else 'open'} {self.brain!r} links={list(self._links.values())}>"
        )


def _no_loop() -> asyncio.Future[Outcome]:
    raise ClientClosed("the client is not open")


def _looked_at(task: asyncio.Task[None]) -> None:
    """Whoever asked may have been cancelled; then nobody else looks at what went wrong."""
    if not task.cancelled():
        task.exception()


def _start_over_after_fork() -> None:
    for session in list(_sessions):
        session._forget_connections()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_over_after_fork)
