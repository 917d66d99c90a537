"""What is said of fields that are not what they should be."""

import pytest

from kvcache.service.checks import check_int64, check_record, check_version, shown
from kvcache_client.protocol.errors import InvalidOption, MalformedFrame
from kvcache_client.protocol.record import HEADER_BYTES
from kvcache_client.protocol.version import MAX_VERSION


def test_what_a_stranger_sent_is_shown_short_however_large_it_is():
    deep = ()
    for _ in range(5000):
        deep = (deep,)
    for field in (deep, ((),) * 100_000, b"x" * (1 << 20), "x" * 4096, tuple(range(1000)), 10**19, None, "\x00\n"):
        assert 0 < len(shown(field)) <= 60
        assert "\n" not in shown(field)


def test_a_number_within_its_bounds_is_returned():
    assert check_int64("delta", -(1 << 63)) == -(1 << 63)
    assert check_version("condition", MAX_VERSION) == MAX_VERSION


def test_a_number_out_of_its_bounds_is_named_with_them():
    with pytest.raises(InvalidOption, match=rf"delta must be .* to {(1 << 63) - 1}, not {1 << 63}"):
        check_int64("delta", 1 << 63)
    with pytest.raises(InvalidOption, match=r"condition must be 0 to .*, not -1"):
        check_version("condition", -1)


def test_what_is_no_number_is_malformed():
    with pytest.raises(
        MalformedFrame, match=r"delta is an integer, not \(\(\.\.\.\),\)|delta is an integer, not \(\(\),\)"
    ):
        check_int64("delta", ((),))


def test_a_record_is_as_long_as_its_header_at_least():
    whole = b"\x00" * HEADER_BYTES
    assert check_record(whole, 0) is whole
