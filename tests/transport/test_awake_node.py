"""A node stays awake for the next request where that pays, and where nobody else needs the core."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

import pytest
from polling import PATIENCE

from kvcache.transport import awake
from kvcache.transport.awake import AwakeNode
from kvcache.transport.counters import StreamCounters
from kvcache.transport.listener import Listener
from kvcache_client import Client
from kvcache_client.protocol.framing import pack_message
from kvcache_client.protocol.verbs import Status, Verb

MOMENT = 100e-6
"""Seconds that a node stays awake here."""

TURN = 10e-6
"""What each giving way takes in the world of clocks."""


class World:
    """An event loop that is a queue, and clocks that move when the node gives way; ``others`` of that is work of others."""

    def __init__(self, seconds: float = MOMENT) -> None:
        self.now = self.others = 0.0
        self.ready: deque[Callable[[], None]] = deque()
        self.counters = StreamCounters()
        self.node = AwakeNode(
            self.counters,
            self,  # type: ignore[arg-type]
            seconds,
            lambda: self.now,
            lambda: self.now - self.others,
            self.give_way,
        )

    def call_soon(self, work: Callable[[], None]) -> None:
        self.ready.append(work)

    def give_way(self) -> None:
        self.now += TURN

    def turn(self) -> None:
        """One turn of the loop: what was ready when it began."""
        for _ in range(len(self.ready)):
            self.ready.popleft()()

    def read(self) -> None:
        """A read brings one request, which is answered; the stream tells the node so if it wants to know."""
        self.counters.requests += 1
        if not self.node.turning:
            self.node.replied()

    def sleeps(self) -> int:
        """Return after how many turns the loop has nothing to do."""
        turns = 0
        while self.ready:
            self.turn()
            turns += 1
        return turns


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(awake, "cores", lambda: 2)


@pytest.fixture
def world() -> World:
    return World()


def test_after_a_reply_it_looks_for_its_moment_and_then_sleeps(world: World) -> None:
    world.read()
    assert world.sleeps() == 1 + MOMENT / TURN
    assert world.now == pytest.approx(MOMENT)


def test_while_requests_come_in_time_it_never_sleeps(world: World) -> None:
    world.read()
    for _ in range(1000):
        world.turn()
        world.turn()
        assert world.ready
        world.read()
    assert world.node.turning


def test_where_requests_are_few_nearly_all_of_them_are_followed_by_a_sleep_at_once(world: World) -> None:
    awake_after = 0
    for _ in range(2560):
        world.read()
        awake_after += world.sleeps() > 0
    assert awake_after <= 8 + 2560 / 256


def test_once_requests_come_in_time_again_it_learns_so(world: World) -> None:
    for _ in range(1000):
        world.read()
        world.sleeps()
    while not world.node.turning:
        world.read()
    for _ in range(10):
        world.turn()
        world.turn()
        world.read()
    assert world.node.turning


def test_what_came_with_the_same_look_is_no_request_in_time(world: World) -> None:
    world.read()
    world.read()  # of another connection
    world.sleeps()
    world.read()
    assert not world.ready  # a loss: it sleeps at once


def test_a_core_that_others_need_is_left_to_them(world: World) -> None:
    """A request came in time, but somebody else ran meanwhile: that is a loss, as if none had come."""
    world.read()
    world.turn()
    world.others += 50e-6
    world.now += 50e-6
    world.read()
    assert world.sleeps() == 1
    assert not world.node.turning
    world.read()
    assert not world.ready


@pytest.mark.parametrize(("seconds", "cores"), [(0.0, 2), (MOMENT, 1)])
def test_turned_off_or_with_one_core_it_never_stays_awake(
    seconds: float, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(awake, "cores", lambda: cores)
    world = World(seconds)
    world.read()
    assert not world.ready


def test_it_shows_its_state(world: World) -> None:
    assert "resting turns=0" in repr(world.node)
    world.read()
    assert "turning" in repr(world.node)


@pytest.mark.parametrize("busy_polling", [0.0, 0.001])
async def test_a_port_answers_the_same_awake_or_not(make_port, busy_polling: float) -> None:
    port = await make_port(busy_polling)
    peer = await port.introduced()
    for _ in range(50):
        assert await peer.ask(int(Verb.GET), b"nothing") == (Status.MISS,)
    peer.send(*[pack_message(number, int(Verb.PING)) for number in range(1, 101)])
    assert [reply[:2] for reply in await peer.messages(100)] == [(number, Status.OK) for number in range(1, 101)]
    assert (port.listener.awake.turns > 0) == (busy_polling > 0)


def test_the_loop_of_an_idle_node_sleeps(start_node, loop_thread) -> None:
    """It has looked for a request after its replies; now, with a timer of its loop fired many times over, it does so no more."""
    serving = start_node(busy_polling=MOMENT)
    with Client(serving.address, timeout=PATIENCE) as cache:
        for number in range(100):
            cache.set(f"k{number}", number)
            assert cache.get(f"k{number}") == number
    listener = serving.node.listener
    turns = loop_thread.run(idle_turns(listener))
    assert turns > 0


async def idle_turns(listener: Listener) -> int:
    """Return how often the node has looked, which must not change while nothing comes."""
    async with asyncio.timeout(PATIENCE):
        while listener.awake.turning:
            await asyncio.sleep(0.001)
        turns, requests = listener.awake.turns, listener.counters.requests
        for _ in range(20):
            await asyncio.sleep(0.001)
            if listener.counters.requests == requests:
                assert listener.awake.turns == turns
    return turns
