"""A peer that does not read: bounded output, nothing lost, nothing out of order, and how long it may take."""

import pytest

from kvcache.transport.limits import StreamLimits
from kvcache_client.protocol.errors import MalformedFrame
from kvcache_client.protocol.framing import pack_message
from kvcache_client.protocol.record import HEADER_BYTES
from kvcache_client.protocol.verbs import Status, Verb

PING = pack_message(2, int(Verb.PING))
SLICE = 16
LIMITS = StreamLimits()


def gets(count, first=1):
    return b"".join(pack_message(number, int(Verb.GET), b"k") for number in range(first, first + count))


def test_a_peer_that_does_not_read_is_held_within_a_bound(stream):
    size = 100_000
    record = stream.put(b"k", b"x" * size)
    stream.transport.stall()
    stream.feed(gets(5000))
    assert not stream.transport.reading
    bound = LIMITS.output_bytes + (SLICE + SLICE // 2) * (size + HEADER_BYTES + 16)
    answered, rounds = 0, 0
    while stream.transport.buffered:
        assert stream.transport.peak <= bound
        for number, status, body in stream.replies():
            answered += 1
            assert (number, status) == (answered, Status.OK)
            assert body == record
        stream.transport.drain()
        rounds += 1
    assert answered == 5000
    assert rounds > 100
    assert stream.transport.reading
    assert stream.counters.requests == 5000


def test_requests_are_counted_once_however_often_they_wait(stream):
    stream.put(b"k", b"x" * 100_000)
    stream.transport.stall()
    stream.feed(gets(100), pack_message(999, int(Verb.GET), b""))
    while stream.transport.buffered:
        stream.transport.drain()
    assert len(stream.replies()) == 101
    assert (stream.counters.requests, stream.counters.failed) == (101, 1)


def test_reading_goes_on_only_when_everything_held_is_answered(stream):
    stream.put(b"k", b"x" * 100_000)
    stream.transport.stall()
    stream.feed(gets(40))
    assert "held=24" in repr(stream.connection)
    stream.transport.drain()
    assert not stream.transport.reading
    stream.transport.drain()
    stream.transport.drain()
    assert stream.transport.reading
    stream.feed(PING)
    assert [reply[0] for reply in stream.replies()] == [*range(1, 41), 2]


def test_a_partial_read_by_the_peer_does_not_resume_too_early(stream):
    stream.put(b"k", b"x" * 100_000)
    stream.transport.stall()
    stream.feed(gets(24))
    stream.transport.drain(1000)
    assert stream.transport.paused
    assert "held=8" in repr(stream.connection)


def test_a_broken_frame_behind_held_messages_waits_for_their_answers(stream):
    stream.put(b"k", b"x" * 100_000)
    stream.transport.stall()
    stream.feed(gets(40), b"\xc1")
    assert stream.transport.ended is None
    while stream.transport.buffered and not stream.transport.ended:
        stream.transport.drain()
    replies = stream.replies()
    assert [reply[0] for reply in replies] == [*range(1, 41), 0]
    assert replies[-1][1] == MalformedFrame.code
    assert stream.transport.ended == "closed"
    assert stream.counters.malformed == 1


def test_a_message_that_closes_drops_what_is_held_behind_it(stream):
    stream.put(b"k", b"x" * 100_000)
    stream.transport.stall()
    stream.feed(gets(20), pack_message(4, int(Verb.GET)), gets(100))
    stream.transport.drain()
    assert stream.transport.ended == "closed"
    assert [reply[0] for reply in stream.replies()] == [*range(1, 21), 4]
    stream.transport.drain()
    assert stream.counters.requests == 21


def test_replies_leave_in_writes_of_bounded_size(stream):
    stream.put(b"k", b"x" * 1000)
    stream.feed(gets(5000))
    sizes = [len(data) for data in stream.transport.writes]
    assert max(sizes) < (SLICE + SLICE // 2) * 1100


def test_a_connection_that_breaks_while_it_holds_messages_drops_them(stream):
    stream.put(b"k", b"x" * 100_000)
    stream.transport.stall()
    stream.feed(gets(40))
    stream.connection.connection_lost(BrokenPipeError())
    stream.connection.resume_writing()
    assert stream.counters.requests == 16


# Deadlines


def test_a_stranger_is_overdue_when_hello_takes_too_long(stranger):
    assert stranger.connection.overdue(1000.0 + LIMITS.hello_seconds) is None
    assert "no HELLO within 5 s" in stranger.connection.overdue(1000.1 + LIMITS.hello_seconds)


def test_a_peer_that_said_hello_may_be_silent_for_ever(stream):
    assert stream.connection.overdue(1e9) is None


def test_half_a_frame_is_overdue_when_the_rest_takes_too_long(stream):
    frame = gets(1)
    stream.feed(frame[:2])
    stream.now += 5
    stream.feed(frame[2:4])
    assert stream.connection.overdue(1000.0 + LIMITS.frame_seconds) is None
    assert "a frame took over 10 s" in stream.connection.overdue(1000.1 + LIMITS.frame_seconds)
    stream.feed(frame[4:])
    assert len(stream.replies()) == 1
    assert stream.connection.overdue(1e9) is None


def test_each_frame_has_its_own_time(stream):
    for _ in range(10):
        stream.feed(PING[:1])
        stream.now += 9
        assert stream.connection.overdue(stream.now) is None
        stream.feed(PING[1:])
    assert len(stream.replies()) == 10


def test_unread_replies_are_overdue_when_nothing_is_read_for_too_long(stream):
    stream.put(b"k", b"x" * 1_000_000)
    stream.transport.stall()
    stream.feed(gets(2))
    assert stream.connection.overdue(1000.0 + LIMITS.unread_seconds) is None
    assert "replies unread for over 10 s" in stream.connection.overdue(1000.1 + LIMITS.unread_seconds)


def test_a_slow_reader_is_not_overdue_while_it_reads(stream):
    stream.put(b"k", b"x" * 1_000_000)
    stream.transport.stall()
    stream.feed(gets(2))
    for _ in range(10):
        stream.now += 9
        stream.transport.drain(1000)
        assert stream.connection.overdue(stream.now) is None
    stream.now += 9
    assert stream.connection.overdue(stream.now) is None
    assert stream.connection.overdue(stream.now + 9)


# The end of a node


def test_a_finished_connection_says_so_and_takes_no_more_requests(stream):
    stream.feed(PING)
    stream.connection.finish()
    assert stream.transport.half_closed
    stream.feed(PING, b"\xc1")
    assert len(stream.replies()) == 1
    assert stream.transport.ended is None
    stream.connection.push_epoch(5)
    assert stream.counters.requests == 1


def test_a_finished_connection_answers_first_what_it_holds(stream):
    stream.put(b"k", b"x" * 100_000)
    stream.transport.stall()
    stream.feed(gets(100))
    stream.connection.finish()
    assert not stream.transport.half_closed
    assert not stream.connection.settled(2000.0)
    while stream.transport.buffered:
        stream.transport.drain()
    assert stream.transport.half_closed
    assert [reply[0] for reply in stream.replies()] == list(range(1, 101))
    assert stream.connection.settled(2000.0)


def test_a_finished_connection_is_settled_when_its_peer_is_silent(stream):
    stream.connection.finish()
    assert not stream.connection.settled(stream.now)
    stream.now += 10
    stream.feed(PING)
    assert not stream.connection.settled(stream.now)
    assert stream.connection.settled(stream.now + 1)


@pytest.mark.parametrize("error", [RuntimeError("the handler is closed"), OSError(107, "not connected")], ids=repr)
def test_a_connection_that_broke_unnoticed_is_no_trouble_at_its_end(stream, monkeypatch, error):
    def broken():
        raise error

    monkeypatch.setattr(stream.transport, "write_eof", broken)
    stream.connection.finish()
    assert stream.transport.ended == "aborted"


def test_a_finished_connection_closes_without_another_write(stream):
    stream.feed(PING)
    stream.connection.finish()
    stream.connection.close()
    assert stream.transport.ended == "closed"
    assert len(stream.replies()) == 1
