"""A whole cluster with its clients in one process, on virtual time, over a simulated network.

Here live real services, stores and links, and in place of sockets a queue of events in virtual time; all choices come from
one seeded ``Random``, so a failure found under a seed is found again under it. Never here: what a test expects. ::

    client.get(k) -> plan -> MemorySession: Round -> Wire: Link.output --(delay, faults)--> MemoryNode: Service.handlers
                                               ^-- slots filled <-- Link.receive <--(delay, faults)-- reply

A client is the public ``Client`` over another session: ``client.get(k)`` runs the network until the call has ended, while
``client.later.get(k)`` returns a ``Call`` that goes on as ``network.run()`` lets time pass, so calls of many clients interleave
at every request. Sessions keep ``brain.health`` as the real bodies do.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Final

from kvcache.service.ownership import Ownership
from kvcache.service.service import Identity, Service
from kvcache.store.config import StoreConfig
from kvcache.store.store import Store
from kvcache_client import Client
from kvcache_client.core import inspecting
from kvcache_client.core.brain import Brain, ClientConfig, Surroundings
from kvcache_client.core.effects import Effect, Outcome, Pause, Plan, Refresh, Round, Within
from kvcache_client.core.link import Link, hello, read_greeting
from kvcache_client.core.routing import View
from kvcache_client.placement.topology import Member, Topology
from kvcache_client.protocol.codec import encode_key
from kvcache_client.protocol.errors import ConnectFailed, ConnectionLost, KvCacheError, NoAnswer, TopologyError
from kvcache_client.protocol.framing import FrameReader, pack_message
from kvcache_client.protocol.limits import FRAME_SLACK, VALUE_BYTES
from kvcache_client.protocol.verbs import Message, Request, Verb
from kvcache_client.protocol.version import WRITERS, HybridClock

__all__ = ["CLEAR", "Call", "MemoryClient", "MemoryNetwork", "MemoryNode", "Weather", "cluster_of", "placed"]

START_MS: Final = 1_790_000_000_000
"""The wall time at which virtual time begins, in ms since 1970."""

_NODE_MEMORY: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class Weather:
    """What happens on the way between a client and a node; chances are for each thing sent. Times in seconds."""

    refuse: float = 0.0
    """Chance that a connection is refused."""
    drop: float = 0.0
    """Chance that the connection breaks before the node has read the request."""
    lose: float = 0.0
    """Chance that the connection breaks after the node has applied the request."""
    one_way: tuple[float, float] = (0.0001, 0.0005)
    """Least and longest time of travel in one direction."""
    stall: float = 0.0
    """Chance that the way takes ``stall_seconds`` more."""
    stall_seconds: float = 0.3


CLEAR: Final = Weather()


def cluster_of(nodes: int, replication_factor: int, *, zones: Sequence[str] = ("",)) -> Topology:
    """Return the topology of nodes n1, n2, ... in ``zones``, taken in turn."""
    topology = Topology.found("test", cluster_id="00c0ffee", seed=4711, replication_factor=replication_factor)
    for number in range(1, nodes + 1):
        zone = zones[number % len(zones)]
        topology = topology.with_member(Member(f"n{number}", f"10.0.0.{number}:7700", zone))
    return topology


@lru_cache(maxsize=64)
def placed(topology: Topology) -> View:
    """Return the view of ``topology``; computing placements is most of what a small test would do otherwise."""
    return View(topology)


@lru_cache(maxsize=256)
def _first_ownership(node: str, topology: Topology) -> Ownership:
    return Ownership(node, topology, placed(topology).placement)


class MemoryNode:
    """A node without a socket. It can die (and lose its memory), be cut off (and keep it), or fall silent for a while."""

    def __init__(self, network: MemoryNetwork, id: str) -> None:
        self.id = id
        self.skew_ms = 0
        self.asked: Counter[Verb] = Counter()
        """Requests that were executed, by verb."""
        self.reachable = True
        self.silent = False
        self._network = network
        self._backlog: list[Callable[[], None]] = []
        self._start()

    def _start(self) -> None:
        network = self._network
        clock = HybridClock(self.wall_ms, network.random.randrange(WRITERS))
        self.store = Store(StoreConfig(_NODE_MEMORY), self.wall_ms())
        self.service = Service(Identity(self.id, "test", VALUE_BYTES), self.store, clock, dict)

    def wall_ms(self) -> int:
        """Return this node's own time in ms since 1970."""
        return self._network.wall_ms() + self.skew_ms

    def adopt(self, topology: Topology) -> None:
        """Answer by ``topology`` from now on."""
        before = self.service.ownership
        if before is None:
            self.service.adopt(_first_ownership(self.id, topology))
        else:
            self.service.adopt(Ownership(self.id, topology, placed(topology).placement, before))

    def kill(self) -> None:
        """Die: connections break, memory is lost."""
        self.cut()
        self._start()

    def restart(self) -> None:
        """Come back after ``kill``, empty, knowing the network's topology."""
        self.adopt(self._network.topology)
        self.heal()

    def cut(self) -> None:
        """Become unreachable: connections break, new ones are refused, memory is kept."""
        self.reachable = False
        self._backlog.clear()
        self._network.break_wires(self.id)

    def heal(self) -> None:
        """Become reachable again."""
        self.reachable = True

    def pause(self) -> None:
        """Fall silent: connections stay, what arrives is done later."""
        self.silent = True

    def resume(self) -> None:
        """Speak again, beginning with what arrived meanwhile."""
        self.silent = False
        backlog, self._backlog = self._backlog, []
        for work in backlog:
            work()

    def when_awake(self, work: Callable[[], None]) -> None:
        """Do ``work`` now, or once the node speaks again."""
        if self.silent:
            self._backlog.append(work)
        else:
            work()

    def answer(self, message: Message) -> Message:
        """Return the reply to one message, as a connection of a real node would pack it."""
        self.service.tick()
        self.asked[Verb(message[1])] += 1
        try:
            return self.service.handlers[message[1]](message)
        except KvCacheError as error:
            detail = error.detail if isinstance(error.detail, int | bytes) else None
            return message[0], error.code, str(error), detail

    def __repr__(self) -> str:
        state = "unreachable" if not self.reachable else "silent" if self.silent else "up"
        return f"<MemoryNode {self.id} {state} {self.store!r}>"


class _Slot:
    """Waits for one reply and tells its round."""

    __slots__ = ("number", "outcome", "settled")

    def __init__(self, settled: Callable[[], None]) -> None:
        self.outcome: Outcome | None = None
        self.number = 0
        self.settled = settled

    def done(self) -> bool:
        return self.outcome is not None

    def set_result(self, outcome: Outcome, /) -> None:
        self.outcome = outcome
        self.settled()


class _Wire:
    """One connection of one client to one node."""

    def __init__(self, session: MemorySession, node: MemoryNode) -> None:
        self.session = session
        self.node = node
        self.link = Link(node.id, session.heard_of_epoch)
        self.open = False
        self.broken = False
        self._waiting: list[tuple[Request, _Slot]] = []
        self._reader = FrameReader(VALUE_BYTES + FRAME_SLACK)
        self._last_arrival = {"out": 0.0, "in": 0.0}
        session.network.after(2 * self._travel(), self._connected)

    @property
    def weather(self) -> Weather:
        return self.session.network.weather_of(self.session.name, self.node.id)

    def _chance(self, share: float) -> bool:
        return share > 0 and self.session.network.random.random() < share

    def _travel(self) -> float:
        weather = self.weather
        extra = weather.stall_seconds if self._chance(weather.stall) else 0.0
        return self.session.network.random.uniform(*weather.one_way) + extra

    def _deliver(self, direction: str, work: Callable[[], None]) -> None:
        """Do ``work`` when it has travelled, never before what was sent earlier in that direction, unless the wire breaks."""
        network = self.session.network
        arrival = max(network.now + self._travel(), self._last_arrival[direction])
        self._last_arrival[direction] = arrival
        network.after(arrival - network.now, lambda: None if self.broken else work())

    def _connected(self) -> None:
        if self.broken:
            return
        if not self.node.reachable or self._chance(self.weather.refuse):
            self.refuse(ConnectFailed(f"{self.node.id}: Connection refused", node=self.node.id))
        else:
            self.node.when_awake(self._introduce)

    def _introduce(self) -> None:
        if self.broken:
            return
        brain = self.session.brain
        greeting = read_greeting(self.node.answer((1, *hello(brain.config)[1:])))
        brain.hlc.correct(greeting.now_ms)
        brain.health.answered(self.node.id)
        self.open = True
        self.session.heard_of_epoch(greeting.epoch)
        waiting, self._waiting = self._waiting, []
        self.send([(request, slot) for request, slot in waiting if not slot.done()])

    def send(self, asks: list[tuple[Request, _Slot]]) -> None:
        """Send requests, together; those made before the connection stands wait for it."""
        if not self.open:
            self._waiting += asks
            return
        if not asks:
            return
        for request, slot in asks:
            slot.number = self.link.enqueue(request, slot)
        data = self.link.output()
        if self._chance(self.weather.drop):
            self.session.network.after(self._travel(), partial(self.end, "reset before the request was read"))
        else:
            self._deliver("out", lambda: self.node.when_awake(lambda: self._execute(data)))

    def _execute(self, data: bytes) -> None:
        if self.broken:
            return
        replies = b"".join(pack_message(*self.node.answer(message)) for message in self._reader.feed(data))
        if self._chance(self.weather.lose):
            self.session.network.after(self._travel(), partial(self.end, "reset before the reply was read"))
        else:
            self._deliver("in", lambda: self._receive(replies))

    def _receive(self, data: bytes) -> None:
        broken = self.link.receive(data)
        if broken is not None:
            raise broken

    def give_up(self, slot: _Slot, seconds: float) -> None:
        """Settle a slot whose time is over."""
        node = self.node.id
        if not self.open:
            self.refuse(ConnectFailed(f"{node}: no connection in time", node=node))
            return
        silence = NoAnswer(f"no answer within {seconds:.3g} s", node=node)
        self.session.brain.health.failed(node, silence)
        self.link.give_up(slot.number, silence)

    def refuse(self, error: KvCacheError) -> None:
        """There is no connection: nothing was sent."""
        self.session.brain.health.failed(self.node.id, error)
        self._forget()
        waiting, self._waiting = self._waiting, []
        for _, slot in waiting:
            if not slot.done():
                slot.set_result(error)

    def end(self, reason: str) -> None:
        """The connection breaks; whoever waits is told."""
        if not self.broken:
            self._forget()
            self.link.fail(lambda: ConnectionLost(f"{self.node.id}: {reason}", node=self.node.id))
            waiting, self._waiting = self._waiting, []
            for _, slot in waiting:
                slot.set_result(ConnectFailed(f"{self.node.id}: {reason}", node=self.node.id))

    def _forget(self) -> None:
        self.broken = True
        if self.session.wires.get(self.node.id) is self:
            del self.session.wires[self.node.id]


class Call:
    """A plan on its way. ``result`` returns or raises what it came to; times are virtual seconds."""

    def __init__(self, session: MemorySession, plan: Plan[Any], then: Callable[[Call], None] | None = None) -> None:
        self.began = session.network.now
        self.ended: float | None = None
        self.then = then
        self._session = session
        self._plan = plan
        self._value: Any = None
        self._error: KvCacheError | None = None
        self.step(None)

    @property
    def done(self) -> bool:
        """Whether the plan has ended."""
        return self.ended is not None

    @property
    def took(self) -> float:
        """Seconds from its begin to its end."""
        return (self._session.network.now if self.ended is None else self.ended) - self.began

    @property
    def error(self) -> KvCacheError | None:
        """The error that it ended with, if any."""
        return self._error

    def result(self) -> Any:
        """Return what the plan returned, or raise what it raised."""
        if not self.done:
            raise RuntimeError(f"{self!r} has not ended")
        if self._error is not None:
            raise self._error
        return self._value

    def step(self, outcome: Any) -> None:
        """Send the plan the outcome of its last effect and perform the next one."""
        try:
            effect = self._plan.send(outcome)
        except StopIteration as stop:
            self._end(stop.value, None)
        except KvCacheError as error:
            self._end(None, error)
        else:
            self._session.perform(effect, self.step)

    def _end(self, value: Any, error: KvCacheError | None) -> None:
        self._value, self._error = value, error
        self.ended = self._session.network.now
        if self.then is not None:
            self.then(self)

    def __repr__(self) -> str:
        return (
            f"<Call {self._plan.__name__} {'ended' if self.done else 'under way'} {self._error or self._value!r:.80}>"
        )


class MemorySession:
    """What a client and its namespaces share: the counterpart of the bodies' sessions."""

    def __init__(self, network: MemoryNetwork, name: str, config: ClientConfig, topology: Topology) -> None:
        self.network = network
        self.name = name
        self.skew_ms = 0
        around = Surroundings(lambda: network.now, lambda: network.wall_ms() + self.skew_ms, network.random.random)
        self.brain = Brain(config, around)
        self.brain.adopt(placed(topology))
        self.wires: dict[str, _Wire] = {}
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

    def _wire(self, node: str) -> _Wire:
        wire = self.wires.get(node)
        if wire is None:
            wire = self.wires[node] = _Wire(self, self.network.nodes[node])
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
        slots: list[_Slot] = []
        left = len(asks)

        def settled() -> None:
            nonlocal left
            left -= 1
            if not left:
                self.network.after(0.0, lambda: then([slot.outcome for slot in slots]))  # type: ignore[misc]

        by_node: dict[str, list[tuple[Request, _Slot]]] = {}
        for node, request in asks:
            slots.append(_Slot(settled))
            # One list may go to several nodes and wait for a connection, so its id is written into a copy.
            by_node.setdefault(node, []).append((list(request), slots[-1]))
        wires = {node: self._wire(node) for node in by_node}
        for node, requests in by_node.items():
            wires[node].send(requests)
        self.network.after(seconds, partial(self._time_over, wires, by_node, seconds))

    def _time_over(
        self, wires: dict[str, _Wire], by_node: dict[str, list[tuple[Request, _Slot]]], seconds: float
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
        self._encode = encode_key

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


class MemoryNetwork:
    """A cluster, its clients and the network between them. ``seed`` decides everything that is left to chance."""

    def __init__(self, nodes: int = 3, replication_factor: int = 2, *, seed: int = 1, weather: Weather = CLEAR) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.now = 0.0
        self.weather = weather
        self.local_weather: dict[tuple[str, str], Weather] = {}
        """(client, node) -> what is different between those two."""
        self.topology = cluster_of(nodes, replication_factor)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self.nodes = {member.id: MemoryNode(self, member.id) for member in self.topology.members}
        self.sessions: list[MemorySession] = []
        for node in self.nodes.values():
            node.adopt(self.topology)

    def wall_ms(self) -> int:
        """Return the true time in ms since 1970."""
        return START_MS + round(self.now * 1000)

    def client(self, *, topology: Topology | None = None, **options: Any) -> MemoryClient:
        """Return a new client that already knows ``topology``, by default the cluster's; ``options`` as ``ClientConfig``."""
        name = f"c{len(self.sessions) + 1}"
        session = MemorySession(self, name, ClientConfig(**options), topology or self.topology)
        self.sessions.append(session)
        return MemoryClient(session)

    def change(self, topology: Topology, *, only: Iterable[str] | None = None) -> None:
        """Give nodes (all, or ``only`` some) a newer topology; clients have to find out."""
        self.topology = topology
        for member in topology.members:
            if member.id not in self.nodes:
                self.nodes[member.id] = MemoryNode(self, member.id)
        for id in list(self.nodes) if only is None else only:
            self.nodes[id].adopt(topology)

    def weather_of(self, client: str, node: str) -> Weather:
        """Return the weather between a client and a node."""
        return self.local_weather.get((client, node), self.weather)

    def told_by_seeds(self) -> Topology | None:
        """Return what a client learns that asks its seeds."""
        for node in self.nodes.values():
            if node.reachable and not node.silent and node.service.ownership is not None:
                return node.service.ownership.topology
        return None

    def break_wires(self, node: str) -> None:
        """Break every connection to ``node``."""
        for session in self.sessions:
            wire = session.wires.get(node)
            if wire is not None:
                wire.end("Connection reset by peer")

    def owners(self, key: str) -> list[MemoryNode]:
        """Return the nodes that own ``key``, primary first."""
        view = placed(self.topology)
        return [self.nodes[id] for id in view.owners[view.partition(encode_key(key))]]

    def stand_ins(self, key: str) -> list[MemoryNode]:
        """Return the nodes that stand in for owners of ``key``, next on the ring first."""
        view = placed(self.topology)
        return [self.nodes[id] for id in view.stand_ins(view.partition(encode_key(key)))]

    def copies(self, key: str) -> dict[str, bytes]:
        """Return the record, or tombstone, that each node holds of ``key``."""
        name = encode_key(key)
        partition = placed(self.topology).partition(name)
        held = {id: node.store.peek(partition, name) for id, node in self.nodes.items()}
        return {id: record for id, record in held.items() if record is not None}

    def after(self, seconds: float, work: Callable[[], None]) -> None:
        """Do ``work`` in ``seconds`` of virtual time; what falls due together is done in the order of asking."""
        self._count += 1
        heapq.heappush(self._events, (self.now + max(seconds, 0.0), self._count, work))

    def run(self, *, until: Callable[[], bool] | None = None, seconds: float | None = None) -> None:
        """Let time pass: until a condition holds, for ``seconds``, or until nothing more happens."""
        end = None if seconds is None else self.now + seconds
        while self._events and not (until is not None and until()):
            if end is not None and self._events[0][0] > end:
                break
            self.now, _, work = heapq.heappop(self._events)
            work()
        if end is not None:
            self.now = max(self.now, end)
        if until is not None and not until():
            raise RuntimeError("nothing more happens, and what was waited for did not")

    def check(self) -> None:
        """Recount every store."""
        for node in self.nodes.values():
            node.store.check()

    def __repr__(self) -> str:
        return f"<MemoryNetwork seed={self.seed} now={self.now:.3f} {list(self.nodes.values())}>"
