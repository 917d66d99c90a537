"""Sessions and clients: the counterpart of the bodies, on virtual time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from kvcache_client import Client
from kvcache_client.core import inspecting
from kvcache_client.core.brain import Brain, Surroundings
from kvcache_client.core.config import ClientConfig
from kvcache_client.core.effects import Effect, Outcome, Pause, Plan, Refresh, Round, Within
from kvcache_client.placement.topology import Topology
from kvcache_client.protocol.errors import TopologyError
from kvcache_client.protocol.verbs import Request
from memory_network.calls import Call
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
            case Pause():
                self.network.after(effect.seconds, partial(then, None))
            case Refresh():
                Call(self, inspecting.newest_topology(self.brain), partial(self._learn, then))
            case (_, _):
                self._round([effect], self.brain.attempt, lambda outcomes: then(outcomes[0]))

    def _round(self, asks: Round, seconds: float, then: Callable[[list[Outcome]], None]) -> None:
        slots: list[Slot] = []
        left = len(asks)

        def settled() -> None:
            nonlocal left
            left -= 1
            if not left:
                self.network.after(0.0, lambda: then([slot.outcome for slot in slots]))  # type: ignore[misc]

        by_node: dict[str, list[tuple[Request, Slot]]] = {}
        for node, request in asks:
            slots.append(Slot(settled))
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
