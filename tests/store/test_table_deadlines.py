from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kvcache.store.deadlines import TICK_MS, Deadlines
from kvcache.store.sizes import Ledger
from kvcache_client.protocol.record import NEVER

WIDTHS = [8, 14, 20, 26, 32]  # of the levels' buckets, in bits of a millisecond
START = sum(part << bits for part, bits in zip((9, 5, 3, 7, 11), WIDTHS, strict=True))  # inside a bucket of each level
PLENTY = 1 << 30
MINUTE = 60_000
DAY = 24 * 60 * MINUTE


class Timed:
    """Tables of keys with their times, and the wheel that tells where to look. Every step is recounted."""

    def __init__(self, tables: int = 40, now_ms: int = START) -> None:
        self.ledger = Ledger()
        self.tables: list[dict[bytes, int]] = [{} for _ in range(tables)]
        self.now_ms = now_ms
        self.deadlines = Deadlines(tables, now_ms, self.ledger)
        self.reaped: list[bytes] = []
        self.looks: list[int] = []
        """The width of the bucket for which each look was; 0 for what is due."""
        self.work = self.largest = 0

    @property
    def reaps(self) -> int:
        return self.looks.count(0)

    @property
    def asked(self) -> int:
        return len(self.looks) - self.reaps

    def set(self, ordinal: int, key: bytes, expiry_ms: int) -> None:
        self.tables[ordinal][key] = expiry_ms
        self.deadlines.add(ordinal, expiry_ms)

    def at(self, now_ms: int, work: int = PLENTY) -> list[bytes]:
        """Work off once; return what was reaped."""
        self.now_ms = now_ms
        self.reaped, self.work = [], 0
        self.deadlines.work_off(now_ms, work, self.reap, self.times)
        self.recount()
        return sorted(self.reaped)

    def finish(self, now_ms: int, work: int = PLENTY) -> list[bytes]:
        """Work off until nothing is left to do; return what was reaped."""
        found = self.at(now_ms, work)
        for _ in range(10_000):
            if self.deadlines.wake_ms:
                break
            found += self.at(now_ms, work)
        assert self.deadlines.wake_ms > now_ms
        assert self.late() == []
        return sorted(found)

    def reap(self, ordinal: int, most: int) -> tuple[int, bool]:
        table = self.tables[ordinal]
        keys = [key for key, expiry_ms in table.items() if expiry_ms <= self.now_ms][:most]
        for key in keys:
            del table[key]
        self.reaped += keys
        self.looks.append(0)
        self.count(max(1, len(keys)))
        return len(keys), len(keys) == most

    def times(self, ordinal: int, first_ms: int, end_ms: int) -> tuple[int, list[int]]:
        found = {expiry_ms for expiry_ms in self.tables[ordinal].values() if first_ms <= expiry_ms < end_ms}
        self.looks.append(end_ms - first_ms)
        self.count(1 + len(found) // 8)
        return 1, list(found)

    def count(self, work: int) -> None:
        self.work += work
        self.largest = max(self.largest, work)

    def late(self) -> list[int]:
        times = [expiry_ms for table in self.tables for expiry_ms in table.values()]
        return [expiry_ms for expiry_ms in times if expiry_ms // TICK_MS < self.now_ms // TICK_MS]

    def recount(self) -> None:
        for ordinal, table in enumerate(self.tables):
            assert all(self.deadlines.covers(ordinal, expiry_ms) for expiry_ms in table.values())
        assert self.ledger.used == self.deadlines.cost()

    def buckets(self) -> list[int]:
        found = re.search(r"buckets=\[(.*?)\]", repr(self.deadlines))
        assert found is not None
        return [int(count) for count in found[1].split(",")]


@pytest.fixture
def timed() -> Iterator[Timed]:
    made = Timed()
    yield made
    made.recount()


BORDERS = [START + offset for offset in (1, 255, 256, 257)] + [
    ((START >> bits) + buckets << bits) + offset
    for bits in WIDTHS
    for buckets in (1, 2, 3)
    for offset in (-1, 0, 1)
]  # fmt: skip


@pytest.mark.parametrize("expiry_ms", BORDERS)
@pytest.mark.parametrize("steps", [1, 7, 300])
def test_a_record_is_found_due_at_most_a_narrow_bucket_late(timed: Timed, expiry_ms: int, steps: int) -> None:
    timed.set(3, b"key", expiry_ms)
    for now_ms in range(START, expiry_ms, max(1, (expiry_ms - START) // steps)):
        assert timed.finish(now_ms) == []
    assert timed.finish(expiry_ms - 1) == []
    assert timed.finish(expiry_ms + TICK_MS) == [b"key"]
    assert len(timed.deadlines) == 0


@pytest.mark.parametrize(("span", "step"), [(DAY, MINUTE), (300 * DAY, DAY // 4)])
def test_every_record_of_a_long_time_is_found_in_its_time(span: int, step: int) -> None:
    timed = Timed()
    for number in range(300):
        timed.set(number % 40, b"%d" % number, START + 1 + number * span // 300)
    seen = sum(len(timed.finish(now_ms)) for now_ms in range(START, START + span + step, step))
    assert seen == 300


def test_only_the_table_with_something_due_is_looked_at(timed: Timed) -> None:
    for ordinal in range(40):
        timed.set(ordinal, b"%d" % ordinal, START + 1_000 * (ordinal + 1))
    assert timed.finish(START + 1_000 + TICK_MS) == [b"0"]
    assert timed.reaps == 1


@pytest.mark.parametrize("leap", [MINUTE, DAY, 100 * DAY, 3000 * DAY])
def test_a_leap_of_the_clock_loses_nothing_and_looks_at_each_table_but_a_few_times(leap: int) -> None:
    timed = Timed()
    for number in range(4_000):  # every table in thousands of buckets
        timed.set(number % 40, b"%d" % number, START + 1 + number * 2 * leap // 4_000)
    found = timed.finish(START + leap, work=50)
    assert 1_990 < len(found) <= 2_001
    assert timed.reaps <= 4 * 40 + 2_001 // 50
    assert timed.asked <= 40 * len(WIDTHS) * 2
    assert len(timed.finish(START + 2 * leap + TICK_MS)) == 4_000 - len(found)


def test_a_call_does_a_bounded_amount_of_work_and_says_that_more_waits(timed: Timed) -> None:
    for number in range(1_000):
        timed.set(number % 2, b"%d" % number, START + 10)
    assert [len(timed.at(START + 1_000, work=300)) for _ in range(3)] == [300, 300, 300]
    assert timed.deadlines.wake_ms == 0
    assert len(timed.at(START + 1_000, work=300)) == 100
    assert timed.deadlines.wake_ms > START + 1_000


def test_without_work_nothing_is_looked_at_and_nothing_is_lost(timed: Timed) -> None:
    timed.set(1, b"key", START + 10)
    timed.set(1, b"later", START + 10 * MINUTE)
    for now_ms in (START + 1_000, START + 9 * MINUTE):
        assert timed.at(now_ms, work=0) == []
        assert timed.deadlines.wake_ms == 0
    assert timed.reaps == timed.asked == 0
    assert timed.finish(START + 9 * MINUTE) == [b"key"]


def test_a_wide_bucket_is_dealt_out_bit_by_bit_and_each_of_its_tables_is_asked_once() -> None:
    timed = Timed(tables=1_000)
    soon = (START >> 20) + 2 << 20
    for ordinal in range(1_000):
        for number in range(16):
            timed.set(ordinal, b"%d" % number, soon + number * 16_384)
    assert timed.buckets() == [0, 0, 1, 0, 0]
    calls = 1
    while timed.at(soon - 600_000, work=100) == [] and timed.deadlines.wake_ms == 0:
        calls += 1
        assert timed.work <= 100 + 3
    assert 29 <= calls <= 31
    assert timed.asked == 1_000
    assert timed.buckets() == [0, 16, 0, 0, 0]


def test_what_is_more_urgent_comes_first(timed: Timed) -> None:
    soon = (START >> 20) + 2 << 20
    timed.at(soon - 200_000 - (1 << 20))
    for ordinal in range(40):
        timed.set(ordinal, b"far", soon + 500_000)
        timed.set(ordinal, b"near", soon - 10_000)
        timed.set(ordinal, b"due", soon - 100_000)
    timed.finish(soon - 20_000, work=10)
    assert timed.looks == sorted(timed.looks)
    assert set(timed.looks) == {0, 1 << 14, 1 << 20}


def test_a_bucket_that_is_not_dealt_out_in_time_is_due_as_it_is(timed: Timed) -> None:
    expiry_ms = ((START >> 20) + 2 << 20) + 5
    timed.set(7, b"key", expiry_ms)
    timed.set(7, b"other", expiry_ms + DAY)
    assert timed.at(expiry_ms + (1 << 20), work=1) == [b"key"]
    assert timed.asked == 0


def test_a_record_of_a_bucket_that_is_dealt_out_late_is_found_at_once(timed: Timed) -> None:
    begin = (START >> 20) + 2 << 20
    timed.set(7, b"past", begin + 5)
    timed.set(7, b"to come", begin + 600_000)
    assert timed.finish(begin + 300_000) == [b"past"]
    assert timed.finish(begin + 600_000 + TICK_MS) == [b"to come"]


def test_records_can_come_go_and_be_renewed_while_a_bucket_is_dealt_out(timed: Timed) -> None:
    for bits in WIDTHS[1:]:
        begin = (timed.now_ms >> bits) + 3 << bits
        for number in range(100):
            timed.set(number % 40, b"%d" % number, begin + number * 50)
        timed.at(begin - (1 << bits) + 100, work=15)
        assert timed.deadlines.wake_ms == 0
        for number in range(0, 100, 3):
            del timed.tables[number % 40][b"%d" % number]
            timed.set((number + 1) % 40, b"new %d" % number, begin + number * 50)
        for number in range(1, 100, 3):
            timed.set(number % 40, b"%d" % number, begin + 2 * DAY)
        timed.recount()
        assert len(timed.finish(begin + 100 * 50 + TICK_MS)) == 67
        assert len(timed.finish(begin + 2 * DAY + TICK_MS)) == 33


def test_a_look_that_finds_nothing_does_no_harm(timed: Timed) -> None:
    timed.set(1, b"key", START + 10)
    timed.set(2, b"key", START + 10 * MINUTE)
    timed.tables[1].clear()
    timed.tables[2].clear()
    assert timed.finish(START + 11 * MINUTE) == []
    assert len(timed.deadlines) == 0


def test_a_table_that_went_and_came_again_is_looked_at_for_its_new_records(timed: Timed) -> None:
    timed.set(1, b"old", START + 10)
    timed.tables[1].clear()
    timed.set(1, b"new", START + 10 * MINUTE)
    assert timed.finish(START + 10 * MINUTE - 1) == []
    assert timed.finish(START + 10 * MINUTE + TICK_MS) == [b"new"]


@pytest.mark.parametrize(("lifetime", "most"), [(10_000, 41), (MINUTE, 5), (60 * MINUTE, 6), (3 * DAY, 6)])
def test_endless_new_times_to_live_never_pile_up(lifetime: int, most: int) -> None:
    timed = Timed()
    for now_ms in range(START, START + 2_000_000, 500):
        timed.set(3, b"key", now_ms + lifetime)
        assert timed.finish(now_ms) == []
        assert len(timed.deadlines) <= most
    assert timed.tables[3] == {b"key": now_ms + lifetime}


def test_a_record_takes_nothing_beyond_the_bucket(timed: Timed) -> None:
    timed.set(1, b"key", START + MINUTE)
    before = timed.ledger.used
    for number in range(1_000):
        timed.set(number % 40, b"%d" % number, START + MINUTE)
    assert timed.ledger.used == before


def test_times_far_and_wide_take_a_bounded_number_of_buckets() -> None:
    timed = Timed()
    for number in range(20_000):
        timed.set(number % 40, b"%d" % number, START + int(1.0013**number))
    assert len(timed.deadlines) <= 4 * 128 + 1
    timed.recount()


def test_what_is_cleared_takes_no_more_than_at_the_start(timed: Timed) -> None:
    before = timed.ledger.used
    for number in range(1_000):
        timed.set(number % 40, b"%d" % number, START + number * number * 1_000)
    timed.at(START + 100_000_000, work=10)
    for table in timed.tables:
        table.clear()
    timed.deadlines.clear()
    assert (timed.ledger.used, len(timed.deadlines)) == (before, 0)
    assert timed.finish(START + 100_000_001) == []
    assert timed.reaps <= 10


def test_it_can_be_cleared_while_the_last_record_is_reaped(timed: Timed) -> None:
    timed.set(1, b"key", START + 10)
    timed.deadlines.add(2, START + DAY)

    def reap(ordinal: int, most: int) -> tuple[int, bool]:
        timed.tables[ordinal].clear()
        timed.deadlines.clear()
        return 1, False

    timed.deadlines.work_off(START + 1_000, PLENTY, reap, timed.times)
    assert len(timed.deadlines) == 0
    assert timed.deadlines.wake_ms > START + 1_000


@pytest.mark.parametrize(("lifetime", "after"), [(10, 1_000), (10 * MINUTE, 10 * MINUTE - 5_000)])
def test_a_look_that_fails_is_made_again(timed: Timed, lifetime: int, after: int) -> None:
    def fails(*_: int) -> tuple[int, bool]:
        raise RuntimeError("no look")

    def fails_too(*_: int) -> tuple[int, list[int]]:
        raise RuntimeError("no look")

    timed.set(1, b"key", START + lifetime)
    with pytest.raises(RuntimeError, match="no look"):
        timed.deadlines.work_off(START + after, PLENTY, fails, fails_too)
    timed.recount()
    assert timed.finish(START + lifetime + 1_000) == [b"key"]


def test_nothing_is_due_before_the_wheel_says_to_wake_and_an_idle_one_is_woken_once_a_tick(timed: Timed) -> None:
    timed.set(1, b"later", START + 20 * DAY)
    timed.at(START)
    assert START < timed.deadlines.wake_ms <= START + TICK_MS
    timed.set(1, b"key", START + 1)
    assert timed.at(timed.deadlines.wake_ms - 1) == []
    assert timed.at(timed.deadlines.wake_ms) == [b"key"]
    assert timed.deadlines.wake_ms == timed.now_ms + TICK_MS
    assert timed.reaps == 1


@pytest.mark.parametrize("expiry_ms", [NEVER - 1, NEVER - 2, NEVER - (1 << 32)])
def test_a_time_just_before_never_waits_with_the_last(timed: Timed, expiry_ms: int) -> None:
    timed.set(1, b"key", expiry_ms)
    for days in range(0, 500, 30):
        assert timed.finish(START + days * DAY) == []
    assert sum(timed.buckets()) == timed.buckets()[-1] == 1


@pytest.mark.parametrize("tables", [1, 7, 8, 9, 16384, 65536])
def test_the_first_and_the_last_table_have_a_bit_of_their_own(tables: int) -> None:
    timed = Timed(tables)
    for ordinal in {0, tables - 1}:
        timed.set(ordinal, b"%d" % ordinal, START + MINUTE)
    assert len(timed.finish(START + 2 * MINUTE)) == len({0, tables - 1})


def test_an_ordinal_too_high_is_refused(timed: Timed) -> None:
    with pytest.raises(IndexError):
        timed.deadlines.add(40, START + 1)


def test_the_wheel_shows_its_state(timed: Timed) -> None:
    timed.set(1, b"key", START + 10)
    timed.set(2, b"key", START + 10)
    timed.set(3, b"key", START + 30 * DAY)
    assert repr(timed.deadlines) == "<Deadlines buckets=[1, 0, 0, 1, 0] due=0 wake=0 ms>"
    timed.at(START + 1_000, work=2)
    assert repr(timed.deadlines) == "<Deadlines buckets=[0, 0, 0, 1, 0] due=1 wake=0 ms>"


leaps = st.integers(1, 100 * DAY) | st.sampled_from(
    [(1 << bits) * buckets + offset for bits in WIDTHS for buckets in (1, 2, 63, 64) for offset in (-1, 0, 1)]
) | st.integers(1, 2_000)  # fmt: skip


class DeadlinesMachine(RuleBasedStateMachine):
    """Tables and their records are the plain model; ``Timed`` compares after every step."""

    @initialize(phase=st.integers(0, 1 << 33))
    def start(self, phase: int) -> None:
        self.timed = Timed(tables=12, now_ms=START + phase)

    @rule(ordinal=st.integers(0, 11), key=st.sampled_from([b"a", b"b", b"c"]), lifetime=leaps)
    def set(self, ordinal: int, key: bytes, lifetime: int) -> None:
        """Add a record or give it another time."""
        self.timed.set(ordinal, key, self.timed.now_ms + lifetime)

    @rule(
        ordinal=st.integers(0, 11),
        bits=st.sampled_from(WIDTHS),
        ahead=st.sampled_from([1, 2, 3, 63, 64, 65]),
        offset=st.integers(-1, 1),
    )
    def set_at_a_border(self, ordinal: int, bits: int, ahead: int, offset: int) -> None:
        self.timed.set(ordinal, b"border", ((self.timed.now_ms >> bits) + ahead << bits) + offset)

    @rule(first=st.integers(0, 11), lifetime=leaps, apart=st.integers(0, 70_000), count=st.integers(1, 40))
    def set_many(self, first: int, lifetime: int, apart: int, count: int) -> None:
        for number in range(count):
            self.timed.set((first + number) % 12, b"%d" % number, self.timed.now_ms + lifetime + number * apart)

    @precondition(lambda self: any(self.timed.tables))
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        table = data.draw(st.sampled_from([table for table in self.timed.tables if table]))
        del table[data.draw(st.sampled_from(sorted(table)))]

    @rule(ordinal=st.integers(0, 11))
    def drop_a_table(self, ordinal: int) -> None:
        self.timed.tables[ordinal].clear()

    @rule(leap=st.just(0) | leaps, work=st.sampled_from([0, 1, 3, 30, PLENTY]))
    def advance(self, leap: int, work: int) -> None:
        before = len(self.timed.looks)
        self.timed.largest = 0
        self.timed.at(self.timed.now_ms + leap, work)
        assert self.timed.work < work + max(1, self.timed.largest)
        assert len(self.timed.looks) - before <= work
        if self.timed.deadlines.wake_ms:
            assert self.timed.late() == []

    @precondition(lambda self: any(self.timed.tables))
    @rule(data=st.data(), early=st.integers(-TICK_MS, 1))
    def advance_to_a_time(self, data: st.DataObject, early: int) -> None:
        times = sorted({expiry_ms for table in self.timed.tables for expiry_ms in table.values()})
        self.advance(max(0, data.draw(st.sampled_from(times)) - early - self.timed.now_ms), PLENTY)

    @rule(work=st.sampled_from([1, 10, PLENTY]))
    def finish(self, work: int) -> None:
        """What is due is found, in a bounded number of looks, and then nothing is left to do."""
        before = len(self.timed.looks)
        records = sum(map(len, self.timed.tables))
        self.timed.finish(self.timed.now_ms, work)
        assert len(self.timed.looks) - before <= 12 * 3 * len(WIDTHS) + 2 * records

    @invariant()
    def every_record_is_covered_and_every_bucket_is_paid_for(self) -> None:
        self.timed.recount()
        assert len(self.timed.deadlines) <= 4 * 192 + 4


DeadlinesMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestDeadlinesAgainstAModel = DeadlinesMachine.TestCase
