"""Sessions and clients: the counterpart of the bodies, on virtual time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from kvcache_client import Client
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
from kvcache_client.core.hedging import is_over
from kvcache_client.placement.topology import Topology
from kvcache_client.protocol.errors import TopologyError
from kvcache_client.protocol.verbs import Request, Verb
from memory_network.calls import Call
from memory_network.flights import MemoryFlights, load
from memory_network.wires import Slot, Wire
from memory_network.world import placed

if TYPE_CHECKING:
    from memory_network.network import MemoryNetwork

__all__ = ["MemoryClient", "MemorySession"]


class MemorySession:
    """What a client and its namespaces share: the counterpart of the bodies' sessions."""

    def __init__(self, network: MemoryNetwork, name: str, config: ClientConfig, topology: Topology) -> None:
        self.network = network
        self.name = name
        self.skew_ms = 0
        around = Surroundings(lambda: network.now, lambda: network.wall_ms() + self.skew_ms, network.random.random)
        self.brain = Brain(config, around)
        self.brain.adopt(placed(topology))
        self.wires: dict[str, Wire] = {}
        self.flights = MemoryFlights(self)
        self._newer_epoch = False

    def run(self, plan: Plan[Any]) -> Any:
        """Drive ``plan`` to its end while everything else goes on; return its result."""
        call = self.start(plan)
        self.network.run(until=lambda: call.done)
        return call.result()

    def start(self, plan: Plan[Any], then: Callable[[Call], None] | None = None) -> Call:
        """Begin to drive ``plan``; it goes on whenever the network runs."""
        self._upkeep()
        return Call(self, self._after_refresh(plan) if self._newer_epoch else plan, then)

    def _after_refresh(self, plan: Plan[Any]) -> Plan[Any]:
        self._newer_epoch = False
        yield Refresh()
        return (yield from plan)

    def _upkeep(self) -> None:
        """Try the nodes whose back-off is over, as the blocking body does before a call."""
        for node in self.brain.health.due():
            wire = self.wires.pop(node, None)
            if wire is not None:
                wire.end("replaced")
            self._wire(node)

    def _wire(self, node: str) -> Wire:
        wire = self.wires.get(node)
        if wire is None:
            wire = self.wires[node] = Wire(self, self.network.nodes[node])
        return wire

    def heard_of_epoch(self, epoch: int) -> None:
        """Note that there is a newer topology; it is learnt before the next call."""
        self._newer_epoch = self._newer_epoch or epoch > self.brain.require_view().epoch

    def perform(self, effect: Effect, then: Callable[[Any], None]) -> None:
        """Do what a plan asks for and tell ``then`` the outcome."""
        match effect:
            case Within():
                self._round(effect.round, effect.seconds, then)
            case list():
                self._round(effect, self.brain.attempt, then)
            case Load():
                load(self, effect, then)
            case Share():
                self.flights.share(effect, then)
            case Pause():
                self.network.after(effect.seconds, partial(then, None))
            case Refresh():
                Call(self, inspecting.newest_topology(self.brain), partial(self._learn, then))
            case Watched():
                self._watched(effect.round, then)
            case Race():
                self._race(effect.slow, effect.others, then)
            case (node, request):
                self._ask(node, request, then)

    def _ask(self, node: str, request: Request, then: Callable[[Any], None]) -> None:
        """One request. A GET is said to be slow after a while, as the bodies do, and goes on waiting by itself."""
        if request[1] == Verb.GET and self.brain.config.hedging:
            self._watched([(node, request)], lambda outcomes: then(outcomes[0]))
        else:
            self._round([(node, request)], self.brain.attempt, lambda outcomes: then(outcomes[0]))

    def _watched(self, asks: Round, then: Callable[[list[Any]], None]) -> None:
        """A round that is told of those that are slow, once all that have no outcome are."""
        outcomes: list[Any] = [None] * len(asks)
        began = self.network.now

        def settle(place: int, outcome: Outcome) -> None:
            if isinstance(outcomes[place], Slow):
                outcomes[place].set_result(outcome)
                return
            outcomes[place] = outcome
            if None not in outcomes and not any(isinstance(it, Slow) for it in outcomes):
                then(outcomes)

        def look() -> None:
            waiting = [(place, node) for place, (node, _) in enumerate(asks) if outcomes[place] is None]
            if not waiting:
                return
            due = began + max(self.brain.nodes[node].hedge_after for _, node in waiting)
            if due > self.network.now:
                self.network.after(due - self.network.now, look)
                return
            for place, node in waiting:
                outcomes[place] = Slow(node, self.network.now - began)
                self.brain.nodes[node].still_waiting(outcomes[place].waited)
            then(outcomes)

        for place, ask in enumerate(asks):
            self._round([ask], self.brain.attempt, lambda reply, place=place: settle(place, reply[0]))  # type: ignore[misc]
        look()

    def _race(self, slow: Sequence[Slow], others: Round, then: Callable[[Any], None]) -> None:
        places: list[Outcome | None] = [None] * (len(slow) + len(others))
        told = False

        def settle(place: int, outcome: Outcome) -> None:
            nonlocal told
            if told:
                return
            places[place] = outcome
            if is_over(places[: len(slow)], places[len(slow) :]):
                told = True
                then(places)

        for place, one in enumerate(slow):
            one.forward(_Told(partial(settle, place)))
        for place, ask in enumerate(others, len(slow)):
            self._round([ask], self.brain.attempt, lambda reply, place=place: settle(place, reply[0]))  # type: ignore[misc]

    def _round(self, asks: Round, seconds: float, then: Callable[[list[Outcome]], None]) -> None:
        slots: list[Slot] = []
        left = len(asks)
        began = self.network.now
        self.brain.sent(left)

        def settled(node: str) -> None:
            nonlocal left
            left -= 1
            self.brain.nodes[node].in_flight = 0
            self.brain.heard(self.brain.nodes[node], self.network.now - began, self.network.now)
            if not left:
                self.network.after(0.0, lambda: then([slot.outcome for slot in slots]))  # type: ignore[misc]

        by_node: dict[str, list[tuple[Request, Slot]]] = {}
        for node, request in asks:
            slots.append(Slot(partial(settled, node)))
            # One list may go to several nodes and wait for a connection, so its id is written into a copy.
            by_node.setdefault(node, []).append((list(request), slots[-1]))
        wires = {node: self._wire(node) for node in by_node}
        for node, requests in by_node.items():
            wires[node].send(requests)
        self.network.after(seconds, partial(self._time_over, wires, by_node, seconds))

    def _time_over(
        self, wires: dict[str, Wire], by_node: dict[str, list[tuple[Request, Slot]]], seconds: float
    ) -> None:
        for node, requests in by_node.items():
            for _, slot in requests:
                if not slot.done():
                    wires[node].give_up(slot, seconds)

    def _learn(self, then: Callable[[Any], None], call: Call) -> None:
        topology = call.result() or self.network.told_by_seeds()
        try:
            if topology is not None and not self.brain.knows(topology):
                self.brain.adopt(placed(topology))
        except TopologyError:
            pass  # as the bodies do: what can't be learnt leaves the client with what it has
        then(None)

    def __repr__(self) -> str:
        return f"<MemorySession {self.name} {self.brain!r}>"


class _Told:
    """Is told one outcome."""

    def __init__(self, tell: Callable[[Outcome], None]) -> None:
        self.set_result = tell

    def done(self) -> bool:
        return False


class _Starter:
    """A session whose ``run`` only begins a call."""

    def __init__(self, session: MemorySession) -> None:
        self.brain = session.brain
        self.run = session.start


class MemoryClient(Client):
    """The public client over a simulated network. ``later`` has the same verbs, each returning a ``Call``."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._space = session.brain.spaces.whole

    @property
    def session(self) -> MemorySession:
        """The session behind it."""
        session: MemorySession = self._session  # type: ignore[assignment]
        return session

    @property
    def later(self) -> Any:
        """The same client, whose calls begin and are not waited for."""
        return MemoryClient(_Starter(self.session))

    def __repr__(self) -> str:
        return f"<MemoryClient {self._session!r}>"
