"""Bad input to a real node process: each gets its error, and the node lives on, no larger, with every value intact."""

import random
import time

import msgpack
import pytest

from kvcache_client.protocol.errors import (
    BatchTooLarge,
    CounterOverflow,
    FrameTooLarge,
    HelloRequired,
    InvalidKey,
    InvalidRecord,
    MalformedFrame,
    NotAnInteger,
    UnknownVerb,
    ValueTooLarge,
    VersionMismatch,
    WrongCluster,
)
from kvcache_client.protocol.framing import pack_message
from kvcache_client.protocol.limits import FRAME_SLACK, VALUE_BYTES
from kvcache_client.protocol.record import NEVER, PayloadType, make_record
from kvcache_client.protocol.verbs import PROTOCOL_VERSION, VERBS, Status, Verb
from kvcache_client.protocol.version import version_at

MIB = 1 << 20
GROWTH = 64 * MIB
"""How much larger than at its start the node may be, whatever was sent to it: its whole budget for records."""

HELLO = pack_message(1, int(Verb.HELLO), 1, "", 0, b"", "a test")
PING = pack_message(7, int(Verb.PING))
NESTED_DEEP = b"\x91" * MIB
NESTED_WIDE = b"\x92\x01\xdc\x08\x00" + (b"\xdc\x01\xfe" + b"\x90" * 510) * 2048
"""1 MiB of empty arrays in arrays, within all limits of length."""


def now_ms():
    return time.time_ns() // 1_000_000


def record_of(payload, kind=PayloadType.BYTES):
    return make_record(version_at(now_ms()), NEVER, kind, payload)


@pytest.fixture(scope="module")
def canary(node_process):
    """A value that must outlive everything."""
    record = record_of(b"sings" * 100)
    with node_process.wire().introduce() as wire:
        assert wire.ask(int(Verb.PUT), 99, b"canary", record) == (Status.OK,)
    return record


@pytest.fixture(scope="module")
def size_before(node_process, canary):
    return node_process.memory()


@pytest.fixture(autouse=True)
def lives_on(node_process, canary, size_before):
    """After every test the node serves, is no larger, and has met no bug."""
    yield
    with node_process.wire().introduce() as wire:
        assert wire.ask(int(Verb.GET), b"canary") == (Status.OK, canary)
    counted = node_process.statistics()
    assert counted["stream"]["faults"] == 0
    assert counted["http"]["faults"] == 0
    assert "Traceback" not in node_process.log
    assert node_process.memory() - size_before < GROWTH


def closes(wire, error, *, number=0):
    """The node must say ``error`` at most once more, and close. A reset may overtake what it said."""
    replies = wire.messages_to_the_end()
    if not wire.reset:
        assert [reply[:2] for reply in replies] == [(number, error.code)]


# Frames


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (b"\xc1", MalformedFrame),
        (b"\x94\x01\x04\xc1", MalformedFrame),
        (b"\x80", MalformedFrame),
        (b"\xdf\xff\xff\xff\xff", MalformedFrame),
        (b"\xc7\x02\x00ab", MalformedFrame),
        (b"\x92\x01\xa4\xff\xff\xff\xff", MalformedFrame),
        (b"\xdd\xff\xff\xff\xff", FrameTooLarge),
        (b"\x93\x01\x05\xdd\xff\xff\xff\xff", FrameTooLarge),
        (b"\xdc\xff\xff", FrameTooLarge),
        (b"\x93\x01\x04\xc6\xff\xff\xff\xff" + b"x" * 3 * MIB, FrameTooLarge),
        (b"\x93\x01\x04\xdb\xff\xff\xff\xff" + b"x" * 3 * MIB, FrameTooLarge),
        (b"\x93\x01\x04\xc6\x00\x30\x00\x00" + b"x" * 3 * MIB, FrameTooLarge),
        (NESTED_DEEP, MalformedFrame),
        (b"\xc0" * 100, MalformedFrame),
        (b"\x00\x01\x02", MalformedFrame),
        (b"GET / HTTP/1.1\r\n\r\n", MalformedFrame),
    ],
    ids=lambda value: f"{value[:8].hex()}-{len(value)}" if isinstance(value, bytes) else "",
)
def test_bytes_that_are_no_message_close_with_an_error_of_ours(node_process, bad, error):
    with node_process.wire().introduce() as wire:
        wire.send(bad)
        closes(wire, error)


@pytest.mark.parametrize(
    "bad", [b"\xc1", b"\x80", b"\xdd\xff\xff\xff\xff", NESTED_DEEP, b"\xc6\xff\xff\xff\xff" + b"x" * MIB]
)
def test_a_stranger_that_sends_the_same_is_closed_sooner(node_process, bad):
    with node_process.wire() as wire:
        wire.send(b"\x97" + bad)
        assert len(wire.messages_to_the_end()) <= 1


def test_a_mebibyte_of_nested_empty_arrays_is_refused(node_process):
    assert len(NESTED_WIDE) <= VALUE_BYTES + FRAME_SLACK
    with node_process.wire().introduce() as wire:
        wire.send(NESTED_WIDE)
        closes(wire, MalformedFrame, number=1)


def test_many_nested_frames_leave_nothing_behind(node_process):
    for _ in range(20):
        with node_process.wire().introduce() as wire:
            wire.send(NESTED_WIDE)
            closes(wire, MalformedFrame, number=1)


def test_fields_that_are_nested_as_deep_as_can_be_read_are_refused(node_process):
    deep = b"\x91" * 1020 + b"\x90"
    for verb, spec in VERBS.items():
        if spec.fields:
            with node_process.wire().introduce() as wire:
                wire.send(bytes([0x92 + len(spec.fields), 7, verb]), deep * len(spec.fields))
                assert wire.message()[0] == 7


def test_half_a_frame_and_the_end_is_nothing(node_process):
    frame = pack_message(7, int(Verb.PUT), 99, b"half", record_of(b"x" * 1000))
    for size in range(1, len(frame), 50):
        with node_process.wire().introduce() as wire:
            wire.send(frame[:size])
    with node_process.wire().introduce() as wire:
        assert wire.ask(int(Verb.GET), b"half") == (Status.MISS,)


def test_many_halves_of_large_frames_are_given_back(node_process):
    wires = [node_process.wire().introduce() for _ in range(40)]
    for wire in wires:
        wire.send(b"\x95\x07\x08\x63\xc4\x01k\xc6\x00\x10\x00\x00", b"x" * 1_000_000)
    for wire in wires:
        wire.socket.close()


def test_what_came_before_garbage_is_answered(node_process):
    record = record_of(b"kept")
    with node_process.wire().introduce() as wire:
        wire.send(PING, pack_message(8, int(Verb.PUT), 99, b"before", record), b"\xc1", PING)
        replies = wire.messages_to_the_end()
    assert [reply[:2] for reply in replies] == [(7, 0), (8, 0), (0, MalformedFrame.code)]
    with node_process.wire().introduce() as wire:
        assert wire.ask(int(Verb.GET), b"before") == (Status.OK, record)


# Messages


def test_a_message_before_hello_is_refused(node_process):
    with node_process.wire() as wire:
        wire.send(PING)
        closes(wire, HelloRequired, number=7)


@pytest.mark.parametrize(
    ("protocol", "cluster", "error"),
    [(PROTOCOL_VERSION, "another", WrongCluster), (0, "", VersionMismatch), (PROTOCOL_VERSION, 5, MalformedFrame)],
)
def test_a_wrong_hello_is_refused(node_process, protocol, cluster, error):
    with node_process.wire() as wire:
        wire.send(pack_message(1, int(Verb.HELLO), protocol, cluster, 0, b"", ""))
        closes(wire, error, number=1)


def test_wrong_cluster_says_which_one_this_is(node_process):
    with node_process.wire() as wire:
        wire.send(pack_message(1, int(Verb.HELLO), 1, "another", 0, b"", ""))
        assert "'default'" in wire.message()[2]
        assert wire.rest() == b""


@pytest.mark.parametrize("verb", [max(Verb) + 1, 99, 255, 1 << 40, -3])
def test_an_unknown_verb_is_answered_and_the_connection_lives(node_process, verb):
    with node_process.wire().introduce() as wire:
        assert wire.ask(verb, b"k")[0] == UnknownVerb.code
        assert wire.ask(int(Verb.PING))[0] == Status.OK


@pytest.mark.parametrize("key", [b"", b"x" * 1025, "text", None, 5])
def test_a_bad_key_is_answered_and_the_connection_lives(node_process, key):
    with node_process.wire().introduce() as wire:
        assert wire.ask(int(Verb.GET), key)[0] == InvalidKey.code
        assert wire.ask(int(Verb.PUT), 99, key, record_of(b""))[0] == InvalidKey.code
        assert wire.ask(int(Verb.PING))[0] == Status.OK


@pytest.mark.parametrize("key", [b"\x00", b"a\r\nb", b" ", b"\xff\xfe\x80", b"x" * 1024])
def test_any_bytes_are_a_key(node_process, key):
    record = record_of(key)
    with node_process.wire().introduce() as wire:
        assert wire.ask(int(Verb.PUT), 99, key, record) == (Status.OK,)
        assert wire.ask(int(Verb.GET), key) == (Status.OK, record)


def test_a_value_over_the_limit_is_refused_and_the_connection_lives(node_process):
    with node_process.wire().introduce() as wire:
        assert wire.ask(int(Verb.PUT), 99, b"big", record_of(b"x" * VALUE_BYTES)) == (Status.OK,)
        code, message, limit = wire.ask(int(Verb.PUT), 99, b"big", record_of(b"x" * (VALUE_BYTES + 1)))
        assert (code, limit) == (ValueTooLarge.code, VALUE_BYTES)
        assert str(VALUE_BYTES + 1) in message
        assert len(wire.ask(int(Verb.GET), b"big")[1]) == VALUE_BYTES + 15


def test_a_value_far_over_the_limit_closes(node_process):
    with node_process.wire().introduce() as wire:
        wire.send(pack_message(7, int(Verb.PUT), 99, b"huge", record_of(b"x" * 8 * MIB)))
        closes(wire, FrameTooLarge)


def test_what_is_no_record_is_refused(node_process):
    with node_process.wire().introduce() as wire:
        for bad in (b"", b"x" * 14, None, "text"):
            assert wire.ask(int(Verb.PUT), 99, b"k", bad)[0] == InvalidRecord.code


def test_incr_of_text_and_beyond_64_bits_is_refused(node_process):
    with node_process.wire().introduce() as wire:
        wire.ask(int(Verb.PUT), 99, b"text", record_of(b"1", PayloadType.TEXT))
        assert wire.ask(int(Verb.INCR), 99, b"text", 1, 0, NEVER, 0)[0] == NotAnInteger.code
        wire.ask(int(Verb.PUT), 99, b"count", record_of(b"%d" % ((1 << 63) - 1), PayloadType.INTEGER))
        assert wire.ask(int(Verb.INCR), 99, b"count", 1, 0, NEVER, 0)[0] == CounterOverflow.code


@pytest.mark.parametrize("keys", [2055, 65_000, 1_000_000])
def test_a_message_with_too_many_keys_closes(node_process, keys):
    with node_process.wire().introduce() as wire:
        wire.send(pack_message(7, int(Verb.GET_MANY), *[b"k%d" % number for number in range(keys)]))
        closes(wire, FrameTooLarge)


# HTTP


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"BREW /v1/kv/canary HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", (400, 405)),
        (b"POST /v1/kv/canary HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", (405,)),
        (b"PUT /v1/stats HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", (405,)),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 1_000_000 + b"\r\n\r\n", (431,)),
        (b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", (431, 400)),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 10_000 + b"\r\n", (431,)),
        (b"GET / HTTP/1.1\r\nNo colon\r\n\r\n", (400,)),
        (b"PING\r\n\r\n", (400, 505)),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400, 505)),
    ],
    ids=lambda value: repr(value[:24]) if isinstance(value, bytes) else "",
)
def test_bad_http_gets_a_status(node_process, head, status):
    with node_process.wire() as wire:
        wire.send(head)
        answer = wire.rest()
    assert wire.reset or int(answer.split(b" ", 2)[1]) in status


def test_half_a_header_and_the_end_is_nothing(node_process):
    head = b"GET /v1/kv/canary HTTP/1.1\r\nHost: x\r\nX-Long: " + b"y" * 500
    for size in range(1, len(head), 37):
        with node_process.wire() as wire:
            wire.send(head[:size])


def test_a_batch_of_a_million_keys_is_refused(node_process):
    body = msgpack.packb({"get": [b"%d" % number for number in range(1_000_000)]})
    head = f"POST /v1/batch HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
    status, answer = node_process.http((head + "Content-Type: application/msgpack\r\n\r\n").encode() + body)
    assert status == 413
    assert BatchTooLarge.__name__.encode() in answer


@pytest.mark.parametrize("body", [b"\xc1", b"\xdf\xff\xff\xff\xff", b"\x81\xa3get\xdd\xff\xff\xff\xff", NESTED_DEEP])
def test_a_batch_that_is_none_is_refused(node_process, body):
    head = f"POST /v1/batch HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
    status, _ = node_process.http((head + "Content-Type: application/msgpack\r\n\r\n").encode() + body)
    assert status in (400, 413)


# Other protocols


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x42" * 500,
        b"*1\r\n$4\r\nPING\r\n",
        b"*3\r\n$3\r\nSET\r\n$6\r\ncanary\r\n$1\r\nx\r\n",
        b"set canary 0 0 1\r\nx\r\n",
        b"\x80\x01\x00\x06\x08\x00\x00\x00",
        b"\x00" * 1000,
    ],
    ids=["TLS", "RESP", "RESP set", "memcached", "memcached binary", "zeros"],
)
def test_another_protocol_is_closed_without_a_word(node_process, data):
    with node_process.wire() as wire:
        wire.send(data)
        assert wire.rest() == b""


# Noise


def mutated(random_source, frame):
    """Return ``frame`` with something wrong in it, or nothing."""
    data = bytearray(frame)
    for _ in range(random_source.randrange(4)):
        place = random_source.randrange(len(data) + 1)
        match random_source.randrange(4):
            case 0:
                data[place:place] = random_source.randbytes(random_source.randrange(1, 9))
            case 1:
                del data[place : place + random_source.randrange(1, 9)]
            case 2 if place < len(data):
                data[place] = random_source.randrange(256)
            case _:
                data += data[:place]
        data = data or bytearray(b"\x90")
    return bytes(data)


def valid_frames():
    key, record = b"fuzz", record_of(b"value")
    fields = {
        Verb.HELLO: (1, "default", 0, b"", ""),
        Verb.GET: (key,),
        Verb.GET_MANY: (key, key),
        Verb.HEAD: (key,),
        Verb.PEEK: (key,),
        Verb.PUT: (99, key, record),
        Verb.PUT_MANY: (99, key, record, key, record),
        Verb.HINT: ("node", key, record),
        Verb.SWAP: (99, key, 0, record, 7),
        Verb.INCR: (99, key, 1, None, NEVER, 8),
        Verb.TOUCH: (99, key, NEVER, 9),
        Verb.LEASE: (99, key, 10, 100),
        Verb.FILL: (99, key, 10, record),
        Verb.RELEASE: (key, 10),
        Verb.COPY: (99, key, record, 7),
        Verb.RECALL: (99, key, 7),
    }
    return [pack_message(7, int(verb), *fields.get(verb, ())) for verb in VERBS]


@pytest.mark.parametrize("seed", range(4))
def test_thousands_of_random_streams_harm_nothing(node_process, seed):
    source = random.Random(seed)
    frames = valid_frames()
    for number in range(500):
        with node_process.wire() as wire:
            introduced = number % 5 != 0
            if introduced:
                wire.send(HELLO)
            for _ in range(source.randrange(1, 6)):
                whole = source.random() < 0.2
                wire.send(
                    source.randbytes(source.randrange(1, 64)) if whole else mutated(source, source.choice(frames))
                )
            if source.random() < 0.5:
                wire.say_no_more()
