"""Compressed payloads: read back by everyone who has the package, and never larger than the limit says."""

from __future__ import annotations

import tracemalloc

import lz4.frame
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from kvcache_client.protocol import compression
from kvcache_client.protocol.codec import NO_SERIALIZERS, Known, decode_record
from kvcache_client.protocol.compression import COMPRESSIONS, compression_called, expanded
from kvcache_client.protocol.errors import InvalidOption, UndecodableValue
from kvcache_client.protocol.record import COMPRESSION_SHIFT, NEVER, PayloadType, describe, make_record, payload_of
from kvcache_client.protocol.value_errors import ExpandedTooLarge, MissingExtra

KINDS = list(COMPRESSIONS.values())
TEXT = b"all work and no play " * 200
MIB = 1 << 20


def record(kind, compressed: bytes, flags: int = PayloadType.BYTES) -> bytes:
    return make_record(7, NEVER, flags | kind.code << COMPRESSION_SHIFT, compressed)


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request):
    return request.param


def zstd_without_size(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_content_size=False).compress(data)


def test_what_was_compressed_is_read_back_and_keeps_its_type(kind):
    raw = record(kind, kind.compress(TEXT), PayloadType.TEXT)
    assert len(raw) < len(TEXT)
    assert decode_record(raw) == TEXT.decode()
    assert "compressed text" in describe(raw)
    whole = expanded(raw, len(TEXT))
    assert whole == make_record(7, NEVER, PayloadType.TEXT, TEXT)


@settings(max_examples=60)
@given(st.binary(max_size=2000), st.sampled_from(KINDS))
def test_any_bytes_survive(data, kind):
    assert decode_record(record(kind, kind.compress(data))) == data


@pytest.mark.parametrize(
    "bomb",
    [
        (1, zstandard.ZstdCompressor(level=19).compress(bytes(256 * MIB))),
        (1, zstd_without_size(bytes(256 * MIB))),
        (2, lz4.frame.compress(bytes(256 * MIB))),
        (2, lz4.frame.compress(bytes(256 * MIB), store_size=False)),
    ],
    ids=["zstd", "zstd without its size", "lz4", "lz4 without its size"],
)
def test_a_bomb_is_refused_and_takes_no_more_memory_than_the_limit(bomb):
    code, data = bomb
    raw = make_record(7, NEVER, PayloadType.BYTES | code << COMPRESSION_SHIFT, data)
    tracemalloc.start()
    try:
        with pytest.raises(ExpandedTooLarge, match=r"expanded_limit\) is 1048576 bytes") as caught:
            decode_record(raw, Known(NO_SERIALIZERS, MIB))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert caught.value.detail == raw
    assert peak < 8 * MIB


def test_the_limit_itself_is_allowed(kind):
    raw = record(kind, kind.compress(TEXT))
    assert decode_record(raw, Known(NO_SERIALIZERS, len(TEXT))) == TEXT
    with pytest.raises(ExpandedTooLarge):
        decode_record(raw, Known(NO_SERIALIZERS, len(TEXT) - 1))


def test_damaged_frames_are_reported_with_the_raw_record(kind):
    good = kind.compress(TEXT)
    for bad in (b"", b"junk" * 5, good[:-3], good[: len(good) // 2], good + b"xx", good + good):
        raw = record(kind, bad)
        with pytest.raises(UndecodableValue, match="damaged payload") as caught:
            decode_record(raw)
        assert caught.value.detail == raw


@settings(max_examples=150)
@given(st.sampled_from(KINDS), st.data())
def test_a_flipped_frame_is_either_read_or_reported(kind, data):
    frame = bytearray(kind.compress(TEXT))
    frame[data.draw(st.integers(0, len(frame) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        decode_record(record(kind, bytes(frame)), Known(NO_SERIALIZERS, MIB))
    except UndecodableValue as error:
        assert error.detail == record(kind, bytes(frame))  # noqa: PT017 - some still decode


def test_a_reader_without_the_package_is_told_what_to_install(kind, monkeypatch):
    raw = record(kind, kind.compress(TEXT))

    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(compression, "import_module", missing)
    monkeypatch.setattr(kind, "_module", None)
    with pytest.raises(MissingExtra, match=rf"pip install 'kvcache\[{kind.name}\]'") as caught:
        decode_record(raw)
    assert caught.value.detail == raw
    with pytest.raises(InvalidOption, match=rf"pip install 'kvcache\[{kind.name}\]'"):
        compression_called(kind.name)


def test_wrappers_are_not_compressed_and_nothing_is_compressed_twice(kind):
    inner = record(kind, kind.compress(TEXT))
    for flags in (PayloadType.FENCED, 14):
        with pytest.raises(UndecodableValue, match="which this client does not know"):
            decode_record(record(kind, kind.compress(payload_of(inner)), flags))


def test_an_unknown_compression_is_named():
    with pytest.raises(InvalidOption, match="compression='gzip': must be one of 'zstd', 'lz4', or None"):
        compression_called("gzip")
    assert expanded(make_record(1, NEVER, 0x30, b""), 10) is None


def test_contexts_of_zstd_are_used_again_also_after_an_error():
    zstd = compression_called("zstd")
    for _ in range(3):
        assert zstd.expand(zstd.compress(TEXT), MIB) == TEXT
        with pytest.raises(ValueError):  # noqa: PT011 - whatever the library says
            zstd.expand(b"junk", MIB)
    assert len(zstd._expanders) == 1
    assert len(zstd._compressors) == 1
