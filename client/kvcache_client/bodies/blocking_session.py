"""The blocking session: what a Client and its namespaces share.

Here lives driving plans with plain sockets, finding the cluster and keeping up with it. Never here: what a verb does
(``core.plans``), which the asyncio session drives just as well, or the bytes (``blocking_channel``).

Each call takes a free connection of the node from a pool and puts it back, so any number of threads or greenlets can use one
client and none waits for another. A round is sent to all its nodes before any reply is read.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final, TypeVar

from kvcache_client.bodies.blocking_channel import Channel, Slot, connect
from kvcache_client.bodies.blocking_flights import BlockingFlights, load
from kvcache_client.bodies.blocking_race import Held, run_race
from kvcache_client.core import inspecting
from kvcache_client.core.brain import Brain, Surroundings
from kvcache_client.core.config import ClientConfig
from kvcache_client.core.effects import (
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
    ConnectFailed,
    KvCacheError,
    NoAnswer,
    TopologyError,
    Unauthenticated,
    Unavailable,
)
from kvcache_client.protocol.verbs import Request, Verb
from kvcache_client.seeds import no_seed_answered

__all__ = ["BlockingSession"]

T = TypeVar("T")

_GET: Final = int(Verb.GET)
_COUNTED_TOGETHER: Final = 16

_sessions: weakref.WeakSet[BlockingSession] = weakref.WeakSet()


class BlockingSession:
    """The connections and the knowledge that a client and its namespaces share."""

    def __init__(self, seeds: Sequence[str], config: ClientConfig, around: Surroundings) -> None:
        self.seeds = tuple(seeds)
        self.brain = Brain(config, replace(around, mutex=threading.Lock))
        self._random = around.random
        self._pools: dict[str, list[Channel]] = {}
        self._learning = threading.RLock()  # learning runs a plan, which may hear of a newer topology
        self._flights = BlockingFlights(self.brain, self.run, lambda ask: self._round([ask], self.brain.attempt))
        self._newer_epoch = False
        self._open = False
        self._closed = False
        self._open_again_at = float("-inf")
        self._sent = 0
        _sessions.add(self)

    def run(self, plan: Plan[T]) -> T:
        """Drive ``plan`` to its end and return its result."""
        if not self._open or self._newer_epoch or self.brain.down:
            self._upkeep()
        try:
            effect = plan.send(None)
            while True:
                if effect.__class__ is tuple:
                    effect = plan.send(self._ask(effect[0], effect[1]))  # type: ignore[arg-type,misc]
                else:
                    effect = plan.send(self._perform(effect))
        except StopIteration as done:
            result: T = done.value
            return result

    def _ask(self, node: str, request: Request) -> Outcome | Slow:
        try:
            channel = self._pools[node].pop()
        except (KeyError, IndexError):
            try:
                channel = self._connect(node)
            except KvCacheError as error:
                return error
        brain = self.brain
        state = brain.nodes[node]
        hedged = request[1] == _GET and brain.config.hedging and len(brain.nodes) > 1
        began = brain.clock()
        outcome = channel.ask(request, brain.attempt, min(state.hedge_after, brain.attempt / 2) if hedged else 0.0)
        if isinstance(outcome, Slow):
            outcome.origin = channel
            state.still_waiting(outcome.waited)
            return outcome
        now = brain.clock()
        brain.heard(state, now - began, now)
        self._count(node, 1)
        if channel.broken is None and outcome.__class__ is tuple and not self._closed and node in self._pools:
            self._pools[node].append(channel)  # nearly always, so without a call in between
        else:
            self._put_back(channel, outcome)
        return outcome

    def _count(self, node: str, requests: int) -> None:
        """Note that requests were sent and are answered; the budgets hear of them a few at a time."""
        state = self.brain.nodes[node]
        state.in_flight = max(state.in_flight - requests, 0)
        self._sent += requests
        if self._sent >= _COUNTED_TOGETHER:
            self.brain.sent(self._sent)
            self._sent = 0

    def _race(self, slow: Sequence[Slow], others: Round) -> list[Outcome | None]:
        """Wait on for slow answers, and for others if some are asked for."""
        seconds = max(self.brain.attempt - max(it.waited for it in slow), 0.001)
        beside, slots = self._send(others, time.monotonic() + seconds)
        origins = dict.fromkeys(it.origin for it in slow)
        held: list[Held] = [*((origin, [it for it in slow if it.origin is origin]) for origin in origins), *beside]
        outcomes = run_race(slow, slots, held, seconds)
        for channel, waiters in held:
            self._count(channel.node, len(waiters))
            if any(waiter.outcome is None for waiter in waiters):
                self._pools.setdefault(channel.node, []).insert(0, channel)  # an answer is still to come: use it last
            else:
                self._put_back(channel, waiters[-1].outcome, excused=channel.link.heard)
        return outcomes

    def _put_back(self, channel: Channel, outcome: Outcome | None, *, excused: bool = False) -> None:
        """Keep a channel that is still good for the next call, and note what its last outcome says of the node.

        A node is ``excused`` that had hardly time for an answer, or was in the middle of one; only its channel is given up.
        """
        silent = outcome.__class__ is NoAnswer
        if silent and excused:
            channel.close()
            return
        if silent:
            self.brain.health.failed(channel.node, outcome)  # type: ignore[arg-type]  # its class was just compared
        # A silent connection may be dead although the node is well; asking it again would be silence again.
        if channel.broken is None and not silent:
            self._pools.setdefault(channel.node, []).append(channel)
            if self._closed:  # perhaps meanwhile, by another thread
                self._drain(channel.node)
        else:
            # The others of this pool were made before the node went away: they are as dead, and would each fail a call.
            channel.close()
            self._drain(channel.node)

    def _drain(self, node: str) -> None:
        """Close the free connections of a node. Pools are emptied, never replaced: another thread may be about to fill one."""
        pool = self._pools.get(node, [])
        while pool:
            with suppress(IndexError):  # another thread took the last one
                pool.pop().close()

    def _connect(self, node: str) -> Channel:
        address = self.brain.require_view().addresses.get(node)
        if address is None:  # a plan may still be routing by an older topology
            raise ConnectFailed(f"{node} is not a member any more", node=node)
        try:
            channel = connect(self.brain, address, node=node, on_epoch=self._heard_of_epoch)
        except KvCacheError as error:
            self.brain.health.failed(node, error)
            raise
        self.brain.health.answered(node)
        return channel

    def _perform(self, effect: Effect) -> Any:
        match effect:
            case Within():
                return self._round(effect.round, effect.seconds)
            case list():
                return self._round(effect, self.brain.attempt)
            case Watched():
                return self._watched(effect.round)
            case Race():
                return self._race(effect.slow, effect.others)
            case Load():
                return load(effect)
            case Share():
                return self._flights.share(effect)
            case Pause():
                time.sleep(effect.seconds)
            case Refresh():
                self.refresh()
        return None

    def _round(self, asks: Round, seconds: float) -> list[Outcome]:
        """Send to every node, then read from every node."""
        deadline = time.monotonic() + seconds
        sent, slots = self._send(asks, deadline)
        for channel, mine in sent:
            channel.collect(mine, deadline)
            self._count(channel.node, len(mine))
            excused = channel.link.heard or not self.brain.tells_silence(seconds)
            self._put_back(channel, mine[-1].outcome, excused=excused)
        return [slot.outcome for slot in slots]

    def _watched(self, asks: Round) -> list[Outcome | Slow]:
        """Send to every node, then read from every node for as long as it usually takes."""
        began = time.monotonic()
        sent, slots = self._send(asks, began + self.brain.attempt)
        for channel, mine in sent:
            state = self.brain.nodes[channel.node]
            outcomes = channel.collect_patiently(mine, began, min(state.hedge_after, self.brain.attempt / 2))
            slow = [outcome for outcome in outcomes if isinstance(outcome, Slow)]
            self._count(channel.node, len(mine) - len(slow))
            for outcome in slow:
                outcome.origin = channel
                state.still_waiting(outcome.waited)
            if not slow:
                self._put_back(channel, mine[-1].outcome)
        return [slot.outcome for slot in slots]

    def _send(self, asks: Round, deadline: float) -> tuple[list[tuple[Channel, list[Slot]]], list[Slot]]:
        """Send to every node; returns who waits at each, and who waits for each. Who can't be sent has its error already."""
        places: dict[str, list[int]] = {}
        for place, (node, _) in enumerate(asks):
            places.setdefault(node, []).append(place)
        slots: list[Slot] = [Slot()] * len(asks)
        sent = []
        for node, wanted in places.items():
            try:
                channel = self._take(node)
            except KvCacheError as error:
                for place in wanted:
                    slots[place] = Slot()
                    slots[place].set_result(error)
                continue
            mine = channel.send([asks[place][1] for place in wanted], deadline)
            for place, slot in zip(wanted, mine, strict=True):
                slots[place] = slot
            sent.append((channel, mine))
        return sent, slots

    def _take(self, node: str) -> Channel:
        try:
            return self._pools[node].pop()
        except (KeyError, IndexError):
            return self._connect(node)

    def _upkeep(self) -> None:
        """What the asyncio client does in the background is done here, before a call, by one caller at a time."""
        if self._closed:
            raise ClientClosed("the client is closed")
        if not self._open:
            self.open_or_fail_open()
        for node in self.brain.health.due():
            self._drain(node)
            try:
                channel = self._connect(node)
            except KvCacheError:
                continue  # noted by _connect; the next try is scheduled
            self._put_back(channel, None)
        if self._newer_epoch:
            self._newer_epoch = False
            self.refresh()

    def open_or_fail_open(self) -> None:
        """Open; a client that fails open goes on without a cluster, and looks for one again after a while."""
        if self.brain.clock() < self._open_again_at and not self._closed:
            return
        try:
            self.open()
        except KvCacheError as error:
            if not is_forgiven(self.brain, error):
                raise
            self._open_again_at = self.brain.clock() + OPEN_AGAIN_SECONDS

    def open(self) -> None:
        """Learn the topology. Raises ``Unavailable`` that names each seed and why."""
        if self._closed:
            raise ClientClosed("the client is closed")
        with self._learning:
            if self.brain.view is None:
                self._adopt(self._ask_seeds())
            self._open = True

    def refresh(self) -> None:
        """Learn the newest topology; what can't be learnt leaves the client with what it has."""
        before = self.brain.view
        with self._learning:
            if self.brain.view is not before:
                return  # another thread has just learnt it
            try:
                topology = self.run(inspecting.newest_topology(self.brain)) or self._ask_seeds()
                self._adopt(topology)
            except (Unavailable, TopologyError, Unauthenticated):
                self.brain.require_view()

    def _adopt(self, topology: Topology) -> None:
        if self.brain.knows(topology):
            return
        old = self.brain.view
        view = View(topology)
        self.brain.adopt(view)
        for node, life in (old.lives if old else {}).items():
            if view.lives.get(node) != life:
                self._drain(node)

    def _ask_seeds(self) -> Topology:
        errors: dict[str, KvCacheError] = {}
        for seed in sorted(self.seeds, key=lambda seed: self._random()):
            try:
                channel = connect(self.brain, seed)
                try:
                    outcome = channel.ask([0, Verb.TOPOLOGY], self.brain.config.connect_timeout)
                finally:
                    channel.close()
                return inspecting.read_topology(outcome)
            except KvCacheError as error:
                errors[seed] = error
        raise no_seed_answered(errors)

    def _heard_of_epoch(self, epoch: int) -> None:
        view = self.brain.view
        if view is not None and epoch > view.epoch:
            self._newer_epoch = True

    def _start_over(self) -> None:
        """Let go of another process's connections: our copies of its sockets are closed, its own stay open."""
        for node in self._pools:
            self._drain(node)
        self._learning = threading.RLock()  # the parent's may have been held at the fork
        self._flights.start_over()
        self.brain.start_over()

    def close(self) -> None:
        """Close all connections."""
        self._closed = True
        self._open = False
        for node in list(self._pools):
            self._drain(node)

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open" if self._open else "new"
        return f"<BlockingSession {state} {self.brain!r} free={ {n: len(p) for n, p in self._pools.items()} }>"


def _start_over_after_fork() -> None:
    for session in list(_sessions):
        session._start_over()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_over_after_fork)
