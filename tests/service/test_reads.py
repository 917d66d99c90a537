"""Compiled reads say, byte for byte, what the handlers of GET and GET_MANY would have said, and count the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvcache.compiled import native
from kvcache.store.config import StoreConfig
from kvcache.store.store import Store
from kvcache.store.table import EMPTY_TABLE
from kvcache_client.core.routing import View
from kvcache_client.placement.partitions import partition_of
from kvcache_client.protocol.errors import InvalidKey, KvCacheError, NotOwner
from kvcache_client.protocol.limits import KEY_BYTES
from kvcache_client.protocol.record import NEVER, TOMBSTONE_MS, make_record, tombstone, version_of
from kvcache_client.protocol.verbs import Status, Verb

pytestmark = pytest.mark.skipif(native is None, reason="not compiled")

NOW, SEED = 1_800_000_000_000, 0xDEAD_BEEF
GET = int(Verb.GET)


class Pair:
    """Two stores of the same content: ``plain`` is read by Python, ``compiled`` by what is compared with it."""

    def __init__(self) -> None:
        self.plain, self.compiled = (Store(StoreConfig(4 << 20), NOW) for _ in range(2))
        numbers = {"get": GET, "ok": int(Status.OK), "miss": int(Status.MISS)}
        self.reads = native.Reads(self.compiled.tables, self.compiled.missed, **numbers)
        self.readable = bytearray(b"\1") * 16384
        self.reads.answer_for(self.readable, SEED)

    def put(self, key: bytes, record: bytes) -> None:
        for store in (self.plain, self.compiled):
            store.put(partition_of(key, SEED), key, record)

    def advance(self, ms: int) -> None:
        for store in (self.plain, self.compiled):
            store.now_ms, store.now6 = NOW + ms, (NOW + ms).to_bytes(6, "big")  # nothing is reclaimed yet

    def expected(self, message: tuple[Any, ...]) -> bytes:
        number, _, key = message
        partition = partition_of(key, SEED)
        before = dict(self.plain.missing)
        record = self.plain.get(partition, key)
        if record is not None:
            return msgpack.packb((number, int(Status.OK), record))
        (reason,) = (reason for reason, count in self.plain.missing.items() if count != before[reason])
        return msgpack.packb((number, int(Status.MISS), int(reason)) if reason else (number, int(Status.MISS)))

    def check(self, messages: list[tuple[Any, ...]]) -> None:
        replies, end, hits = self.reads.answer(messages, 0, self.compiled.now6)
        assert end == len(messages)
        before = self.plain.hits
        assert replies == b"".join(map(self.expected, messages))
        assert hits == self.plain.hits - before
        assert self.compiled.missing == self.plain.missing
        assert self.uses_of(self.compiled) == self.uses_of(self.plain)

    @staticmethod
    def uses_of(store: Store) -> list[tuple[bytes, int]]:
        tables = {*store.tables} - {EMPTY_TABLE}
        return sorted(
            (key, rows.uses_of(key)) for table in tables for rows in (table.small, table.main) for key in rows
        )


@pytest.fixture
def pair() -> Pair:
    return Pair()


keys = st.one_of(st.binary(min_size=1, max_size=40), st.just(b"k" * KEY_BYTES))
numbers = st.one_of(st.integers(0, 300), st.integers(0, 2**64 - 1).map(lambda number: number >> 1))
sizes = st.one_of(st.integers(0, 300), st.sampled_from([255 - 15, 256 - 15, 65_535 - 15, 65_536 - 15, 100_000]))


@given(
    st.lists(st.tuples(keys, sizes, st.sampled_from(["value", "timed", "tombstone"])), max_size=20),
    st.lists(st.tuples(numbers, keys), min_size=1, max_size=30),
    st.sampled_from([0, 5, 10, TOMBSTONE_MS + 20]),
    st.randoms(use_true_random=False),
)
def test_replies_and_counts_are_those_of_python(kept, asked, later, chance):
    pair = Pair()
    for key, size, kind in kept:
        record = make_record(NOW << 20, NOW + 10 if kind == "timed" else NEVER, 1, bytes(size))
        pair.put(key, tombstone(NOW << 20, NOW + TOMBSTONE_MS) if kind == "tombstone" else record)
    pair.advance(later)
    messages = [(number, GET, key) for number, key in asked]
    messages += [(number, GET, chance.choice(kept)[0]) for number, _ in asked if kept]
    pair.check(messages)
    pair.check(messages)  # uses are counted by now


def test_a_run_ends_at_the_first_message_that_is_no_plain_get(pair):
    pair.put(b"k", make_record(1, NEVER, 1, b"v"))
    get = (1, GET, b"k")
    for other in (
        *((2, int(Verb.PUT), 1, b"k", b"r"), (2, int(Verb.HEAD), b"k"), (2, int(Verb.PING))),
        *(
            (2, GET),
            (2, GET, b"k", b"k"),
            (2, GET, b""),
            (2, GET, b"k" * (KEY_BYTES + 1)),
            (2, GET, "k"),
            (2, GET, None),
        ),
        *((-1, GET, b"k"), (2**64, GET, b"k"), ("2", GET, b"k"), (True, GET, b"k"), (2, True, b"k"), (2, 2**70, b"k")),
        *((2, -GET, b"k"), (), (2,), [2, GET, b"k"], None, 7, b"k"),
    ):
        replies, end, hits = pair.reads.answer([get, get, other, get], 0, pair.compiled.now6)
        assert (end, hits, replies) == (2, 2, 2 * pair.expected(get)), other
        assert pair.reads.answer([get, other], 1, pair.compiled.now6) is None, other


def test_a_key_of_another_node_is_left_to_python(pair):
    pair.put(b"k", make_record(1, NEVER, 1, b"v"))
    pair.readable[partition_of(b"k", SEED)] = 0
    assert pair.reads.answer([(1, GET, b"k")], 0, pair.compiled.now6) is None
    assert pair.reads.find_many((b"k",), 0, pair.compiled.now6, 100) == ([None], 0)
    assert pair.compiled.misses == 0


def test_nothing_is_answered_before_it_is_said_for_what():
    store = Store(StoreConfig(4 << 20), NOW)
    reads = native.Reads(store.tables, store.missed, get=GET, ok=0, miss=1)
    assert reads.answer([(1, GET, b"k")], 0, store.now6) is None


def test_many_keys_give_their_records_or_none(pair):
    record = make_record(1, NEVER, 1, bytes(100))
    pair.put(b"a", record), pair.put(b"c", record)
    now6 = pair.compiled.now6
    asked = (7, int(Verb.GET_MANY), b"a", b"b", b"c", "text", b"", None)
    assert pair.reads.find_many(asked, 2, now6, 1000) == ([record, None, record, None, None, None], 2)
    assert pair.reads.find_many(asked, 2, now6, 1)[0][:3] == [record, None, None]  # the room was full with the first
    assert pair.reads.find_many(asked, 2, now6, 0) == ([None] * 6, 0)
    assert pair.reads.find_many(asked, len(asked), now6, 9) == ([], 0)
    assert pair.compiled.misses == 0  # they are Python's to count


def test_what_is_no_call_is_refused_and_changes_nothing(pair):
    now6 = pair.compiled.now6
    get = [(1, GET, b"k")]
    for wrong, error in (
        (lambda: pair.reads.answer(get, 1, now6), IndexError),
        (lambda: pair.reads.answer(get, -1, now6), IndexError),
        (lambda: pair.reads.answer(tuple(get), 0, now6), TypeError),
        (lambda: pair.reads.answer(get, 0), TypeError),
        (lambda: pair.reads.answer(get, 0, b"short"), ValueError),
        (lambda: pair.reads.find_many((b"k",), 2, now6, 1), IndexError),
        (lambda: pair.reads.find_many([b"k"], 0, now6, 1), TypeError),
        (lambda: pair.reads.answer_for(b"readable", SEED), TypeError),
        (lambda: native.Reads((), pair.plain.missed, get=1, ok=0, miss=1), TypeError),
        (lambda: native.Reads([], pair.plain.missed, get=-1, ok=0, miss=1), OverflowError),
    ):
        with pytest.raises(error):
            wrong()
    pair.check(get)


def test_a_failure_to_say_why_is_the_callers(pair):
    def broken(partition: int, key: bytes) -> int:
        raise KvCacheError("broken")

    store = pair.compiled
    reads = native.Reads(store.tables, broken, get=GET, ok=0, miss=1)
    reads.answer_for(pair.readable, SEED)
    with pytest.raises(KvCacheError, match="broken"):
        reads.answer([(1, GET, b"k")], 0, store.now6)
    odd = native.Reads(store.tables, lambda *_: 1000, get=GET, ok=0, miss=1)
    odd.answer_for(pair.readable, SEED)
    with pytest.raises(ValueError, match="1000"):
        odd.answer([(1, GET, b"k")], 0, store.now6)


def test_a_service_reads_by_python_while_what_a_flush_hides_may_still_lie_in_its_store(core, record):
    old, key = record(0), b"k"
    core.put(key, old)
    compiled = core.service.runs.reads
    assert compiled is not None
    view = core.views[0]
    flushed = replace(view.topology, epoch=view.epoch + 9, generations=(("", version_of(old)),))
    assert core.adopt(View(flushed))
    assert core.service.runs.reads is None
    assert core.ask(Verb.GET, key)[0] == Status.MISS
    assert core.ask(Verb.GET_MANY, key)[0] == Status.OK
    while core.service.sweep(1000):
        assert core.service.runs.reads is None
    assert core.service.runs.reads is compiled
    assert compiled.answer([(1, GET, key)], 0, core.store.now6) == (msgpack.packb((1, int(Status.MISS))), 1, 0)


def test_a_service_answers_compiled_reads_of_its_own_partitions_alone(half, record):
    mine, other = half.key(mine=True), half.key(mine=False)
    half.put(mine, record(0))
    reads, now6 = half.service.runs.reads, half.store.now6
    assert reads is not None
    assert reads.answer([(1, GET, mine), (2, GET, other)], 0, now6)[1:] == (1, 1)
    half.service.begin_loading([partition_of(mine, half.service.seed)])
    assert reads.answer([(1, GET, mine)], 0, now6) is None
    half.service.loaded_all()
    assert reads.answer([(1, GET, mine)], 0, now6)[1:] == (1, 1)


@pytest.mark.parametrize("compiled", [True, False])
def test_get_many_says_the_same_of_each_key_with_and_without(half, record, compiled):
    mine, other = half.key(mine=True), half.key(mine=False)
    names = (b"gone-%d" % number for number in range(99))
    gone = next(name for name in names if half.service.readable[partition_of(name, half.service.seed)])
    half.put(mine, record(0))
    if not compiled:
        half.service.runs.reads = None
    asked = (mine, gone, other, b"", "text", mine)
    before = half.store.hits, half.store.misses
    status, *fields = half.ask(Verb.GET_MANY, *asked)
    assert (status, fields) == (
        Status.OK,
        [record(0), None, NotOwner.code, InvalidKey.code, InvalidKey.code, record(0)],
    )
    assert (half.store.hits - before[0], half.store.misses - before[1]) == (2, 1)
