"""What users draw: keys, sizes, times to live, values."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.users.keys import ZipfKeys
from loadtests.users.mixture import parse_mixture
from loadtests.users.values import make_value, read_value


def test_the_most_popular_key_is_drawn_as_often_as_zipfs_law_says() -> None:
    keys = ZipfKeys("k", 1000, 1.0, Random(1))
    counts = Counter(keys.draw() for _ in range(20_000))
    harmonic = sum(1 / rank for rank in range(1, 1001))
    assert counts["k0"] / 20_000 == pytest.approx(1 / harmonic, rel=0.05)
    assert counts["k0"] / counts["k9"] == pytest.approx(10, rel=0.2)


def test_an_exponent_of_zero_is_uniform_and_every_key_is_one_of_the_named() -> None:
    keys = ZipfKeys("k", 10, 0.0, Random(2))
    counts = Counter(keys.draw() for _ in range(10_000))
    assert set(counts) == {keys.name(number) for number in range(10)}
    assert min(counts.values()) > 850


@pytest.mark.parametrize(("count", "exponent"), [(0, 1.0), (10**9, 1.0), (10, -1.0), (10, 11.0), (10, float("nan"))])
def test_senseless_figures_are_refused(count: int, exponent: float) -> None:
    with pytest.raises(ValueError, match=r"keys|exponent"):
        ZipfKeys("k", count, exponent, Random(1))


def test_a_mixture_draws_its_parts_by_weight_and_a_range_within_its_ends() -> None:
    draw = parse_mixture("none:50,60:30,1-5:20", none=True).sampler(Random(3))
    drawn = [draw() for _ in range(10_000)]
    assert drawn.count(None) / 10_000 == pytest.approx(0.5, abs=0.02)
    assert drawn.count(60) / 10_000 == pytest.approx(0.3, abs=0.02)
    rest = [number for number in drawn if number not in (None, 60)]
    assert rest
    assert all(number is not None and 1 <= number <= 5 for number in rest)


def test_a_single_number_is_that_number() -> None:
    mixture = parse_mixture("100")
    assert mixture.sampler(Random(1))() == 100
    assert mixture.largest == 100


@pytest.mark.parametrize("text", ["", "none", "0", "-5", "5-1", "a", "1:0", "1:-1", "1:x", "inf", "nan", "1-", "1:2:3"])
def test_what_is_no_mixture_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"holds nothing|is not|above 0"):
        parse_mixture(text)


@given(st.integers(0, 10**9), st.integers(0, 200_000))
def test_a_value_has_its_size_and_says_where_it_belongs(sequence: int, size: int) -> None:
    value = make_value("load:0:7", "run", sequence, size)
    assert len(value) >= size
    assert len(value) == size or size < 48
    assert read_value(value) == (b"load:0:7", b"run", sequence)


@given(st.integers(0, 199), st.integers(1, 255))
def test_a_changed_byte_anywhere_is_noticed(place: int, change: int) -> None:
    value = bytearray(make_value("load:0:7", "run", 12, 200))
    value[place] ^= change
    stamp = read_value(bytes(value))
    assert stamp is None or bytes(value).lower() == make_value("load:0:7", "run", 12, 200)  # a hex digit's case


@pytest.mark.parametrize("value", [None, 5, "text", b"", b"short", b"a|b|1||00000000"])
def test_what_is_not_ours_is_nothing(value: object) -> None:
    assert read_value(value) is None
