from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import msgpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kvcache_client.protocol import framing
from kvcache_client.protocol.errors import FrameTooLarge, KvCacheError, MalformedFrame
from kvcache_client.protocol.framing import CLIENT_FRAME_LIMIT, FrameReader, is_stream_byte, pack_message
from kvcache_client.protocol.limits import (
    FRAME_SLACK,
    HELLO_BYTES,
    KEY_BYTES,
    KEYS_PER_FRAME,
    NONCE_BYTES,
    TEXT_BYTES,
    VALUE_BYTES,
    VALUE_BYTES_CAP,
)
from kvcache_client.protocol.verbs import Message, Verb

LIMIT = VALUE_BYTES + FRAME_SLACK
SMALL = pack_message(1, Verb.GET, b"key")
HELLO = pack_message(1, Verb.HELLO, 1, "shop", 0, b"", "web-1")


def reader(limit: int = LIMIT) -> FrameReader:
    return FrameReader(limit)


def stranger() -> FrameReader:
    return FrameReader(LIMIT, first_limit=HELLO_BYTES)


def feed_all(target: FrameReader, pieces: Iterable[bytes]) -> list[Message]:
    """Feed until it breaks, as a connection does."""
    messages: list[Message] = []
    for piece in pieces:
        messages += target.feed(piece)
        if target.broken is not None:
            break
    return messages


def pieces_of(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


def array32(count: int) -> bytes:
    return b"\xdd" + count.to_bytes(4, "big")


# Whole messages


@pytest.mark.parametrize("make", [reader, stranger])
def test_messages_come_out_the_same_however_the_bytes_are_sliced(make: type[FrameReader]) -> None:
    sent: list[Message] = [
        (1, 0, 1, "shop", 0, b"", "web-1"),
        (2, 4, b"\x00\r\n \xff"),
        (3, 11, 7, b"k", 0, b"v" * 300),
        (4294967295, 12, 7, b"k", -1, None, (1 << 48) - 1),
    ]
    data = b"".join(pack_message(*message) for message in sent)
    for size in (1, 2, 3, 7, 64, len(data)):
        target = make()
        assert feed_all(target, pieces_of(data, size)) == sent
        assert target.broken is None


def test_nothing_comes_of_half_a_message() -> None:
    target = reader()
    assert target.feed(SMALL[:-1]) == []
    assert target.broken is None
    assert target.feed(SMALL[-1:]) == [(1, 4, b"key")]


def test_longer_forms_of_numbers_and_lengths_mean_the_same() -> None:
    wide = (
        b"\xdd\x00\x00\x00\x03" + b"\xce\x00\x00\x00\x01" + b"\xd3" + b"\x00" * 7 + b"\x04" + b"\xc6\x00\x00\x00\x03key"
    )
    assert reader().feed(wide) == [(1, 4, b"key")]


def test_the_longest_messages_pass() -> None:
    keys = [bytes([i % 256]) * KEY_BYTES for i in range(KEYS_PER_FRAME)]
    asked = pack_message(1, Verb.GET_MANY, *keys)
    (message,) = feed_all(reader(), pieces_of(asked, 65536))
    assert message[2:] == tuple(keys)
    pairs = [field for i in range(KEYS_PER_FRAME) for field in (b"%d" % i, b"v" * 900)]
    (message,) = feed_all(reader(), [pack_message(2, Verb.PUT_MANY, 7, *pairs)])
    assert message[3:] == tuple(pairs)
    largest = pack_message(3, Verb.PUT, 7, b"k" * KEY_BYTES, b"h" * 15 + b"v" * VALUE_BYTES)
    assert len(feed_all(reader(), pieces_of(largest, 65536))) == 1


def test_a_client_takes_the_largest_value_that_any_node_may_hold() -> None:
    reply = pack_message(1, 0, bytes(15 + VALUE_BYTES_CAP))
    target = FrameReader(CLIENT_FRAME_LIMIT)
    assert len(feed_all(target, pieces_of(reply, 1 << 18))) == 1
    assert target.broken is None


def test_a_large_frame_behind_many_small_ones_in_one_read_is_not_counted_with_them() -> None:
    ahead = 250_000 // len(SMALL)
    large = pack_message(2, Verb.PUT, 7, b"k" * KEY_BYTES, bytes(15 + VALUE_BYTES))
    data = SMALL * ahead + large
    target = reader()
    messages = feed_all(target, [data[: 1 << 18], *pieces_of(data[1 << 18 :], 16384)])
    assert target.broken is None
    assert len(messages) == ahead + 1


def test_the_longest_hello_passes_the_first_limit() -> None:
    hello = pack_message(1, Verb.HELLO, 1, "c" * 255, 0, bytes(2 * NONCE_BYTES), "n" * 255)
    for size in (1, len(hello)):
        target = stranger()
        assert len(feed_all(target, pieces_of(hello, size))) == 1
        assert target.broken is None


def test_a_stream_byte_begins_a_short_array_and_is_no_letter() -> None:
    stream_bytes = [byte for byte in range(256) if is_stream_byte(byte)]
    assert stream_bytes == [*range(0x90, 0xA0), 0xDC]
    assert not any(chr(byte).isascii() for byte in stream_bytes)


def test_every_message_that_is_packed_begins_with_a_stream_byte() -> None:
    for count in (2, 15, 16, 2 * KEYS_PER_FRAME + 3):
        assert is_stream_byte(pack_message(*range(count))[0])


# Bytes that are no message

BAD = {
    "the byte 0xc1": b"\xc1",
    "0xc1 as a field": b"\x93\x01\x04\xc1",
    "a map": b"\x81\x01\x02",
    "an empty map": b"\x80",
    "a map as a field": b"\x93\x01\x04\x81\xa1a\x01",
    "an empty map as a field": b"\x93\x01\x04\x80",
    "a map of 2^32-1 pairs": b"\x93\x01\x04\xdf\xff\xff\xff\xff",
    "an extension": b"\x93\x01\x04\xd4\x05\x00",
    "an extension without data": b"\x93\x01\x04\xc7\x00\x05",
    "a timestamp": b"\x93\x01\x04\xd6\xff\x00\x00\x00\x00",
    "a timestamp without data": b"\x93\x01\x04\xc7\x00\xff",
    "an extension of 65535 bytes": b"\x93\x01\x04\xc8\xff\xff\x05" + bytes(65535),
    "text that is not UTF-8": b"\x93\x01\x04\xa2\xc3\x28",
    "a surrogate in text": b"\x93\x01\x04\xa3\xed\xa0\x80",
    "nesting without end": b"\x91" * 3000,
}
TOO_LARGE = {
    "an array of 2^32-1": array32(2**32 - 1),
    "an array of 65535": b"\xdc\xff\xff",
    "an array of one more than allowed": b"\xdc" + (2 * KEYS_PER_FRAME + 9).to_bytes(2, "big"),
    "a nested array of 2^32-1": b"\x93\x01\x04" + array32(2**32 - 1),
    "text over its limit": pack_message(1, 4, "x" * (TEXT_BYTES + 1)),
}


@pytest.mark.parametrize("make", [reader, stranger])
@pytest.mark.parametrize("what", BAD)
def test_bytes_that_are_no_message_break_the_reader(what: str, make: type[FrameReader]) -> None:
    for size in (1, 5, 1 << 20):
        target = make()
        assert feed_all(target, pieces_of(BAD[what], size)) == []
        if make is reader:
            assert isinstance(target.broken, MalformedFrame)
            assert str(target.broken).startswith("not a message: ")
            assert target.broken.__cause__ is not None
        else:
            assert isinstance(target.broken, MalformedFrame | FrameTooLarge)


@pytest.mark.parametrize("make", [reader, stranger])
@pytest.mark.parametrize("what", TOO_LARGE)
def test_what_claims_too_much_breaks_the_reader(what: str, make: type[FrameReader]) -> None:
    for size in (1, 5, 1 << 20):
        target = make()
        assert feed_all(target, pieces_of(TOO_LARGE[what], size)) == []
        assert isinstance(target.broken, FrameTooLarge)
        assert target.broken.detail == target.limit


@pytest.mark.parametrize("what", [*BAD, *TOO_LARGE])
def test_messages_in_front_of_broken_bytes_are_kept(what: str) -> None:
    target = reader()
    assert target.feed(SMALL * 3 + (BAD | TOO_LARGE)[what]) == [(1, 4, b"key")] * 3
    assert isinstance(target.broken, KvCacheError)
    assert target.broken.closes_connection


def test_after_broken_bytes_nothing_is_read_and_the_first_reason_stays() -> None:
    for target in (reader(), stranger()):
        target.feed(b"\xc1")
        reason = target.broken
        assert target.feed(SMALL) == []
        assert target.feed(array32(2**32 - 1)) == []
        target.limit = LIMIT
        assert target.feed(SMALL) == []
        assert target.broken is reason is not None


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n", b"\x05", b"\xc0", b"\xa3abc", b"\xc4\x03abc", b"\xca\x00\x00\x00\x00"]
)
def test_a_stranger_who_sends_no_array_is_refused(data: bytes) -> None:
    target = stranger()
    assert target.feed(HELLO + data) == [(1, 0, 1, "shop", 0, b"", "web-1")]
    assert isinstance(target.broken, MalformedFrame)


# Bounds


@pytest.mark.parametrize(
    "header",
    [b"\x92\x01\xc6\xff\xff\xff\xff", b"\x92\x01\xdb\xff\xff\xff\xff"],
    ids=["a bin of 4 GiB", "text of 4 GiB"],
)
def test_a_frame_without_an_end_is_refused_at_the_limit_and_costs_no_more_than_that(header: bytes) -> None:
    limit = 200_000
    target = FrameReader(limit)
    sent = 0
    tracemalloc.start()
    try:
        start = tracemalloc.get_traced_memory()[0]
        for piece in [header, *[bytes([0x90]) * 1000] * 1000]:
            sent += len(piece)
            target.feed(piece)
            if target.broken is not None:
                break
        peak = tracemalloc.get_traced_memory()[1] - start
    finally:
        tracemalloc.stop()
    assert isinstance(target.broken, FrameTooLarge)
    assert sent <= limit + 1000
    assert peak < 4 * limit


def test_a_bin_over_the_limit_is_refused_even_if_it_comes_in_one_read() -> None:
    target = FrameReader(10_000)
    assert target.feed(pack_message(1, 4, bytes(10_001))) == []
    assert isinstance(target.broken, FrameTooLarge)


@pytest.mark.parametrize(
    "bomb",
    [b"\xdc\x00\x40", b"\x92\x90", b"\xdc\x04\x00", b"\x93\xc0\x90", b"\xdc\x08\x08\x90\x90"],
    ids=lambda bomb: bomb.hex(),
)
def test_nested_arrays_drip_fed_are_refused_and_hold_little(bomb: bytes) -> None:
    with traced() as held_by:
        start = tracemalloc.get_traced_memory()[0]
        readers = [reader(100_000)]
        sent = 0
        while readers[0].broken is None:
            assert readers[0].feed(bomb) == []
            sent += len(bomb)
            assert sent <= 100_000 + len(bomb)
        peak = tracemalloc.get_traced_memory()[1] - start
        left = held_by(readers)
    assert left < 100_000
    # 1024 levels of nesting, each with room for the longest message.
    assert peak < 1024 * 8 * (2 * KEYS_PER_FRAME + 16) + (1 << 20)


def test_flat_arrays_within_a_message_are_refused_at_the_limit() -> None:
    target = reader(100_000)
    target.feed(b"\xdc\x08\x00")
    sent = 0
    while target.broken is None:
        assert target.feed(b"\xdc\x08\x00" + b"\x90" * 2048) == []
        sent += 2051
    assert isinstance(target.broken, FrameTooLarge)
    assert sent <= 100_000 + 2051


# Before HELLO


def test_a_stranger_may_send_4_kib_and_not_a_byte_more() -> None:
    fits = pack_message(1, 0, bytes(HELLO_BYTES - 6))
    assert len(fits) == HELLO_BYTES
    over = pack_message(1, 0, bytes(HELLO_BYTES - 5))
    for size in (1, 1000, 5000):
        target = stranger()
        assert len(feed_all(target, pieces_of(fits, size))) == 1
        assert target.broken is None
        target = stranger()
        assert feed_all(target, pieces_of(over, size)) == []
        assert isinstance(target.broken, FrameTooLarge)
        assert target.broken.detail == HELLO_BYTES


def test_a_stranger_may_not_send_an_array_of_more_than_16() -> None:
    target = stranger()
    assert target.feed(b"\xdc\x00\x11") == []
    assert isinstance(target.broken, FrameTooLarge)


def test_the_limit_is_raised_when_the_peer_has_introduced_itself() -> None:
    target = stranger()
    assert target.limit == HELLO_BYTES
    assert len(target.feed(HELLO)) == 1
    target.limit = LIMIT
    large = pack_message(2, Verb.PUT, 7, b"key", bytes(VALUE_BYTES))
    assert len(feed_all(target, pieces_of(large, 65536))) == 1
    assert len(target.feed(pack_message(3, Verb.GET_MANY, *[b"k"] * KEYS_PER_FRAME))) == 1
    assert target.broken is None


@pytest.mark.parametrize("cut", range(len(SMALL) + 1))
def test_no_byte_is_lost_when_the_limit_is_raised_in_the_middle_of_a_message(cut: int) -> None:
    target = stranger()
    messages = target.feed(HELLO + SMALL[:cut])
    target.limit = LIMIT
    messages += target.feed(SMALL[cut:] + SMALL)
    assert messages == [(1, 0, 1, "shop", 0, b"", "web-1"), (1, 4, b"key"), (1, 4, b"key")]


@contextmanager
def traced() -> Iterator[Callable[[list[FrameReader]], int]]:
    """Give a function that lets go of readers and tells how many bytes went with them.

    Not what was allocated since: nodes that other tests share read frames in a thread of their own.
    """
    ours = tracemalloc.Filter(True, framing.__file__)

    def held_by(readers: list[FrameReader]) -> int:
        before = tracemalloc.take_snapshot().filter_traces([ours])
        readers.clear()
        after = tracemalloc.take_snapshot().filter_traces([ours])
        return sum(trace.size for trace in before.traces) - sum(trace.size for trace in after.traces)

    tracemalloc.start()
    try:
        yield held_by
    finally:
        tracemalloc.stop()


def test_many_strangers_hold_next_to_nothing_whatever_they_claim() -> None:
    with traced() as held_by:
        strangers = [stranger() for _ in range(10)]
        for target in strangers:
            for _ in range(300):
                target.feed(b"\x9f")
            assert target.broken is None
        del target
        held = held_by(strangers)
    assert 0 < held < 10 * 2 * HELLO_BYTES


def test_a_reader_that_has_carried_a_lot_of_traffic_keeps_little_of_it() -> None:
    with traced() as held_by:
        readers = [reader()]
        for _ in range(200):
            readers[0].feed(SMALL * 1000)
        held = held_by(readers)
    assert held < 64 * 1024


def test_a_reader_shows_its_state() -> None:
    target = reader()
    target.feed(SMALL[:4])
    assert repr(target) == f"<FrameReader limit={LIMIT} pending>=4 broken=None>"
    target = reader()
    target.feed(b"\xc1")
    assert "MalformedFrame" in repr(target)
    target = stranger()
    target.feed(HELLO[:4])
    assert repr(target) == "<FrameReader limit=4096 pending>=4 broken=None>"


# Fuzz

fields = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 63), (1 << 64) - 1),
    st.binary(max_size=40),
    st.text("aé鍵", max_size=9),
)
messages = st.lists(fields, min_size=2, max_size=12).map(tuple)
mutations = st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=4)


def sliced(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in pairwise(edges)]


@settings(max_examples=100)
@given(st.lists(messages, max_size=8), st.lists(st.integers(0, 10_000), max_size=8))
def test_any_messages_survive_packing_and_any_slicing(sent: list[Message], cuts: list[int]) -> None:
    data = b"".join(pack_message(*message) for message in sent)
    for target in (reader(), stranger()):
        assert feed_all(target, sliced(data, cuts)) == sent
        assert target.broken is None


@settings(max_examples=300)
@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=5))
@example(b"\xc7\x00\xff", [])
@example(b"\xdf\x00\x00\x00\x00", [])
def test_garbage_breaks_the_reader_or_is_read_but_never_raises(data: bytes, cuts: list[int]) -> None:
    for make in (reader, stranger):
        target = make()
        feed_all(target, sliced(data, cuts))
        assert target.broken is None or target.broken.closes_connection


@settings(max_examples=120)
@given(st.lists(messages, min_size=1, max_size=4), mutations, st.lists(st.integers(0, 500), max_size=4))
def test_damaged_messages_give_the_same_whole_and_in_pieces(
    sent: list[Message], damage: list[tuple[int, int]], cuts: list[int]
) -> None:
    data = bytearray(b"".join(pack_message(*message) for message in sent))
    for place, byte in damage:
        data[place % len(data)] = byte
    for make in (reader, stranger):
        whole, pieces = make(), make()
        one, other = feed_all(whole, [bytes(data)]), feed_all(pieces, sliced(bytes(data), cuts))
        assert repr(one) == repr(other)  # as text, for NaN is not equal to itself
        assert type(whole.broken) is type(pieces.broken)


@settings(max_examples=100)
@given(st.recursive(fields, lambda inner: st.lists(inner, max_size=4), max_leaves=12))
def test_any_msgpack_value_is_read_as_msgpack_reads_it_or_refused(value: object) -> None:
    target = reader()
    data = msgpack.packb(value)
    assert target.feed(data) == [msgpack.unpackb(data, use_list=False)]
    assert target.broken is None


# Resting


def test_a_reader_at_rest_holds_no_unpacker_and_reads_on() -> None:
    reader = FrameReader(1 << 20)
    assert reader.feed(pack_message(1, 2, b"x")) == [(1, 2, b"x")]
    reader.rest()
    assert reader._unpacker is None
    assert reader.feed(pack_message(2, 2) + pack_message(3, 2)) == [(2, 2), (3, 2)]
    assert reader.broken is None


@given(
    st.lists(st.tuples(st.integers(1, 9), st.binary(max_size=40)), min_size=1, max_size=12),
    st.lists(st.integers(1, 60), min_size=1, max_size=8),
)
def test_resting_between_any_two_reads_loses_nothing(fields: list[tuple[int, bytes]], steps: list[int]) -> None:
    stream = b"".join(pack_message(*message) for message in fields)
    reader, read, taken, number = FrameReader(1 << 20), [], 0, 0
    while taken < len(stream):
        step = steps[number % len(steps)]
        read += reader.feed(stream[taken : taken + step])
        reader.rest()
        taken, number = taken + step, number + 1
    assert read == fields
    assert reader.broken is None


def test_a_reader_with_half_a_frame_never_rests() -> None:
    whole = pack_message(1, 2, b"x" * 100)
    for behind in (b"", whole, whole * 5):
        for cut in range(1, len(whole)):
            reader = FrameReader(1 << 20)
            reader.feed(behind + whole[:cut])
            reader.rest()
            assert reader._unpacker is not None
            assert reader.feed(whole[cut:]) == [(1, 2, b"x" * 100)]


def test_a_pipeline_that_ends_with_a_message_rests() -> None:
    for count in (1, 2, 3, 50):
        reader = FrameReader(1 << 20)
        assert len(reader.feed(pack_message(1, 2, b"x" * 20) * count)) == count
        reader.rest()
        assert reader._unpacker is None


def test_bad_bytes_after_a_rest_break_it_for_good() -> None:
    reader = FrameReader(1 << 20)
    reader.feed(pack_message(1, 2))
    reader.rest()
    reader.feed(b"\xc1")
    assert isinstance(reader.broken, MalformedFrame)
    reader.rest()
    assert reader.feed(pack_message(1, 2)) == []
