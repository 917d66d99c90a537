from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvcache_client.protocol.version import (
    MAX_CLOCK_OFFSET_MS,
    MAX_VERSION,
    WRITERS,
    HybridClock,
    version_at,
    version_ms,
)

NOW = 1_700_000_000_000
LATEST_MS = (1 << 43) - 1


class Time:
    """A physical clock that a test sets."""

    def __init__(self, ms: int = NOW) -> None:
        self.ms = ms

    def __call__(self) -> int:
        return self.ms


def test_a_version_tells_its_time_and_its_writer() -> None:
    stamp = HybridClock(Time(), 0xABC).stamp()
    assert version_ms(stamp) == NOW
    assert stamp & (WRITERS - 1) == 0xABC


def test_the_lowest_version_of_a_millisecond_is_below_its_stamps_and_above_all_before() -> None:
    time = Time(NOW - 1)
    clock = HybridClock(time, WRITERS - 1)
    before = clock.stamp()
    time.ms = NOW
    assert before < version_at(NOW) <= clock.stamp() < version_at(NOW + 1)


@given(st.integers(0, LATEST_MS))
def test_milliseconds_survive_the_way_into_a_version_and_back(ms: int) -> None:
    assert version_ms(version_at(ms)) == ms
    assert version_at(ms) <= MAX_VERSION


def test_a_standing_clock_still_stamps_upwards_and_carries_into_the_next_millisecond() -> None:
    clock = HybridClock(Time(), 7)
    stamps = [clock.stamp() for _ in range(3 * 512)]
    assert stamps == sorted(set(stamps))
    assert [version_ms(stamp) for stamp in stamps[510:514]] == [NOW, NOW, NOW + 1, NOW + 1]
    assert all(stamp & (WRITERS - 1) == 7 for stamp in stamps)


@pytest.mark.parametrize("count", [0, 1, 2, 1500])
def test_many_stamps_at_once_are_those_that_single_calls_would_have_made(count: int) -> None:
    at_once, singly = HybridClock(Time(), 7), HybridClock(Time(), 7)
    assert at_once.stamp() == singly.stamp()
    assert list(at_once.stamps(count)) == [singly.stamp() for _ in range(count)]
    assert at_once.stamp() == singly.stamp()
    fresh, other = HybridClock(Time(), WRITERS - 1), HybridClock(Time(), WRITERS - 1)
    assert list(fresh.stamps(count)) == [other.stamp() for _ in range(count)]


def test_a_clock_that_runs_backwards_is_not_followed() -> None:
    time = Time()
    clock = HybridClock(time, 1)
    first = clock.stamp()
    time.ms -= 60_000
    assert clock.stamp() > first


def test_time_takes_over_again_once_it_has_caught_up() -> None:
    time = Time()
    clock = HybridClock(time, 1)
    clock.observe(version_at(NOW + 100))
    assert version_ms(clock.stamp()) == NOW + 100
    time.ms = NOW + 500
    assert version_ms(clock.stamp()) == NOW + 500


def test_what_was_observed_is_passed_whoever_wrote_it() -> None:
    clock = HybridClock(Time(), 0)
    foreign = version_at(NOW + 50) | WRITERS - 1
    clock.observe(foreign)
    assert clock.stamp() > foreign


def test_an_old_version_observed_changes_nothing() -> None:
    one, other = HybridClock(Time(), 1), HybridClock(Time(), 1)
    other.observe(version_at(NOW - 1))
    assert one.stamp() == other.stamp()


def test_the_offset_moves_every_later_stamp() -> None:
    clock = HybridClock(Time(), 1)
    clock.offset_ms = 250
    assert clock.now_ms() == NOW + 250
    assert version_ms(clock.stamp()) == NOW + 250


def test_a_corrected_clock_goes_by_the_time_of_the_cluster_at_once() -> None:
    clock = HybridClock(Time(NOW + 3_600_000), 1)
    fast = clock.stamp()
    clock.correct(NOW)
    assert clock.now_ms() == NOW
    assert fast > clock.stamp()
    assert version_ms(clock.stamp()) == NOW


def test_a_correction_takes_no_stamp_back_that_a_node_may_have_taken() -> None:
    clock = HybridClock(Time(NOW + MAX_CLOCK_OFFSET_MS), 1)
    taken = clock.stamp()
    clock.correct(NOW)
    assert clock.stamp() > taken


@pytest.mark.parametrize("writer", [-1, WRITERS, 1 << 40])
def test_a_writer_id_that_does_not_fit_is_refused_by_name(writer: int) -> None:
    with pytest.raises(ValueError, match=f"{writer} is not in 0..4095"):
        HybridClock(Time(), writer)


def test_a_clock_shows_its_state() -> None:
    clock = HybridClock(Time(), 5)
    clock.stamp()
    assert repr(clock) == f"<HybridClock writer=5 offset=0ms last={NOW}>"


steps = st.lists(
    st.one_of(
        st.tuples(st.just("time"), st.integers(NOW - 1000, NOW + 1000)),
        st.tuples(st.just("offset"), st.integers(-500, 500)),
        st.tuples(st.just("observe"), st.integers(version_at(NOW - 2000), version_at(NOW + 2000))),
        st.tuples(st.just("stamp"), st.integers(1, 600)),
    ),
    max_size=30,
)


@given(steps, st.integers(0, WRITERS - 1))
def test_whatever_happens_stamps_only_rise_and_pass_all_that_was_seen(
    happenings: list[tuple[str, int]], writer: int
) -> None:
    time = Time()
    clock = HybridClock(time, writer)
    highest = 0
    for what, number in [*happenings, ("stamp", 1)]:
        if what == "time":
            time.ms = number
        elif what == "offset":
            clock.offset_ms = number
        elif what == "observe":
            clock.observe(number)
            highest = max(highest, number)
        else:
            for _ in range(number):
                stamp = clock.stamp()
                assert highest < stamp <= MAX_VERSION
                assert stamp & (WRITERS - 1) == writer
                assert version_ms(stamp) >= clock.now_ms()
                highest = stamp


@given(st.lists(st.integers(0, 1), min_size=1, max_size=200))
def test_two_writers_never_stamp_the_same_even_when_they_hear_each_other(turns: list[int]) -> None:
    clocks = [HybridClock(Time(), 1), HybridClock(Time(), 2)]
    seen: set[int] = set()
    for turn in turns:
        stamp = clocks[turn].stamp()
        assert stamp not in seen
        seen.add(stamp)
        clocks[1 - turn].observe(stamp)
