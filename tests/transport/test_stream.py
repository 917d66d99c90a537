"""One connection of the stream protocol: HELLO, replies, refusals, and what a bug or a broken frame costs."""

import logging
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvcache.service.runs import Runs
from kvcache_client.protocol.errors import (
    Forbidden,
    FrameTooLarge,
    HelloRequired,
    InvalidKey,
    MalformedFrame,
    NodeFault,
    UnknownVerb,
    ValueTooLarge,
    VersionMismatch,
    WrongCluster,
)
from kvcache_client.protocol.framing import FrameReader, pack_message
from kvcache_client.protocol.limits import FRAME_SLACK, HELLO_BYTES
from kvcache_client.protocol.record import NEVER, PayloadType, make_record
from kvcache_client.protocol.verbs import VERBS, Push, Role, Status, Verb

HELLO = pack_message(1, int(Verb.HELLO), 1, "test", 0, b"", "a test")
PING = pack_message(2, int(Verb.PING))
RECORD = make_record(1 << 40, NEVER, PayloadType.BYTES, b"value")
PUT = pack_message(3, int(Verb.PUT), 9, b"k", RECORD)


def nested(depth):
    return b"\x91" * depth + b"\x90"


# Before HELLO


@pytest.mark.parametrize("verb", [*(verb for verb in VERBS if verb != Verb.HELLO), 14, 99, -1])
def test_nothing_is_answered_before_hello(stranger, verb):
    stranger.feed(pack_message(5, int(verb)))
    assert "HELLO" in stranger.refused(HelloRequired, number=5)
    assert stranger.counters.faults == 0


def test_what_follows_a_refused_first_message_is_not_carried_out(stranger):
    stranger.feed(pack_message(1, int(Verb.HELLO), 1, "other", 0, b"", ""), PUT, *[PING] * 50, PUT)
    replies = stranger.replies()
    assert [(reply[0], reply[1]) for reply in replies] == [(1, WrongCluster.code)]
    assert stranger.transport.ended == "closed"
    assert len(stranger.service.store) == 0
    assert (stranger.counters.requests, stranger.counters.failed) == (1, 1)


def test_what_follows_hello_without_waiting_is_answered(stranger):
    stranger.feed(HELLO, PING, PUT, PING)
    assert [reply[:2] for reply in stranger.replies()] == [(1, 0), (2, 0), (3, 0), (2, 0)]
    assert stranger.counters.faults == 0


def test_hello_may_come_byte_by_byte(stranger):
    for byte in HELLO:
        assert stranger.replies() == []
        stranger.feed(bytes([byte]))
    assert stranger.replies()[0][:2] == (1, Status.OK)


def test_a_second_hello_is_answered_like_the_first(stream):
    first = stream.service.handlers[Verb.HELLO]((7, 0, 1, "test", 0, b"", ""))
    assert stream.ask(int(Verb.HELLO), 1, "test", 0, b"", "") == first[1:]
    assert stream.ask(int(Verb.PING))[0] == Status.OK


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ((1, "tset", 0, b"", ""), WrongCluster),
        ((0, "test", 0, b"", ""), VersionMismatch),
        ((1, "test", 0, b""), MalformedFrame),
        ((1, "test", 0, b"", "", ""), MalformedFrame),
        ((1, "test", 0, "", ""), MalformedFrame),
        ((), MalformedFrame),
    ],
)
def test_a_hello_that_is_refused_closes(stranger, fields, error):
    stranger.feed(pack_message(6, int(Verb.HELLO), *fields))
    stranger.refused(error, number=6)
    assert stranger.counters.faults == 0


def test_before_hello_a_frame_has_four_kilobytes(stranger):
    fits = pack_message(6, int(Verb.HELLO), 1, "x" * (HELLO_BYTES - 30), 0, b"", "")
    assert len(fits) < HELLO_BYTES
    stranger.feed(fits)
    stranger.refused(WrongCluster, number=6)


@pytest.mark.parametrize("step", [1, 7, 4096, 100_000])
def test_a_stranger_that_sends_more_than_four_kilobytes_is_refused(stranger, step):
    frame = pack_message(6, int(Verb.HELLO), 1, "test", 0, b"x" * 100_000, "")
    taken = 0
    while not stranger.transport.ended and taken < len(frame):
        stranger.feed(frame[taken : taken + step])
        taken += step
    stranger.refused(FrameTooLarge)
    assert taken <= HELLO_BYTES + step
    assert stranger.counters.malformed == 1


def test_after_hello_a_frame_has_room_for_the_largest_value(stream):
    limit = 1 << 20
    fits = make_record(1 << 40, NEVER, 1, b"x" * limit)
    assert stream.ask(int(Verb.PUT), 9, b"k" * 1024, fits) == (Status.OK,)
    assert stream.ask(int(Verb.PUT), 9, b"k", fits + b"x")[0] == ValueTooLarge.code
    stream.feed(pack_message(7, int(Verb.PUT), 9, b"k", b"x" * (limit + FRAME_SLACK + 1)))
    stream.refused(FrameTooLarge)


# Replies


@pytest.mark.parametrize(
    ("requests", "replies_per_write"),
    [(1, [1]), (16, [16]), (23, [23]), (24, [16, 8]), (50, [16, 16, 18]), (1000, [*[16] * 61, 16, 8])],
)
def test_replies_leave_sixteen_at_a_time_so_that_the_peer_can_begin(stream, requests, replies_per_write):
    stream.put(b"k", b"value")
    stream.feed(*[pack_message(number, int(Verb.GET), b"k") for number in range(1, requests + 1)])
    sizes = [len(FrameReader(1 << 20).feed(data)) for data in stream.transport.writes]
    assert sizes == replies_per_write
    assert [reply[0] for reply in stream.replies()] == list(range(1, requests + 1))


@pytest.mark.parametrize("step", [1, 2, 3, 13, 64])
def test_messages_may_be_cut_anywhere(stream, step):
    record = stream.put(b"k", b"value" * 10)
    data = b"".join(pack_message(number, int(Verb.GET), b"k") for number in range(1, 30))
    for start in range(0, len(data), step):
        stream.feed(data[start : start + step])
    assert stream.replies() == [(number, Status.OK, record) for number in range(1, 30)]


def test_ids_are_given_back_as_they_are(stream):
    for number in (0, 1, (1 << 32) - 1, (1 << 64) - 1, -5):
        stream.feed(pack_message(number, int(Verb.PING)))
        assert stream.replies()[0][:2] == (number, Status.OK)


def test_an_error_says_what_and_why_and_the_connection_lives(stream):
    status, message, detail = stream.ask(int(Verb.GET), b"")
    assert (status, detail) == (InvalidKey.code, 1024)
    assert "1 to 1024 bytes" in message
    assert stream.ask(int(Verb.PING))[0] == Status.OK
    assert (stream.counters.requests, stream.counters.failed) == (2, 1)


@pytest.mark.parametrize("verb", [98, 99, 255, 10**18, -1])
def test_an_unknown_verb_is_named_and_the_connection_lives(stream, verb):
    code, message, _ = stream.ask(verb, b"k", 1, None)
    assert code == UnknownVerb.code
    assert str(verb) in message
    assert stream.ask(int(Verb.PING))[0] == Status.OK


def test_a_bug_costs_one_reply_and_one_traceback(stream, caplog):
    def broken(message):
        raise ZeroDivisionError("a secret")

    stream.service.add({Verb.HEAD: broken})
    stream.feed(PING, pack_message(4, int(Verb.HEAD), b"k"), PING)
    replies = stream.replies()
    assert [reply[:2] for reply in replies] == [(2, 0), (4, NodeFault.code), (2, 0)]
    assert "secret" not in replies[1][2]
    assert (stream.counters.faults, stream.counters.failed) == (1, 1)
    (line,) = caplog.records
    assert (line.levelno, line.getMessage()) == (logging.ERROR, "bug in HEAD")
    assert line.exc_info[0] is ZeroDivisionError


class Broken:
    def answer(self, *_):
        raise MemoryError


def test_what_fails_among_reads_is_said_and_the_handlers_answer_each(stream, caplog):
    stream.ask(int(Verb.PUT), 9, b"k", RECORD)
    stream.service.runs.reads = Broken()
    stream.feed(PING, pack_message(4, int(Verb.GET), b"k"), pack_message(5, int(Verb.GET), b"nobody"), PING)
    replies = stream.replies()
    assert [reply[:2] for reply in replies] == [(2, 0), (4, int(Status.OK)), (5, int(Status.MISS)), (2, 0)]
    assert {line.getMessage() for line in caplog.records} == {"bug in GET"}


def test_what_fails_among_writes_is_said_and_the_handlers_answer_each(stream, caplog, monkeypatch):
    monkeypatch.setattr(Runs, "writes", Broken())
    puts = [pack_message(number, int(Verb.PUT), 9, b"k", RECORD) for number in (4, 5)]
    stream.feed(*puts, pack_message(6, int(Verb.GET), b"k"))
    assert [reply[:2] for reply in stream.replies()] == [(4, int(Status.OK)), (5, int(Status.OK)), (6, int(Status.OK))]
    assert {line.getMessage() for line in caplog.records} == {"bug in PUT"}


# Bad frames


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (b"\xc1", MalformedFrame),
        (b"\x80", MalformedFrame),
        (b"\x92\x01\x81\x01\x02", MalformedFrame),
        (b"\x92\x01\xd4\x05\x00", MalformedFrame),
        (b"\x92\x01\xc7\x00\x05", MalformedFrame),
        (b"\x92\x01\xd6\xff\x00\x00\x00\x00", MalformedFrame),
        (b"\x92\x01\xa2\xff\xfe", MalformedFrame),
        (b"\xdd\xff\xff\xff\xff", FrameTooLarge),
        (b"\xdc\xff\xff", FrameTooLarge),
        (b"\x92\x01\xdf\xff\xff\xff\xff", MalformedFrame),
        (nested(1_000_000), MalformedFrame),
    ],
    ids=lambda bad: bad[:8].hex() if isinstance(bad, bytes) else "",
)
def test_messages_in_front_of_a_broken_one_are_answered(stream, bad, error):
    stream.feed(PING, PUT, bad)
    replies = stream.replies()
    assert [reply[:2] for reply in replies[:-1]] == [(2, 0), (3, 0)]
    assert replies[-1][:2] == (0, error.code)
    assert stream.transport.ended == "closed"
    assert stream.counters.malformed == 1
    assert len(stream.service.store) == 1


@pytest.mark.parametrize(
    "bad",
    [
        b"\x05",
        b"\xc0",
        b"\xa1x",
        b"\xc4\x05bytes",
        b"\xcb\x00\x00\x00\x00\x00\x00\x00\x00",
        b"\x90",
        b"\x91\x01",
        pack_message(1, None),
        pack_message(1, "PING"),
        pack_message(1, 1.5),
        pack_message(1, (1,)),
        pack_message(1, 4.0, b"k"),
        pack_message(1, True),
        pack_message(1, b"\x01"),
        b"\x92\x01" + nested(1020),
        b"\x92" + nested(1020) + b"\x63",
        b"\x92" + nested(3) + b"\x63",
        b"\x92\x01\xdc\x08\x00" + (b"\xdc\x01\xfe" + b"\x90" * 510) * 2048,
    ],
    ids=lambda bad: f"{bad[:6].hex()}-{len(bad)}",
)
def test_what_is_no_request_is_malformed_and_no_fault(stream, bad, caplog):
    stream.feed(bad, PUT)
    *_, reply = stream.replies()
    assert reply[1] == MalformedFrame.code
    assert len(reply[2]) < 300
    assert stream.transport.ended == "closed"
    assert (stream.counters.malformed, stream.counters.faults) == (1, 0)
    assert caplog.records == []
    assert len(stream.service.store) == 0


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
@pytest.mark.parametrize("deep", [1, 600, 1020])
def test_nested_fields_are_refused_whatever_their_depth(stream, verb, deep, caplog):
    for place in range(len(VERBS[verb].fields)):
        fields = [b"\xc4\x01k"] * len(VERBS[verb].fields)
        fields[place] = nested(deep)
        one = stream.another()
        one.feed(bytes([0x92 + len(fields), 7, verb]) + b"".join(fields))
        (reply,) = one.replies()
        assert reply[0] == 7
        assert one.counters.faults == 0
    assert caplog.records == []


@pytest.mark.parametrize("header", [b"\xc6", b"\xdb"], ids=["bin32", "str32"])
def test_what_claims_four_gigabytes_is_refused_when_it_has_sent_as_much_as_may_be(stream, header):
    stream.feed(PING, b"\x93\x01\x04", header, b"\xff\xff\xff\xff")
    sent = 0
    while not stream.transport.ended:
        stream.feed(b"x" * 65536)
        sent += 65536
    assert sent <= (1 << 20) + FRAME_SLACK + 65536
    stream.refused(FrameTooLarge)


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_a_wrong_number_of_fields_closes(stranger, verb):
    stream = stranger
    stream.introduce(role=Role.ADMIN)
    repeated = VERBS[verb].fields[-1:] and VERBS[verb].fields[-1].endswith("...")
    stream.feed(pack_message(7, int(verb), *[b""] * (100 if repeated else len(VERBS[verb].fields) + 1)), PING)
    if verb == Verb.GET_MANY:  # any number is right there
        assert [reply[0] for reply in stream.replies()] == [7, 2]
    else:
        stream.refused(MalformedFrame, number=7)
        assert stream.counters.faults == 0


@pytest.mark.parametrize("role", [9, 1 << 40])
def test_a_role_that_is_not_known_may_what_a_client_may(stranger, role):
    stranger.introduce(role)
    assert stranger.ask(int(Verb.PING))[0] == Status.OK
    assert stranger.ask(int(Verb.REPORT))[0] == Forbidden.code


def test_after_a_message_that_closes_no_other_is_carried_out(stream):
    stream.feed(PING, pack_message(4, int(Verb.GET)), *[PUT] * 40)
    assert [reply[:2] for reply in stream.replies()] == [(2, 0), (4, MalformedFrame.code)]
    assert len(stream.service.store) == 0
    assert (stream.counters.requests, stream.counters.failed, stream.counters.malformed) == (2, 1, 1)


def test_a_refusal_and_a_broken_frame_in_one_read_close_once(stream):
    stream.feed(pack_message(4, int(Verb.GET)), b"\xc1")
    assert [reply[:2] for reply in stream.replies()] == [(4, MalformedFrame.code)]
    assert stream.counters.malformed == 1


_FIELDS = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)
_MESSAGES = st.tuples(st.integers(1, 1 << 32) | _FIELDS, st.integers(0, 15) | _FIELDS).flatmap(
    lambda head: st.lists(_FIELDS, max_size=6).map(lambda fields: [*head, *fields])
)


@given(messages=st.lists(_MESSAGES, min_size=1, max_size=5), steps=st.integers(1, 50))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_packed_gets_one_reply_each_until_one_closes(stream, messages, steps):
    one = stream.another()
    data = b"".join(pack_message(*message) for message in messages)
    for start in range(0, len(data), steps):
        if not one.transport.ended:
            one.feed(data[start : start + steps])
    replies = one.replies()
    assert len(replies) == len(messages) or one.transport.ended
    assert one.counters.faults == 0
    assert (one.counters.requests, one.counters.failed) == (len(replies), sum(reply[1] >= 16 for reply in replies))


@given(data=st.binary(max_size=200), hello=st.booleans())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_bytes_come_nothing_is_raised(stranger, data, hello):
    one = stranger.another(introduced=hello)
    one.feed(data)
    assert one.counters.faults == 0
    one.connection.connection_lost(None)


# Pushes, closing, memory


def test_a_new_epoch_is_pushed_to_those_that_said_hello(stream):
    stream.connection.push_epoch(12)
    assert stream.replies() == [(0, Push.EPOCH, 12)]


def test_nothing_is_pushed_to_a_stranger_or_after_the_end(stream):
    other = stream.another(introduced=False)
    other.connection.push_epoch(12)
    assert other.replies() == []
    stream.connection.close()
    stream.connection.push_epoch(12)
    stream.connection.connection_lost(None)
    stream.connection.push_epoch(13)
    assert stream.replies() == []


def test_a_connection_that_is_gone_is_told_once_and_forgets_everything(stream):
    connection = stream.connection
    connection.connection_lost(ConnectionResetError())
    assert stream.gone == [connection]
    connection.close()
    connection.abort()
    assert stream.transport.ended is None
    assert repr(connection) == "<StreamConnection gone introduced=True held=0>"


def test_its_repr_tells_peer_and_state(stranger):
    assert repr(stranger.connection) == "<StreamConnection ('10.0.0.1', 5) introduced=False held=0>"


def test_a_large_reply_leaves_no_memory_behind(stream):
    stream.put(b"k", b"x" * (1 << 20))
    get = pack_message(7, int(Verb.GET), b"k")
    stream.feed(PING)
    stream.transport.writes.clear()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        stream.feed(*[get] * 16)
        stream.transport.writes.clear()
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before > 16 << 20
    assert after - before < 1 << 20
