from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvcache.store.expiry import NEAR_MS, Wheel
from kvcache.store.sizes import Ledger

START = 7 << 24 | 3 << 16 | 5 << 8 | 9  # inside a bucket of each level
PLENTY = 1 << 30


class Timed:
    """A wheel with the times that it asks for. Time moves in ``at``, and every answer is recounted."""

    def __init__(self, now_ms: int = START) -> None:
        self.ledger = Ledger()
        self.times: dict[bytes, tuple[int, int]] = {}
        self.now_ms = now_ms
        self.wheel = Wheel(now_ms, self.ledger, lambda key, partition: self.times[key][0])

    def set(self, key: bytes, expiry_ms: int, partition: int = 0) -> None:
        self.unset(key)
        self.times[key] = expiry_ms, partition
        self.wheel.add(key, partition, expiry_ms)

    def unset(self, key: bytes) -> None:
        if key in self.times:
            expiry_ms, partition = self.times.pop(key)
            self.wheel.discard(key, partition, expiry_ms)

    def at(self, now_ms: int, limit: int = PLENTY) -> list[bytes]:
        self.now_ms = now_ms
        due = self.wheel.take_due(now_ms, limit)
        for key, partition in due:
            expiry_ms, expected = self.times.pop(key)
            assert expiry_ms <= now_ms
            assert partition == expected
        self.recount()
        return sorted(key for key, _ in due)

    def recount(self) -> None:
        entries = list(self.wheel.entries())
        assert {key: partition for key, partition, _ in entries} == {key: at[1] for key, at in self.times.items()}
        assert len(entries) == len(self.wheel) == len(self.times)
        assert all(in_place for _, _, in_place in entries)
        assert self.ledger.used == self.wheel.cost()


@pytest.fixture
def timed() -> Iterator[Timed]:
    made = Timed()
    yield made
    made.recount()


BORDERS = [
    edge + offset
    for edge in (START, START + 256, START + 512, START + 65_536, START + 131_072, START + (1 << 24), START + (3 << 24))
    for offset in (-1, 0, 1)
] + [
    ((START >> bits) + buckets << bits) + offset
    for bits in (8, 16, 24)
    for buckets in (1, 2, 3)
    for offset in (-1, 0, 1)
]


@pytest.mark.parametrize("expiry_ms", BORDERS)
@pytest.mark.parametrize("steps", [1, 7, 300])
def test_a_key_is_found_due_never_early_and_at_most_a_narrow_bucket_late(
    timed: Timed, expiry_ms: int, steps: int
) -> None:
    timed.set(b"key", expiry_ms)
    for now_ms in range(START, expiry_ms, max(1, (expiry_ms - START) // steps)):
        assert timed.at(now_ms) == []
    assert timed.at(expiry_ms - 1) == []
    assert timed.at(expiry_ms + NEAR_MS) == [b"key"]


def test_every_key_of_a_day_is_found_in_its_time() -> None:
    timed = Timed()
    day = 24 * 3600 * 1000
    for number in range(300):
        timed.set(b"%d" % number, START + number * day // 300, number % 40)
    seen = 0
    for now_ms in range(START, START + day + 120_000, 60_000):
        seen += len(timed.at(now_ms))
        oldest = min((expiry_ms for expiry_ms, _ in timed.times.values()), default=now_ms)
        assert oldest > now_ms - NEAR_MS
    assert seen == 300


def test_a_long_sleep_loses_nothing(timed: Timed) -> None:
    for number in range(300):
        timed.set(b"%03d" % number, START + number * 1_000_000, number)
    assert len(timed.at(START + 400_000_000)) == 300


def test_a_call_does_a_bounded_amount_of_work_and_says_that_more_waits(timed: Timed) -> None:
    for number in range(1_000):
        timed.set(b"%d" % number, START + 10)
    assert [len(timed.at(START + 1_000, limit=300)) for _ in range(3)] == [300, 300, 300]
    assert timed.wheel.wake_ms == 0
    assert len(timed.at(START + 1_000, limit=300)) == 100
    assert timed.wheel.wake_ms > START + 1_000


def test_a_wide_bucket_is_dealt_out_bit_by_bit(timed: Timed) -> None:
    soon = (START >> 16) + 2 << 16
    for number in range(1_000):
        timed.set(b"%d" % number, soon + number, number)
    assert "near=0" in repr(timed.wheel)
    calls = 0
    while timed.at(soon - 60_000, limit=100) == [] and timed.wheel.wake_ms == 0:
        calls += 1
    assert 9 <= calls <= 11
    assert "middle=0" in repr(timed.wheel)
    assert len(timed.at(soon + 2_000)) == 1_000


def test_keys_can_be_taken_out_added_and_renewed_while_a_wide_bucket_is_dealt_out(timed: Timed) -> None:
    for begin in ((START >> 16) + 2 << 16, (START >> 24) + 2 << 24):
        for number in range(100):
            timed.set(b"%d %d" % (begin, number), begin + number * 100, number)
        timed.at(begin - 60_000, limit=30)
        for number in range(0, 100, 3):
            timed.unset(b"%d %d" % (begin, number))
            timed.set(b"%d new %d" % (begin, number), begin + number * 100, number)
        for number in range(1, 100, 3):
            timed.set(b"%d %d" % (begin, number), begin + 20_000_000, number)
        timed.recount()
        assert len(timed.at(begin + 20_000_000 + NEAR_MS)) == 100


def test_endless_new_times_to_live_never_pile_up(timed: Timed) -> None:
    for number in range(20_000):
        timed.set(b"key", START + number * 977 % 100_000_000)
        assert len(timed.wheel) == 1
    assert timed.ledger.used < 1_000


def test_buckets_that_are_empty_take_no_memory(timed: Timed) -> None:
    for number in range(2_000):
        timed.set(b"%d" % number, START + number * 50_000, number)
    assert timed.ledger.used > 100_000
    for number in range(2_000):
        timed.unset(b"%d" % number)
    assert timed.ledger.used == 0


def test_a_key_that_is_not_inside_is_named(timed: Timed) -> None:
    timed.set(b"key", START + 1_000)
    for key, expiry_ms in ((b"other", START + 1_000), (b"key", START + 100_000)):
        with pytest.raises(LookupError, match=rf"{key!r}.*{expiry_ms}"):
            timed.wheel.discard(key, 0, expiry_ms)


def test_a_time_that_is_over_when_the_key_comes_is_due_at_the_next_look(timed: Timed) -> None:
    timed.at(START + 100_000)
    timed.set(b"key", START)
    assert timed.at(START + 100_000) == [b"key"]


def test_nothing_is_due_before_the_wheel_says_to_wake(timed: Timed) -> None:
    timed.at(START)
    assert START < timed.wheel.wake_ms <= START + NEAR_MS
    timed.set(b"key", START)
    assert timed.at(timed.wheel.wake_ms - 1) == []
    assert timed.at(timed.wheel.wake_ms) == [b"key"]


@pytest.mark.parametrize("distance", [0, 200_000, 100_000_000])
def test_the_soonest_come_first_and_stay_inside(timed: Timed, distance: int) -> None:
    for number in range(100):
        timed.set(b"%02d" % number, START + distance + number * 20_000_000, partition=number)
    soonest = timed.wheel.soonest(1)
    assert soonest[0] == (b"00", 0)
    timed.recount()


def test_of_an_empty_wheel_nothing_is_soonest(timed: Timed) -> None:
    assert timed.wheel.soonest(10) == []


offsets = st.sampled_from([0, 1, 255, 256, 65_535, 65_536, 131_072, 200_000, 1 << 24, 2 << 24, 5 << 24])
actions = st.lists(
    st.tuples(st.sampled_from(["set", "unset", "move"]), st.integers(0, 15), offsets, st.sampled_from([1, 3, PLENTY])),
    max_size=60,
)


@settings(max_examples=80, deadline=None)
@given(actions)
def test_whatever_is_done_each_key_stands_in_one_bucket_and_comes_out_in_time(
    actions: list[tuple[str, int, int, int]],
) -> None:
    timed = Timed()
    for action, number, offset, limit in actions:
        key = b"%d" % number
        if action == "move":
            timed.at(timed.now_ms + offset, limit)
        elif action == "set":
            timed.set(key, timed.now_ms + offset, number)
        else:
            timed.unset(key)
        timed.recount()
    while timed.at(timed.now_ms) or timed.wheel.wake_ms == 0:
        pass
    assert all(expiry_ms >> 8 >= timed.now_ms >> 8 for expiry_ms, _ in timed.times.values())
