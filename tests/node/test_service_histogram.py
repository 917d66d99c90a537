"""Counting values by bounds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvcache.histogram import LAG_SECONDS, SERVICE_SECONDS, Histogram


def test_a_value_at_a_bound_is_below_it():
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.5):
        histogram.add(value)
    assert histogram.as_dict() == {"count": 4, "sum": 5.5, "buckets": {"1": 2, "2": 3, "+Inf": 4}}


@given(st.lists(st.floats(0, 100), max_size=50))
def test_each_bucket_holds_all_that_is_not_above_its_bound(values):
    histogram = Histogram(SERVICE_SECONDS)
    for value in values:
        histogram.add(value)
    plain = histogram.as_dict()
    assert plain["count"] == histogram.count == plain["buckets"]["+Inf"] == len(values)
    assert plain["sum"] == pytest.approx(sum(values))
    for bound, up_to in zip(SERVICE_SECONDS, plain["buckets"].values(), strict=False):
        assert up_to == sum(value <= bound for value in values)


@pytest.mark.parametrize("bounds", [SERVICE_SECONDS, LAG_SECONDS])
def test_bounds_rise_and_no_two_are_written_alike(bounds):
    assert list(bounds) == sorted(set(bounds))
    assert len(Histogram(bounds).as_dict()["buckets"]) == len(bounds) + 1
