"""Replies that take their time: others go first, and whatever becomes of them, the connection and its counters stay right."""

from __future__ import annotations

import asyncio

import pytest
from polling import until

from kvcache.service.later import Later
from kvcache.transport.limits import StreamLimits
from kvcache_client.protocol.errors import AdminBusy, Forbidden, NodeFault, Overloaded
from kvcache_client.protocol.framing import pack_message
from kvcache_client.protocol.verbs import VERBS, Role, Status, Verb

LOCK = pack_message(7, int(Verb.LOCK), "user:x", "token", 1000, "tests")
PING = pack_message(2, int(Verb.PING))


class Slow:
    """What a handler waits for: its end is decided by the test."""

    def __init__(self) -> None:
        self.futures: list[asyncio.Future[int]] = []

    def __call__(self, message):
        self.futures.append(asyncio.get_running_loop().create_future())
        raise Later(self.futures[-1], lambda fence: (int(Status.OK), fence))


@pytest.fixture
def slow(stream) -> Slow:
    made = Slow()
    stream.service.add({Verb.LOCK: made})
    return made


async def test_what_comes_behind_is_answered_first(stream, slow):
    stream.feed(LOCK, PING)
    assert [reply[0] for reply in stream.replies()] == [2]
    slow.futures[0].set_result(17)
    await until(lambda: stream.transport.writes)
    assert stream.replies() == [(7, Status.OK, 17)]


async def test_an_error_of_the_work_becomes_the_reply(stream, slow):
    stream.feed(LOCK, LOCK)
    slow.futures[0].set_exception(AdminBusy("held by ann", detail=500))
    slow.futures[1].set_exception(ZeroDivisionError("a bug"))
    await until(lambda: stream.counters.failed == 2)
    first, second = stream.replies()
    assert first == (7, AdminBusy.code, "held by ann", 500)
    assert second[1] == NodeFault.code
    assert "a bug" not in second[2]


async def test_a_peer_that_is_gone_is_told_nothing(stream, slow):
    stream.feed(LOCK, LOCK)
    stream.connection.connection_lost(None)
    slow.futures[0].set_result(1)
    slow.futures[1].set_exception(AdminBusy("nobody hears this"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert stream.replies() == []


async def test_work_that_is_cancelled_is_not_left_without_an_answer(stream, slow):
    stream.feed(LOCK)
    slow.futures[0].cancel()
    await until(lambda: stream.counters.failed == 1)
    assert "stopping" in stream.replies()[0][2]


async def test_a_reply_that_takes_its_time_is_awaited_before_the_end(stream, slow):
    stream.feed(LOCK, LOCK, PING)
    stream.connection.finish()
    assert not stream.transport.half_closed
    slow.futures[0].set_result(17)
    await until(lambda: len(stream.transport.writes) == 2)
    assert not stream.connection.settled(stream.now + 9)
    slow.futures[1].set_exception(AdminBusy("held by ann"))
    await until(lambda: stream.transport.half_closed)
    assert [reply[:2] for reply in stream.replies()] == [(2, Status.OK), (7, Status.OK), (7, AdminBusy.code)]
    assert stream.connection.settled(stream.now + 9)


async def test_a_connection_may_have_only_so_many_waiting(stream, service):
    stream = type(stream)(service, StreamLimits(delayed_replies=2))
    slow = Slow()
    service.add({Verb.LOCK: slow})
    stream.introduce()
    stream.feed(LOCK, LOCK, LOCK)
    assert [reply[1] for reply in stream.replies()] == [Overloaded.code]
    assert slow.futures[2].cancelled()
    slow.futures[0].set_result(1)
    await until(lambda: stream.transport.writes)
    stream.replies()
    stream.feed(LOCK)
    assert stream.replies() == []
    for future in slow.futures:
        future.cancel()


@pytest.mark.parametrize("verb", [verb for verb, spec in VERBS.items() if Role.CLIENT not in spec.roles])
@pytest.mark.parametrize("role", [Role.CLIENT, 77])
def test_a_client_may_not_ask_what_is_for_nodes_and_operators(stranger, verb, role):
    stranger.introduce(role=int(role))
    stranger.feed(pack_message(5, int(verb)), PING)
    refused, pong = stranger.replies()
    assert refused[:2] == (5, Forbidden.code)
    assert pong[0] == 2
    assert not stranger.transport.ended


@pytest.mark.parametrize("verb", [Verb.CHANGE, Verb.REPAIR, Verb.RESTORE])
def test_a_node_may_not_do_what_is_for_operators(stranger, verb):
    stranger.introduce(role=Role.NODE)
    stranger.feed(pack_message(5, int(verb)))
    assert stranger.replies()[0][1] == Forbidden.code
    stranger.feed(pack_message(6, int(Verb.REPORT)))
    assert stranger.replies()[0][1] == Status.OK
