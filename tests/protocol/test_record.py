from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvcache_client.protocol.record import (
    EXPIRY,
    FLAGS,
    HEADER_BYTES,
    NEVER,
    TOMBSTONE,
    VERSION,
    PayloadType,
    describe,
    expiry_of,
    flags_of,
    is_tombstone,
    make_record,
    payload_of,
    restamp,
    tombstone,
    version_of,
    with_expiry,
)
from kvcache_client.protocol.version import MAX_VERSION

versions = st.integers(0, MAX_VERSION)
expiries = st.integers(0, NEVER)
flag_bytes = st.integers(0, 255)
payloads = st.binary(max_size=64)


@given(versions, expiries, flag_bytes, payloads)
def test_a_record_gives_back_what_was_put_into_it(version: int, expiry: int, flags: int, payload: bytes) -> None:
    record = make_record(version, expiry, flags, payload)
    assert (version_of(record), expiry_of(record), flags_of(record), payload_of(record)) == (
        version,
        expiry,
        flags,
        payload,
    )
    assert len(record) == HEADER_BYTES + len(payload)
    assert is_tombstone(record) is bool(flags & TOMBSTONE)


@given(st.tuples(versions, expiries, flag_bytes, payloads), st.tuples(versions, expiries, flag_bytes, payloads))
def test_records_compare_as_bytes_the_way_their_versions_compare(
    one: tuple[int, int, int, bytes], other: tuple[int, int, int, bytes]
) -> None:
    if one[0] != other[0]:
        assert (make_record(*one) > make_record(*other)) is (one[0] > other[0])
        assert (make_record(*one)[VERSION] > make_record(*other)[VERSION]) is (one[0] > other[0])


@given(expiries, expiries)
def test_expiries_compare_as_bytes_too_and_never_is_the_latest(one: int, other: int) -> None:
    first, second = make_record(1, one, 0, b""), make_record(1, other, 0, b"")
    assert (first[EXPIRY] > second[EXPIRY]) is (one > other)
    assert first[EXPIRY] <= make_record(1, NEVER, 0, b"")[EXPIRY] == b"\xff" * 6


@given(versions, versions, expiries, flag_bytes, payloads)
def test_a_new_stamp_changes_the_version_alone(old: int, new: int, expiry: int, flags: int, payload: bytes) -> None:
    record = make_record(old, expiry, flags, payload)
    assert restamp(record, new) == make_record(new, expiry, flags, payload)


@given(versions, versions, expiries, expiries, flag_bytes, payloads)
def test_a_new_expiry_leaves_flags_and_payload_alone(
    old: int, new: int, before: int, after: int, flags: int, payload: bytes
) -> None:
    record = make_record(old, before, flags, payload)
    assert with_expiry(record, new, after) == make_record(new, after, flags, payload)


def test_a_tombstone_is_nothing_but_a_header() -> None:
    record = tombstone(9, 1_700_001_800_000)
    assert is_tombstone(record)
    assert (version_of(record), expiry_of(record), payload_of(record)) == (9, 1_700_001_800_000, b"")
    assert len(record) == HEADER_BYTES


def test_no_payload_type_looks_like_a_tombstone() -> None:
    assert not any(is_tombstone(make_record(1, NEVER, kind, b"x")) for kind in PayloadType)
    assert max(PayloadType) <= 0x0F


def test_the_header_is_the_15_bytes_that_the_page_draws() -> None:
    record = make_record(0x0102030405060708, 0x090A0B0C0D0E, 0x0F, b"\x10")
    assert record == bytes(range(1, 15)) + b"\x0f\x10"
    assert (record[VERSION], record[EXPIRY], record[FLAGS]) == (bytes(range(1, 9)), bytes(range(9, 15)), 0x0F)


@pytest.mark.parametrize(("version", "expiry"), [(-1, 0), (MAX_VERSION + 1, 0), (0, NEVER + 1), (0, -1)])
def test_numbers_that_do_not_fit_are_never_cut_off_silently(version: int, expiry: int) -> None:
    with pytest.raises(struct.error):
        make_record(version, expiry, 0, b"")


def test_a_record_is_described_without_its_value() -> None:
    text = describe(make_record(0xAB, 1234, PayloadType.TEXT, b"secret"))
    assert text == "<record text version=0xab expiry=1234 ms payload=6 B>"
    assert describe(tombstone(1, NEVER)) == "<record tombstone version=0x1 expiry=never payload=0 B>"


@given(flag_bytes)
def test_a_record_of_any_flags_can_be_described(flags: int) -> None:
    assert describe(make_record(1, 2, flags, b"")).startswith("<record ")
