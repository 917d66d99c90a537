"""Wires: one connection of one client to one node, and what becomes of what is sent over it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from kvcache.service.later import Fields, Held, Later
from kvcache_client.core.effects import Outcome
from kvcache_client.core.introduction import hello, read_greeting
from kvcache_client.core.link import Link
from kvcache_client.protocol.errors import ConnectFailed, ConnectionLost, KvCacheError, NoAnswer
from kvcache_client.protocol.framing import FrameReader, pack_message
from kvcache_client.protocol.limits import FRAME_SLACK, VALUE_BYTES
from kvcache_client.protocol.verbs import Message, Request, Verb
from memory_network.nodes import MemoryNode, as_reply
from memory_network.weather import Weather

if TYPE_CHECKING:
    from memory_network.sessions import MemorySession

__all__ = ["Slot", "Wire"]

_WRITING = (Verb.PUT, Verb.PUT_MANY, Verb.HINT, Verb.COPY)


class Slot:
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


class Wire:
    """One connection of one client to one node."""

    def __init__(self, session: MemorySession, node: MemoryNode) -> None:
        self.session = session
        self.node = node
        self.link = Link(node.id, session.heard_of_epoch)
        self.open = False
        self.broken = False
        self._waiting: list[tuple[Request, Slot]] = []
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

    def send(self, asks: list[tuple[Request, Slot]]) -> None:
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
        replies = b""
        for message in self._reader.feed(data):
            if self.broken and message[1] not in _WRITING:  # what had arrived is done, whoever has gone meanwhile
                continue
            try:
                replies += pack_message(*self.node.answer(message))
            except Held as held:
                held.take(self, partial(self._reply_later, message))
            except Later as later:
                self.session.network.spawn(self._finish(message, later))
        self._reply(replies)

    async def _finish(self, message: Message, later: Later) -> None:
        try:
            fields: Fields | KvCacheError = later.fields(await later.work)
        except KvCacheError as error:
            fields = error
        self.node.when_awake(partial(self._reply_later, message, fields))

    def _reply_later(self, message: Message, reply: Fields | KvCacheError) -> None:
        if not self.broken and self.node.reachable:
            self._reply(pack_message(*as_reply(message, reply)))

    def _reply(self, replies: bytes) -> None:
        if not replies or self.broken:
            return
        if self._chance(self.weather.lose):
            self.session.network.after(self._travel(), partial(self.end, "reset before the reply was read"))
        else:
            self._deliver("in", lambda: self._receive(replies))

    def _receive(self, data: bytes) -> None:
        broken = self.link.receive(data)
        if broken is not None:
            raise broken

    def give_up(self, slot: Slot, seconds: float) -> None:
        """Settle a slot whose time is over."""
        node = self.node.id
        if not self.open:
            self.refuse(ConnectFailed(f"{node}: no connection in time", node=node))
            return
        silence = NoAnswer(f"no answer within {seconds:.3g} s", node=node)
        if self.session.brain.tells_silence(seconds):
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
        self.node.service.leases.lost(self)
        if self.session.wires.get(self.node.id) is self:
            del self.session.wires[self.node.id]
