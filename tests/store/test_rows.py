"""Rows: both forms do the same, by a dict of their own; and what they take."""

from __future__ import annotations

import gc
from collections import Counter
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kvcache.compiled import native
from kvcache.store.rows import Rows, cost_of, new_rows, new_shared
from kvcache.store.sizes import Ledger
from kvcache.store.uses import MAX_USES, UseCounts
from kvcache_client.protocol.record import NEVER, expiry_of, make_record


def plain_rows() -> Rows:
    return Rows(UseCounts(Ledger()))


def compiled_rows() -> Rows:
    rows: Rows = native.Rows(native.Arena())
    return rows


FORMS = [
    plain_rows,
    pytest.param(native and compiled_rows, marks=pytest.mark.skipif(native is None, reason="not compiled")),
]
NOW = 1_800_000_000_000


def six(ms: int) -> bytes:
    return ms.to_bytes(6, "big")


def timed(expiry_ms: int, payload: bytes = b"") -> bytes:
    return make_record(1, expiry_ms, 1, payload)


@pytest.fixture(params=FORMS, ids=["plain", "compiled"])
def rows(request) -> Rows:
    made: Rows = request.param()
    return made


class RowsMachine(RuleBasedStateMachine):
    """Anything done to rows and to a dict alike leaves both alike, in the same order."""

    form: Any = staticmethod(plain_rows)
    exact = False  # plain rows may forget a use where two keys share a counter

    def __init__(self) -> None:
        super().__init__()
        self.rows = self.form()
        self.model: dict[bytes, bytes] = {}
        self.uses: Counter[bytes] = Counter()

    # Few keys, so that they meet; and some of equal lengths and beginnings.
    keys = st.one_of(st.sampled_from([b"%03d" % number for number in range(60)]), st.binary(min_size=1, max_size=3))
    records = st.builds(
        timed, st.one_of(st.integers(NOW - 9, NOW + 9), st.just(NEVER)), st.binary(max_size=40) | st.just(bytes(5000))
    )

    @rule(key=keys, record=records)
    def put(self, key: bytes, record: bytes) -> None:
        self.rows[key] = self.model[key] = record

    @rule(key=keys, record=records, uses=st.integers(0, MAX_USES))
    def append(self, key: bytes, record: bytes, uses: int) -> None:
        if key in self.model:
            with pytest.raises(KeyError):
                self.rows.append(key, record, uses)
        else:
            self.rows.append(key, record, uses)
            self.model[key], self.uses[key] = record, uses

    @rule(key=keys)
    def read(self, key: bytes) -> None:
        assert self.rows.read(key) == self.model.get(key)
        if key in self.model:
            self.uses[key] = min(self.uses[key] + 1, MAX_USES)

    @rule(first=st.integers(0, 40), count=st.integers(1, 40), record=records)
    def put_many(self, first: int, count: int, record: bytes) -> None:
        for number in range(first, first + count):
            self.put(b"%03d" % number, record)

    @rule(key=keys)
    def look(self, key: bytes) -> None:
        assert self.rows.get(key) == self.model.get(key)
        assert (key in self.rows) == (key in self.model)
        if key in self.model:
            assert self.rows[key] == self.model[key]

    @rule(key=keys)
    def pop(self, key: bytes) -> None:
        if key in self.model:
            assert self.rows.pop(key) == self.model.pop(key)
            del self.uses[key]
        else:
            for take in (self.rows.pop, self.rows.__getitem__, self.rows.__delitem__):
                with pytest.raises(KeyError):
                    take(key)

    @rule(key=keys)
    def delete(self, key: bytes) -> None:
        if self.model.pop(key, None) is not None:
            self.rows.pop(key)
            del self.uses[key]

    @precondition(lambda self: self.model)
    @rule(count=st.integers(1, 30))
    def pop_oldest(self, count: int) -> None:
        for key in list(self.model)[:count]:
            oldest, record, uses = self.rows.pop_oldest()
            assert (oldest, record) == (key, self.model.pop(key))
            assert uses == self.uses.pop(key, 0) or (uses < MAX_USES and not self.exact)

    @rule()
    def clear(self) -> None:
        while self.model:
            self.pop_oldest(len(self.model))
        self.rows.clear()

    @rule()
    def give_back_room(self) -> None:
        before = self.rows.__sizeof__()
        self.rows.tighten()
        self.rows.compact()
        assert self.rows.__sizeof__() <= before

    @rule(ms=st.integers(NOW - 10, NOW + 10), most=st.integers(0, 20))
    def due(self, ms: int, most: int) -> None:
        due = [key for key, record in self.model.items() if expiry_of(record) <= ms]
        assert self.rows.due(six(ms), most) == due[:most]

    @rule(first=st.integers(NOW - 10, NOW + 10), width=st.integers(0, 10))
    def times(self, first: int, width: int) -> None:
        times = {expiry_of(record) for record in self.model.values()}
        assert self.rows.times(first, first + width) == {time for time in times if first <= time < first + width}

    @invariant()
    def same(self) -> None:
        assert len(self.rows) == len(self.model)
        assert bool(self.rows) == bool(self.model)
        assert list(self.rows) == list(self.model)
        assert list(self.rows.items()) == list(self.model.items())
        assert list(self.rows.values()) == list(self.model.values())


class CompiledRowsMachine(RowsMachine):
    form = staticmethod(compiled_rows)
    exact = True


RowsMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestPlainRows = RowsMachine.TestCase
if native is not None:
    CompiledRowsMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
    TestCompiledRows = CompiledRowsMachine.TestCase


def test_thousands_are_found_each_by_its_own_key(rows):
    keys = [b"key-%d" % number for number in range(5000)]
    for number, key in enumerate(keys):
        rows[key] = b"%d" % number
    assert all(rows[key] == b"%d" % number for number, key in enumerate(keys))
    assert rows.get(b"key-5000") is None
    for key in keys[::2]:
        del rows[key]
    assert list(rows) == keys[1::2]


@pytest.mark.parametrize("size", [1, 1024, 65_534])
def test_keys_of_any_length_are_told_apart(rows, size):
    rows[b"k" * size], rows[b"k" * (size - 1) + b"l"] = b"1", b"2"
    assert (rows.get(b"k" * size), rows.get(b"k" * (size - 1) + b"l"), rows.get(b"k" * (size + 1))) == (
        b"1",
        b"2",
        None,
    )


def test_a_queue_whose_first_leaves_as_the_last_arrives_does_not_grow(rows):
    for number in range(300):
        rows[b"%d" % number] = b""
    rows.tighten()
    before = rows.__sizeof__()
    for number in range(300, 3000):
        rows[b"%d" % number] = b""
        rows.pop_oldest()
        rows.tighten()
    assert rows.__sizeof__() <= 1.5 * before
    assert list(rows) == [b"%d" % number for number in range(2700, 3000)]


def test_rows_that_lost_most_give_their_room_back(rows):
    empty = rows.__sizeof__()
    for number in range(1000):
        rows[b"%d" % number] = b""
    full = rows.__sizeof__()
    for _ in range(990):
        rows.pop_oldest()
    rows.compact()
    assert rows.__sizeof__() < empty + (full - empty) / 10
    rows.clear()
    assert rows.__sizeof__() == empty


def test_nothing_that_is_there_no_more_can_be_taken(rows):
    with pytest.raises(KeyError):
        rows.pop_oldest()
    rows[b"k"] = b"v"
    assert rows.pop_oldest() == (b"k", b"v", 0)
    assert (len(rows), list(rows), rows.due(six(NEVER), 9), rows.times(0, NEVER + 1)) == (0, [], [], set())


@pytest.mark.skipif(native is None, reason="not compiled")
@pytest.mark.parametrize("wrong", [None, 7, "text", bytearray(b"k")])
def test_compiled_rows_take_bytes_alone(wrong):
    rows = native.Rows(native.Arena())
    for attempt in (
        lambda: rows.get(wrong),
        lambda: rows.read(wrong),
        lambda: rows.uses_of(wrong),
        lambda: rows.append(wrong, b"v", 0),
        lambda: rows.append(b"k", wrong, 0),
        lambda: rows[wrong],
        lambda: wrong in rows,
        lambda: rows.pop(wrong),
        lambda: rows.__setitem__(wrong, b"v"),
        lambda: rows.__setitem__(b"k", wrong),
        lambda: rows.__delitem__(wrong),
        lambda: rows.cost_of(wrong, b"v"),
    ):
        with pytest.raises(TypeError):
            attempt()
    assert len(rows) == 0


@pytest.mark.skipif(native is None, reason="not compiled")
def test_compiled_rows_refuse_what_they_cannot_hold_or_understand():
    rows = native.Rows(native.Arena())
    with pytest.raises(OverflowError, match="65535"):
        rows[b"k" * 65_535] = b"v"
    with pytest.raises(ValueError, match="6 bytes, not 5"):
        rows.due(b"short", 1)
    with pytest.raises(TypeError):
        native.Rows({b"k": b"v"})
    assert repr(rows) == "<Rows 0 records>"


@pytest.mark.skipif(native is None, reason="not compiled")
def test_a_compiled_record_takes_less_than_sixty_bytes_beyond_itself():
    rows, count = native.Rows(native.Arena()), 1000
    key, record = b"key-of-16-bytes%d", timed(NEVER, bytes(100))
    for number in range(count):
        rows[key % number] = record
    beside = sum(native.Rows.cost_of(key, record) - len(key) - 100 for key, record in rows.items()) + rows.__sizeof__()
    assert beside / count < 60


def test_rows_are_nothing_to_the_collector(rows):
    rows[b"k"] = b"v"
    assert not gc.is_tracked(rows) or isinstance(rows, Rows)


@pytest.mark.skipif(native is None, reason="not compiled")
@pytest.mark.parametrize("change", ["grow", "clear", "pop"])
@pytest.mark.parametrize("ask", ["items", "values", "pop_oldest"])
def test_a_finaliser_may_change_rows_that_are_being_read(ask, change):
    # Before Python 3.12 the collector runs in the middle of it, whenever a tuple is made.
    rows, kept = native.Rows(native.Arena()), {b"%d" % number: b"%d" % number * 9 for number in range(1500)}
    for key, record in kept.items():
        rows[key] = record
    threshold = gc.get_threshold()
    try:
        gc.set_threshold(100)
        cycle = Finalised(lambda: _changed(rows, change))
        cycle.itself = cycle
        del cycle
        told = getattr(rows, ask)()
    finally:
        gc.set_threshold(*threshold)
    pairs = {"items": lambda: told, "values": lambda: [(each[: len(each) // 9], each) for each in told]}
    assert all(kept.get(key, b"new") == record for key, record in pairs.get(ask, lambda: [told[:2]])())


class Finalised:
    """Part of a cycle; ``last`` is called when it is collected."""

    def __init__(self, last: Any) -> None:
        self.last = last

    def __del__(self) -> None:
        self.last()


def _changed(rows: Any, change: str) -> None:
    if change == "grow":
        for number in range(9000):
            rows[b"new %d" % number] = b"new"
    elif change == "clear":
        rows.clear()
    else:
        for _ in range(len(rows)):
            rows.pop_oldest()


def test_uses_are_counted_up_to_three_and_stay_with_a_record_that_is_replaced(rows):
    rows[b"k"], rows[b"other"] = b"v", b"w"
    for _ in range(2):
        rows.read(b"k")
    rows[b"k"] = b"longer"
    rows.get(b"other")
    assert [rows.uses_of(key) for key in (b"k", b"other", b"nobody")] == [2, 0, 0]
    assert rows.pop_oldest() == (b"k", b"longer", 2)
    rows.append(b"k", b"v", 2)
    for _ in range(5):
        rows.read(b"k")
    assert [rows.pop_oldest(), rows.pop_oldest()] == [(b"other", b"w", 0), (b"k", b"v", MAX_USES)]


@pytest.mark.skipif(native is None, reason="not compiled")
@pytest.mark.parametrize("uses", [-1, MAX_USES + 1])
def test_more_uses_than_there_are_are_refused(uses):
    rows = native.Rows(native.Arena())
    with pytest.raises(ValueError, match="0 to 3"):
        rows.append(b"k", b"v", uses)
    assert len(rows) == 0


def test_a_store_uses_the_compiled_form_where_there_is_one():
    rows = new_rows(new_shared(Ledger()))
    assert isinstance(rows, Rows if native is None else native.Rows)
    assert cost_of(b"key", timed(NEVER)) == rows.cost_of(b"key", timed(NEVER))
