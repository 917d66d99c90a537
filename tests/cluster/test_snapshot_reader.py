"""What a reader gives back, and what it refuses: nothing that was not written may ever come out of it."""

from __future__ import annotations

import os
import resource
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from snapshot_samples import ORIGIN, SMALL, TIGHT, files, read, write

from kvcache.cluster.snapshots import Manifest, SnapshotReader
from kvcache.cluster.snapshots.layout import (
    BLOCK_BYTES,
    BLOCK_HEADER_BYTES,
    FILE_HEADER_BYTES,
    MANIFEST_BYTES,
    PAIR_BYTES,
    BlockHeader,
    block_digest,
    block_header,
    digest_of,
    manifest_header,
    segment_header,
)
from kvcache.cluster.snapshots.manifest import Segment, decode_manifest, encode_manifest
from kvcache_client.protocol.errors import InvalidOption, SnapshotDamaged
from kvcache_client.protocol.limits import VALUE_BYTES_CAP
from kvcache_client.protocol.record import FLAGS, NEVER, TOMBSTONE, make_record, tombstone
from kvcache_client.protocol.version import MAX_VERSION

MANIFEST = "manifest.msgpack"
FIRST, SECOND = "segment-000001.msgpack", "segment-000002.msgpack"

live = st.builds(
    make_record, st.integers(0, MAX_VERSION), st.integers(0, NEVER), st.integers(0, 127), st.binary(max_size=300)
)
graves = st.builds(tombstone, st.integers(0, MAX_VERSION), st.integers(0, NEVER))
pairs = st.lists(st.tuples(st.binary(min_size=1, max_size=1024), live | graves), max_size=30)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return write(tmp_path / "small", **TIGHT)


def refused(directory: Path, match: str | None = None) -> SnapshotDamaged:
    with pytest.raises(SnapshotDamaged, match=match) as caught:
        SnapshotReader(directory).verify()
    return caught.value


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(written=pairs, block=st.integers(1, 5000), segment=st.integers(1, 20_000))
def test_what_was_written_is_read_again_in_its_order(
    tmp_path_factory: pytest.TempPathFactory, written: list[tuple[bytes, bytes]], block: int, segment: int
) -> None:
    directory = tmp_path_factory.mktemp("round") / "trip"
    write(directory, written, block_bytes=block, segment_bytes=segment)
    reader = SnapshotReader(directory)
    reader.verify()
    assert read(directory) == written
    assert reader.manifest.records == len(written)
    assert reader.manifest.bytes == sum(len(key) + len(record) for key, record in written)
    shutil.rmtree(directory)


def test_a_manifest_says_where_and_when_the_snapshot_was_taken(tmp_path: Path) -> None:
    generations = (("", 5), ("user:", MAX_VERSION), ("\ud800", 0))
    manifest = SnapshotReader(write(tmp_path / "s", generations=generations)).manifest
    assert (manifest.cluster, manifest.cluster_id, manifest.taken_at_ms) == tuple(ORIGIN.values())
    assert manifest.generations == generations
    assert "shop" in repr(SnapshotReader(tmp_path / "s"))


def test_a_snapshot_may_be_read_twice_at_once(small: Path) -> None:
    reader = SnapshotReader(small)
    assert [one for one, _ in zip(reader, reader, strict=True)] == list(reader)
    assert len(list(reader)) == sum(segment.blocks for segment in reader.manifest.segments) > 1


def test_any_msgpack_library_can_read_the_files(small: Path) -> None:
    found: list[Any] = []
    for path in files(small)[1:]:
        head, *blocks = _unpacked(path.read_bytes())
        assert head[:2] == ["kvcache-snapshot", 1]
        for _number, records, _digest, payload in blocks:
            fields = list(_unpacked(payload))
            assert len(fields) == 2 * records
            found += zip(fields[::2], fields[1::2], strict=True)
    assert found == SMALL
    magic, version, _, manifest = msgpack.unpackb((small / MANIFEST).read_bytes())
    assert (magic, version, msgpack.unpackb(manifest)["records"]) == ("kvcache-snapshot", 1, len(SMALL))


def _unpacked(payload: bytes) -> msgpack.Unpacker:
    unpacker = msgpack.Unpacker()
    unpacker.feed(payload)
    return unpacker


def test_every_flip_of_any_byte_is_found(small: Path) -> None:
    for path in files(small):
        whole = path.read_bytes()
        for offset in range(len(whole)):
            for flip in (0x01, 0x80, 0xFF):
                spoilt = bytearray(whole)
                spoilt[offset] ^= flip
                path.write_bytes(spoilt)
                assert records_before_the_refusal(small) is not None, (path.name, offset, flip)
        path.write_bytes(whole)
    assert read(small) == SMALL


def test_every_truncation_and_every_extension_is_found(small: Path) -> None:
    for path in files(small):
        whole = path.read_bytes()
        for length in range(len(whole)):
            path.write_bytes(whole[:length])
            assert records_before_the_refusal(small) == []
        path.write_bytes(whole + b"\x00")
        assert records_before_the_refusal(small) == []
        path.write_bytes(whole)
    assert read(small) == SMALL


def records_before_the_refusal(directory: Path) -> list[tuple[bytes, bytes]] | None:
    """Return what a reader yields before it refuses, None if it does not; what it yields must have been written."""
    seen: list[tuple[bytes, bytes]] = []
    refusal: SnapshotDamaged | None = None
    try:
        for block in SnapshotReader(directory):
            seen += block
    except SnapshotDamaged as error:
        refusal = error
    assert seen == SMALL[: len(seen)]
    if refusal is None:
        return None
    assert str(directory) in str(refusal)
    assert isinstance(refusal.detail, int)
    return seen


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_bytes_of_any_kind_raise_no_other_error(small: Path, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(files(small)))
    whole = path.read_bytes()
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, len(whole)))
    spoilt = whole[:start] + data.draw(st.binary(max_size=60)) + whole[end:]
    path.write_bytes(spoilt)
    try:
        if spoilt != whole:
            assert records_before_the_refusal(small) is not None
    finally:
        path.write_bytes(whole)


def test_a_change_after_the_look_at_the_sizes_is_found_too(small: Path) -> None:
    for length in (10, FILE_HEADER_BYTES + 3, FILE_HEADER_BYTES + BLOCK_HEADER_BYTES + 5):
        whole = (small / SECOND).read_bytes()
        reader = SnapshotReader(small)
        (small / SECOND).write_bytes(whole[:length])
        with pytest.raises(SnapshotDamaged, match="ends inside"):
            reader.verify()
        (small / SECOND).write_bytes(whole)
    reader = SnapshotReader(small)
    (small / SECOND).write_bytes(whole + b"more")
    with pytest.raises(SnapshotDamaged, match=f"byte {len(whole)}: the file goes on"):
        reader.verify()


def test_a_directory_without_a_manifest_is_no_snapshot(small: Path) -> None:
    (small / MANIFEST).unlink()
    assert MANIFEST in str(refused(small, "there is no manifest"))


def test_a_directory_that_is_not_there_is_a_mistake_of_the_caller(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("nothing", "file"):
        with pytest.raises(InvalidOption, match=f"{name} is no directory"):
            SnapshotReader(tmp_path / name)


def test_a_missing_segment_is_named(small: Path) -> None:
    (small / SECOND).unlink()
    assert SECOND in str(refused(small, "the segment is missing"))


def test_a_segment_too_many_is_named(small: Path) -> None:
    shutil.copy(small / SECOND, small / "segment-000003.msgpack")
    assert "segment-000003" in str(refused(small, "the manifest knows no such segment"))


def test_other_files_beside_the_snapshot_do_no_harm(small: Path) -> None:
    (small / "README").write_text("taken before the upgrade")
    (small / ".DS_Store").mkdir()
    assert read(small) == SMALL


def test_segments_that_changed_places_are_refused(tmp_path: Path) -> None:
    same = [(key, make_record(9, NEVER, 1, b"x" * 100)) for key in (b"a", b"b")]
    directory = write(tmp_path / "s", same, block_bytes=80, segment_bytes=100)
    first, second = directory / FIRST, directory / SECOND
    assert first.stat().st_size == second.stat().st_size
    first.rename(directory / "aside")
    second.rename(first)
    (directory / "aside").rename(second)
    refused(directory, "the file holds segment 2, its name says 1")


def test_blocks_that_changed_places_are_refused(tmp_path: Path) -> None:
    same = [(key, make_record(9, NEVER, 1, b"x" * 100)) for key in (b"a", b"b")]
    path = write(tmp_path / "s", same, block_bytes=80) / FIRST
    whole = path.read_bytes()
    half = (len(whole) - FILE_HEADER_BYTES) // 2
    path.write_bytes(whole[:FILE_HEADER_BYTES] + whole[-half:] + whole[FILE_HEADER_BYTES:-half])
    refused(path.parent, f"byte {FILE_HEADER_BYTES}: block 1 stands in the place of block 0")


def test_a_segment_of_another_snapshot_is_refused(small: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other", taken_at_ms=ORIGIN["taken_at_ms"] + 1, **TIGHT)
    shutil.copy(other / SECOND, small / SECOND)
    assert SECOND in str(refused(small, "belongs to another snapshot"))


def test_a_segment_of_a_snapshot_of_the_same_cluster_and_time_is_refused(small: Path, tmp_path: Path) -> None:
    changed = [*SMALL[:-1], (b"\x00\xfe", SMALL[-1][1])]
    other = write(tmp_path / "other", changed, **TIGHT)
    shutil.copy(other / SECOND, small / SECOND)
    assert MANIFEST in str(refused(small, "checksum of all blocks does not match"))


@pytest.mark.parametrize("name", [MANIFEST, FIRST])
@pytest.mark.parametrize(("version", "words"), [(2, "a newer kvcache wrote it"), (0, "there is no such format")])
def test_another_format_is_told_from_damage(small: Path, name: str, version: int, words: str) -> None:
    path = small / name
    whole = bytearray(path.read_bytes())
    whole[19] = version
    path.write_bytes(whole)
    refused(small, f"{name}, byte 19: format {version}, this program reads format 1 only; {words}")


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04" * 40, b"\x94" * 100, b'{"cluster": "shop", "records": 5, "segments": []}']
)
def test_a_file_of_another_program_is_refused(small: Path, content: bytes) -> None:
    (small / MANIFEST).write_bytes(content)
    refused(small, "no file of a kvcache snapshot" if content else "byte 0: the file ends inside its header")


@pytest.mark.parametrize("name", [MANIFEST, SECOND])
def test_what_is_no_regular_file_is_refused(small: Path, name: str) -> None:
    path = small / name
    makers: list[Callable[[], object]] = [
        lambda: path.symlink_to(small.parent / "elsewhere"),
        lambda: path.symlink_to(small / "nowhere"),
        lambda: os.mkfifo(path),
        path.mkdir,
    ]
    path.rename(small.parent / "elsewhere")
    for make in makers:
        make()
        assert name in str(refused(small))
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


def test_the_directory_itself_may_be_a_link(small: Path, tmp_path: Path) -> None:
    (tmp_path / "latest").symlink_to(small)
    assert read(tmp_path / "latest") == SMALL


def test_refusing_leaves_no_file_open(small: Path) -> None:
    (small / SECOND).unlink()
    (small / SECOND).mkdir()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        refused(small)
    blocks = iter(SnapshotReader(write(small.parent / "whole", **TIGHT)))
    next(blocks)
    blocks.close()  # type: ignore[attr-defined]
    assert len(os.listdir("/proc/self/fd")) == before


def forge(directory: Path, payload: bytes, records: int = 1, length: int | None = None, **wrong: Any) -> Path:
    """Make a snapshot of one block by hand, with correct checksums."""
    directory.mkdir(exist_ok=True)
    manifest = Manifest(**ORIGIN)
    digest = block_digest(manifest.id, 1, 0, records, payload)
    data = segment_header(manifest.id, 1)
    data += block_header(BlockHeader(0, records, digest, len(payload) if length is None else length)) + payload
    (directory / FIRST).write_bytes(data)
    sizes = {"records": 1, "bytes": 16, "checksum": digest_of(digest), "segments": (Segment(len(data), 1, 1),)}
    (directory / MANIFEST).write_bytes(encode_manifest(Manifest(**ORIGIN | sizes | wrong)))
    return directory


GOOD = msgpack.packb(b"k") + msgpack.packb(make_record(1, NEVER, 0, b""))


def test_a_snapshot_may_be_made_by_hand(tmp_path: Path) -> None:
    assert read(forge(tmp_path / "s", GOOD)) == [(b"k", make_record(1, NEVER, 0, b""))]


KEY = msgpack.packb(b"k")
GRAVE_WITH_A_BODY = make_record(1, NEVER, TOMBSTONE, b"no")
assert GRAVE_WITH_A_BODY[FLAGS] == TOMBSTONE


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (msgpack.packb(b"") + GOOD[3:], "1 to 1024 bytes, this one has 0"),
        (msgpack.packb(b"k" * 1025) + GOOD[3:], "1 to 1024 bytes, this one has 1025"),
        (msgpack.packb(7) + GOOD[3:], "a key must be bytes, not int"),
        (KEY + msgpack.packb(b"short"), "a record has at least 15 bytes, this one 5"),
        (KEY + msgpack.packb(GRAVE_WITH_A_BODY), "a tombstone has no payload"),
        (KEY + msgpack.packb(None), "a record must be bytes, not NoneType"),
        (KEY + msgpack.packb([]), "a record must be bytes, not list"),
        (KEY + msgpack.packb([b"nested"]), "neither key nor record"),
        (KEY + b"\xdd\xff\xff\xff\xff", "neither key nor record"),
        (KEY + b"\xdf\xff\xff\xff\xff", "neither key nor record"),
        (KEY + msgpack.packb("text"), "neither key nor record"),
        (KEY + msgpack.packb(msgpack.Timestamp(1)), "neither key nor record"),
        (KEY + b"\xc1", "neither key nor record"),
        (KEY + b"\xc6\xff\xff\xff\xff", "holds 0 in its first 8 of 8 bytes"),
        (KEY + b"\xc4\x20short", "holds 0 in its first 5 of 10 bytes"),
        (KEY, "holds 0 in its first 3 of 3 bytes"),
        (b"", "holds 0 in its first 0 of 0 bytes"),
        (GOOD + b"\x00", "holds 1 in its first"),
        (GOOD + GOOD, "holds 1 in its first"),
    ],
)
def test_a_payload_with_good_checksums_is_not_believed_either(tmp_path: Path, payload: bytes, words: str) -> None:
    assert FIRST in str(refused(forge(tmp_path / "s", payload), words))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"length": 2**32 - 1}, f"4294967295 bytes for 1 records, the limit is {PAIR_BYTES}"),
        ({"length": PAIR_BYTES}, "is longer than the file"),
        ({"records": 2, "length": BLOCK_BYTES + 1}, "for 2 records, the limit is 1048576"),
        ({"records": 0}, "a block of 0 records"),
        ({"records": 2**32 - 1}, "a block of 4294967295 records"),
        ({"records": 2}, "the block of 2 records holds 1"),
        ({"bytes": 17}, "it promises 17 bytes, the segments hold 16"),
        ({"checksum": bytes(16)}, "checksum of all blocks does not match"),
    ],
)
def test_a_lying_header_is_refused_before_anything_is_read_for_it(
    tmp_path: Path, fields: dict[str, Any], words: str
) -> None:
    refused(forge(tmp_path / "s", GOOD, **fields), words)


def test_a_manifest_that_counts_other_records_than_its_segment_is_refused(tmp_path: Path) -> None:
    directory = forge(tmp_path / "s", GOOD)
    size = (directory / FIRST).stat().st_size
    forge(directory, GOOD, records=1, segments=(Segment(size, 2, 1),))
    refused(directory, "the file ends inside the header of a block")
    forge(directory, GOOD + GOOD, records=2)
    refused(directory, "the segment holds 2 records, it must hold 1")


FIELDS = {**ORIGIN, "generations": [], "records": 0, "bytes": 0, "checksum": bytes(16), "segments": []}


@pytest.mark.parametrize(
    "wrong",
    [
        {"cluster": "\x1b[31mred"},
        {"cluster": b"shop"},
        {"cluster_id": "XYZ"},
        {"taken_at_ms": -1},
        {"taken_at_ms": True},
        {"taken_at_ms": 1 << 48},
        {"records": 1},
        {"records": 1.0},
        {"bytes": -1},
        {"checksum": b"short"},
        {"checksum": None},
        {"generations": {}},
        {"generations": [1]},
        {"generations": [["a"]]},
        {"generations": [["a", 1, 2]]},
        {"generations": [[b"a", 1]]},
        {"generations": [["a" * 1025, 1]]},
        {"generations": [["a", -1]]},
        {"segments": [[100, 1]]},
        {"segments": [[100, 1, 0]], "records": 0},
        {"segments": [[100, 1, 52_429]], "records": 52_429},
        {"segments": [[100, "1", 1]], "records": 1},
        {"segments": [[[], [], []]]},
        {"surprise": 1},
    ],
)
def test_a_manifest_with_a_wrong_field_is_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    payload = msgpack.packb(FIELDS | wrong)
    (tmp_path / MANIFEST).write_bytes(manifest_header(digest_of(payload), len(payload)) + payload)
    assert "makes no sense" in str(refused(tmp_path, f"{MANIFEST}, byte {FILE_HEADER_BYTES}"))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        b"\x91" * 3000,
        b"\x90",
        b"\xdf\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        msgpack.packb(FIELDS) + b"\x00",
    ],
)
def test_a_manifest_that_is_no_map_of_ours_is_refused(payload: bytes) -> None:
    with pytest.raises(SnapshotDamaged, match="makes no sense"):
        decode_manifest("x", manifest_header(digest_of(payload), len(payload)) + payload)


def test_a_manifest_that_would_fill_the_memory_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / MANIFEST
    path.write_bytes(manifest_header(bytes(16), 2**32 - 1))
    os.truncate(path, 1 << 40)  # sparse
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(tmp_path, f"a manifest of 4294967295 bytes, the limit is {MANIFEST_BYTES}")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024


def test_a_huge_segment_that_holds_nothing_is_read_in_bounded_memory(tmp_path: Path) -> None:
    directory = forge(tmp_path / "s", GOOD)
    os.truncate(directory / FIRST, 1 << 40)
    segment = Segment(1 << 40, 1, 1)
    header = block_header(BlockHeader(0, 1, bytes(16), PAIR_BYTES))
    with (directory / FIRST).open("r+b") as file:
        file.seek(FILE_HEADER_BYTES)
        file.write(header)
    (directory / MANIFEST).write_bytes(
        encode_manifest(Manifest(**ORIGIN, records=1, bytes=16, checksum=bytes(16), segments=(segment,)))
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(directory, "the checksum of block 0 does not match")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 96 * 1024


def test_the_largest_record_goes_through(tmp_path: Path) -> None:
    largest = (b"k" * 1024, make_record(MAX_VERSION, NEVER, 1, bytes(VALUE_BYTES_CAP)))
    assert read(write(tmp_path / "s", [SMALL[0], largest, SMALL[1]])) == [SMALL[0], largest, SMALL[1]]
    assert [len(block) for block in SnapshotReader(tmp_path / "s")] == [1, 1, 1]


def test_the_fixed_headers_are_what_the_layout_says() -> None:
    head = segment_header(b"i" * 16, 7)
    assert msgpack.unpackb(head) == ["kvcache-snapshot", 1, b"i" * 16, 7]
    assert len(head) == FILE_HEADER_BYTES
    assert struct.unpack(">I", head[-4:]) == (7,)
