"""The memory that all compiled rows of a store share: whatever is moved in it, rows find what they kept, and little is wasted."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvcache.compiled import native

pytestmark = pytest.mark.skipif(native is None, reason="not compiled")

SEGMENT = 32 * 1024


class Shelf:
    """Some rows of one arena, each beside a dict of the same content."""

    def __init__(self, rows: int, seed: int) -> None:
        self.arena = native.Arena()
        self.rows = [(native.Rows(self.arena), {}) for _ in range(rows)]
        self.chance = random.Random(seed)

    def put(self, size: int) -> None:
        rows, model = self.chance.choice(self.rows)
        key = b"%d" % self.chance.randrange(400)
        rows[key] = model[key] = self.chance.randbytes(size)

    def pop(self) -> None:
        rows, model = self.chance.choice(self.rows)
        if model:
            key = next(iter(model))
            assert rows.pop_oldest()[:2] == (key, model.pop(key))

    def remove(self) -> None:
        rows, model = self.chance.choice(self.rows)
        if model:
            key = self.chance.choice(list(model))
            assert rows.pop(key) == model.pop(key)

    def check(self) -> None:
        for rows, model in self.rows:
            assert rows.items() == list(model.items())

    def live(self) -> int:
        inside = [(key, record) for _, model in self.rows for key, record in model.items() if len(record) < 2_000]
        return sum(native.Rows.cost_of(key, record) for key, record in inside)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 20),
    st.lists(
        st.tuples(st.sampled_from(["put", "pop", "remove"]), st.integers(0, 3000), st.integers(1, 300)), max_size=40
    ),
    st.integers(0, 2**32),
)
def test_rows_find_what_they_kept_however_sizes_change(rows, steps, seed):
    shelf = Shelf(rows, seed)
    for step, size, times in steps:
        for _ in range(times):
            shelf.put(size) if step == "put" else getattr(shelf, step)()
    shelf.check()


@pytest.mark.parametrize(("first", "then"), [(100, 1_000), (1_000, 100), (40, 1_900), (1_500, 1_501)])
def test_little_is_wasted_when_all_records_are_replaced_by_others_of_another_size(first, then):
    shelf = Shelf(50, 1)
    for size in (first, then):
        for rows, model in shelf.rows:
            for number in range(400):
                rows[b"%d" % number] = model[b"%d" % number] = bytes(size)
    shelf.check()
    assert shelf.arena.waste <= shelf.live() / 8 + 3 * SEGMENT


def test_little_is_wasted_while_old_records_leave_as_new_ones_come():
    arena = native.Arena()
    table = [native.Rows(arena) for _ in range(100)]
    most = 0
    for number in range(60_000):
        rows = table[number * 7919 % 100]
        rows[b"%d" % number] = bytes(100)
        if number >= 20_000:
            table[(number - 20_000) * 7919 % 100].pop_oldest()
            most = max(most, arena.waste)
    assert sum(map(len, table)) == 20_000
    assert most <= 20_000 * 130 / 16 + 3 * SEGMENT


def test_a_use_that_was_counted_moves_with_its_record():
    arena = native.Arena()
    keep, churn = native.Rows(arena), native.Rows(arena)
    for number in range(200):
        keep[b"%d" % number] = b"%d" % number
        for other in range(20):
            churn[b"%d" % other] = bytes(500 + number)
    keep.read(b"7")
    for number in range(5_000):
        churn[b"x"] = bytes(1_000 + number % 7)
    assert keep.items() == [(b"%d" % number, b"%d" % number) for number in range(200)]
    assert [keep.uses_of(b"%d" % number) for number in range(6, 9)] == [0, 1, 0]


def test_an_arena_that_holds_nothing_takes_one_segment_at_most():
    shelf = Shelf(10, 3)
    for _ in range(20_000):
        shelf.put(shelf.chance.randrange(3_000))
    for rows, model in shelf.rows:
        rows.clear()
        model.clear()
    assert shelf.arena.waste <= SEGMENT
    del rows, shelf.rows[:]
    assert "live=0 " in repr(shelf.arena)


def test_rows_keep_their_arena_and_numbers_of_rows_that_went_are_used_again():
    rows = native.Rows(native.Arena())
    rows[b"k"] = b"v"
    assert rows[b"k"] == b"v"
    arena = native.Arena()
    kept = native.Rows(arena)
    kept[b"k"] = b"kept"
    for turn in range(300):
        some = [native.Rows(arena) for _ in range(5)]
        for number, row in enumerate(some):
            row[b"k"] = b"%d" % (turn * 5 + number)
        assert [row[b"k"] for row in some] == [b"%d" % (turn * 5 + number) for number in range(5)]
    assert kept[b"k"] == b"kept"


def test_rows_are_made_with_an_arena():
    for wrong in ((), (None,), (native.Rows(native.Arena()),), (native.Arena(), native.Arena())):
        with pytest.raises(TypeError):
            native.Rows(*wrong)
    with pytest.raises(TypeError):
        native.Arena(1)
