"""The latency histogram against sorted lists."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.histogram import PERCENTILES, RELATIVE_ERROR, LatencyHistogram

_SECONDS = st.floats(min_value=1e-6, max_value=900.0)


def _filled(samples: list[float]) -> LatencyHistogram:
    histogram = LatencyHistogram()
    for seconds in samples:
        histogram.record(seconds)
    return histogram


@settings(max_examples=60, deadline=None)
@given(st.lists(_SECONDS, min_size=1, max_size=200), st.sampled_from([0.0, *PERCENTILES.values(), 1.0]))
def test_every_percentile_is_within_one_percent_of_the_sample_it_stands_for(
    samples: list[float], fraction: float
) -> None:
    exact = sorted(samples)[max(1, math.ceil(fraction * len(samples))) - 1]
    assert _filled(samples).percentile(fraction) == pytest.approx(exact, rel=RELATIVE_ERROR)


@settings(max_examples=30, deadline=None)
@given(st.lists(_SECONDS, min_size=1, max_size=100))
def test_count_mean_and_maximum_are_exact(samples: list[float]) -> None:
    histogram = _filled(samples)
    summary = histogram.summary_ms()
    assert histogram.count == len(samples)
    assert summary["max"] == max(samples) * 1e3
    assert summary["mean"] == pytest.approx(sum(samples) / len(samples) * 1e3)


def test_a_histogram_without_samples_is_all_zeros() -> None:
    assert set(LatencyHistogram().summary_ms().values()) == {0.0}


def test_samples_of_zero_and_beyond_the_ceiling_are_counted_and_bounded_by_the_maximum() -> None:
    histogram = _filled([0.0, -1e-9, 5000.0])
    assert histogram.count == 3
    assert histogram.percentile(0.5) <= 1e-7
    assert histogram.percentile(1.0) == histogram.maximum == 5000.0


@pytest.mark.parametrize("fraction", [-0.1, 1.1, 99])
def test_a_percentile_outside_zero_to_one_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="0 to 1"):
        LatencyHistogram().percentile(fraction)


def test_merging_counts_every_sample_and_changes_neither_part() -> None:
    one, two = _filled([0.001] * 3), _filled([0.1] * 7)
    merged = one.merge([two])
    assert (merged.count, merged.maximum) == (10, 0.1)
    assert merged.percentile(0.3) == pytest.approx(0.001, rel=RELATIVE_ERROR)
    assert merged.percentile(0.31) == pytest.approx(0.1, rel=RELATIVE_ERROR)
    assert (one.count, two.count) == (3, 7)


def test_its_size_does_not_grow_with_the_samples() -> None:
    histogram = _filled([number / 1000 for number in range(1, 5000)])
    assert len(histogram._buckets) == len(LatencyHistogram()._buckets) < 1200
    assert "count=4999" in repr(histogram)
