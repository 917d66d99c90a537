"""Shedding by the age of what waits, and the memory that all connections may hold together."""

import asyncio

import pytest
from polling import until

from kvcache.service.later import Later
from kvcache.transport.limits import StreamLimits
from kvcache.transport.overload import Overload
from kvcache_client.protocol.errors import Overloaded
from kvcache_client.protocol.framing import pack_message
from kvcache_client.protocol.verbs import Role, Status, Verb

PING = pack_message(7, int(Verb.PING))
LIMITS = StreamLimits(queue_seconds=0.05, shed_after_seconds=0.2, retry_after_seconds=0.1)


class Turns:
    """A loop, and its clock, that a test moves on."""

    def __init__(self):
        self.now = 100.0
        self.soon = []

    def call_soon(self, work):
        self.soon.append(work)

    def end_turn(self):
        for work in self.soon:
            work()
        self.soon.clear()


@pytest.fixture
def turns():
    return Turns()


@pytest.fixture
def overload(turns):
    return Overload(LIMITS, turns, lambda: turns.now)


def test_a_loop_that_stays_late_is_overloaded_and_one_look_in_time_ends_it(overload):
    for step in range(10):
        overload.judge(0.06, 100 + step * 0.02)
        assert not overload.active
    overload.judge(0.06, 100.21)
    assert overload.active
    overload.judge(0.05, 100.23)
    assert not overload.active


@pytest.mark.parametrize("late", [[1.0, 0.0] * 20, [0.04] * 50, [5.0]])
def test_a_burst_or_a_single_long_pause_is_not(overload, late):
    for step, seconds in enumerate(late):
        overload.judge(seconds, 100 + step * 0.02)
        assert not overload.active


def test_what_comes_late_in_a_turn_is_refused_and_what_comes_early_carried_out(overload, turns):
    for _ in range(3):
        assert overload.refuses(3) is None
        turns.now += 0.05
        assert overload.refuses(3) is None
        turns.now += 0.001
        refusal = overload.refuses(3)
        assert (refusal.detail, "ask again in 100 ms" in str(refusal)) == (100, True)
        turns.end_turn()
    assert overload.shed == 9


def test_clients_are_told_to_ask_again_later_and_when(stream):
    stream.overload.active = True
    assert stream.ask(int(Verb.PING))[0] == Status.OK
    stream.now += 0.06
    stream.feed(PING, PING)
    assert {reply[1] for reply in stream.replies()} == {Overloaded.code}
    assert stream.ask(int(Verb.PING))[2] == 100
    assert stream.overload.shed == 3
    assert (stream.counters.requests, stream.counters.failed) == (4, 3)
    stream.overload.active = False
    assert stream.ask(int(Verb.PING))[0] == Status.OK


def test_what_one_read_brings_is_carried_out_only_as_long_as_others_need_not_wait(stream):
    def slowly(message):
        stream.now += 0.002
        return message[0], int(Status.OK)

    stream.service.handlers_of(Role.CLIENT)[Verb.PING] = slowly
    stream.overload.active = True
    stream.feed(PING * 300)
    statuses = [reply[1] for reply in stream.replies()]
    served = statuses.count(Status.OK)
    assert statuses == [Status.OK] * served + [Overloaded.code] * (300 - served)
    assert 25 <= served <= 50
    assert stream.overload.shed == 300 - served


@pytest.mark.parametrize("role", [Role.NODE, Role.ADMIN])
def test_nodes_and_operators_are_served_on(stranger, role):
    stranger.introduce(int(role))
    stranger.overload.active = True
    stranger.overload.refuses(0)
    stranger.now += 1
    assert stranger.ask(int(Verb.PING))[0] == Status.OK


async def test_a_loop_that_is_kept_busy_is_found_to_be(make_port):
    port = await make_port(queue_seconds=0.005, shed_after_seconds=0.02)
    loop = asyncio.get_running_loop()
    working = True

    def work():
        end = loop.time() + 0.04
        while asyncio.get_running_loop().time() < end and loop_is_behind(end):
            pass
        if working:
            loop.call_soon(work)

    def loop_is_behind(end):
        import time

        return time.monotonic() < end

    loop.call_soon(work)
    await until(lambda: port.listener.overload.active)
    working = False
    await until(lambda: not port.listener.overload.active)


# Memory of all connections together


def test_unfinished_frames_of_all_together_are_bounded(stranger):
    stream = type(stranger)(stranger.service, StreamLimits(partial_bytes_total=1000))
    stream.introduce()
    start = pack_message(7, int(Verb.PUT), 9, b"k", b"x" * 5000)
    stream.feed(start[:900])
    assert stream.holding.partial == 900
    stream.feed(start[900:1100])
    (reply,) = stream.replies()
    assert (reply[0], reply[1]) == (0, Overloaded.code)
    assert stream.transport.ended == "closed"
    assert stream.counters.crowded == 1
    stream.connection.connection_lost(None)
    assert stream.holding.partial == 0


def test_a_frame_that_is_complete_is_held_no_more(stream):
    frame = pack_message(7, int(Verb.PUT), 9, b"k" * 10, b"x" * 50)
    stream.feed(frame[:20])
    assert stream.holding.partial == 20
    stream.feed(frame[20:])
    assert stream.holding.partial == 0
    assert stream.connection.overdue(stream.now + 1000) is None


def test_replies_that_nobody_takes_are_bounded_together(stranger):
    limits = StreamLimits(output_bytes=1000, unread_bytes_total=5000)
    stream = type(stranger)(stranger.service, limits)
    stream.introduce()
    stream.put(b"k", b"x" * 2000)
    stream.transport.stall()
    stream.feed(pack_message(7, int(Verb.GET), b"k"))
    assert (stream.holding.unread > 2000, stream.transport.ended) == (True, None)
    stream.transport.drain()
    assert stream.holding.unread == 0
    stream.feed(*[pack_message(7, int(Verb.GET), b"k")] * 5)
    assert stream.transport.ended == "aborted"
    assert stream.counters.crowded == 1
    stream.connection.connection_lost(None)
    assert stream.holding.unread == 0


async def test_requests_of_all_together_that_wait_for_others_are_bounded(stranger, service):
    stream = type(stranger)(service, StreamLimits(delayed_replies_total=1))
    stream.introduce()
    waiting = asyncio.get_running_loop().create_future()

    def wait(message):
        raise Later(waiting if not waiting.done() else asyncio.sleep(0), lambda done: (int(Status.OK),))

    service.add({Verb.UNLOCK: wait})
    stream.feed(pack_message(7, int(Verb.UNLOCK), "user:x", "t"), pack_message(8, int(Verb.UNLOCK), "user:x", "t"))
    ((number, code, text, _),) = stream.replies()
    assert (number, code) == (8, Overloaded.code)
    assert "of all connections" in text
