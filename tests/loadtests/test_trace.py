"""Finding and reading traces, whole and damaged."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from loadtests import CannotRun
from loadtests.trace import DEFAULT_SIZE, Damage, find_trace, key_of, read_trace, trace_folder, value_of


def _write(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()))
    return path


def test_a_trace_is_read_in_order_with_100_bytes_where_it_has_no_size(tmp_path: Path) -> None:
    trace = read_trace(_write(tmp_path / "shop.csv.gz", "key,size\n7,737\n8,\n7,11\n"))
    assert list(trace) == [(7, 737), (8, DEFAULT_SIZE), (7, 11)]
    assert (trace.name, len(trace)) == ("shop", 3)


def test_only_the_first_requests_are_read_when_asked(tmp_path: Path) -> None:
    path = _write(tmp_path / "shop.csv.gz", "key,size\n1,\n2,\n3,\nnot even read")
    assert [key for key, _ in read_trace(path, 2)] == [1, 2]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", r"begins with \[\'\'\]"),
        ("when,key\n1,2\n", r"begins with \['when', 'key'\]"),
        ("key,size\n1,10\n2,ten\n", r"line 3.*'ten'"),
        ("key,size\n1,10,9\n", "line 2"),
        ("key,size\n-1,10\n", "line 2"),
        ("key,size\n", "no requests"),
    ],
)
def test_a_damaged_trace_is_refused_with_the_line_and_what_stands_there(
    tmp_path: Path, text: str, complaint: str
) -> None:
    with pytest.raises(CannotRun, match=complaint):
        read_trace(_write(tmp_path / "shop.csv.gz", text))


@pytest.mark.parametrize(
    "content", [b"key,size\n1,2\n", gzip.compress(b"key,size\n" + b"1,2\n" * 9999)[:60]], ids=["plain", "cut"]
)
def test_a_file_that_is_no_whole_gzip_is_refused_with_its_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "cut.csv.gz"
    path.write_bytes(content)
    with pytest.raises(CannotRun, match=r"cut\.csv\.gz cannot be read"):
        read_trace(path)


def test_a_trace_is_found_by_path_name_or_the_beginning_of_its_name(tmp_path: Path) -> None:
    busy = _write(tmp_path / "orm-busy.csv.gz", "")
    short = _write(tmp_path / "orm.csv.gz", "")
    web = _write(tmp_path / "webshop.csv.gz", "")
    assert find_trace(str(web), Path("/nowhere")) == web
    assert find_trace("web", tmp_path) == web
    assert find_trace("orm", tmp_path) == short  # a whole name goes before a beginning
    assert find_trace("orm-busy.csv.gz", tmp_path) == busy
    for unclear, complaint in (("or", "more than one"), ("x", "no trace")):
        with pytest.raises(CannotRun, match=rf"{complaint}.*orm, orm-busy, webshop|{complaint}.*orm-busy, orm"):
            find_trace(unclear, tmp_path)


def test_a_missing_folder_is_one_line_that_says_which_variable_to_set(tmp_path: Path) -> None:
    with pytest.raises(CannotRun, match="KVCACHE_TRACES") as refusal:
        find_trace("twitter", tmp_path / "gone")
    assert "\n" not in str(refusal.value)


def test_the_folder_comes_from_the_environment_else_lies_beside_the_checkout() -> None:
    assert trace_folder({"KVCACHE_TRACES": "/data"}) == Path("/data")
    checkout = Path(__file__).resolve().parents[2]
    assert trace_folder({}) == checkout.parent / "shared" / "data"


def test_a_value_tells_whose_it_is_and_has_the_traced_size() -> None:
    assert len(value_of(key_of(12), 400)) == 400
    assert value_of(key_of(12), 400).startswith(b"12:")
    assert not value_of(key_of(123), 400).startswith(b"12:")
    assert value_of(key_of(123456), 2) == b"123456:"  # its mark, though longer than traced


def test_damaged_lines_can_be_counted_and_named_instead_and_leave_the_rest_whole(tmp_path: Path) -> None:
    path = tmp_path / "sick.csv.gz"
    path.write_bytes(gzip.compress(b"key,size\n1,10\nnonsense\n2,x\n-3,5\n4,99999999999\n1,2,3\n\n6,2000\n5,\n"))
    damage = Damage(largest=1999)
    trace = read_trace(path, damage=damage)
    assert list(trace) == [(1, 10), (5, 100)]
    assert [line.partition(":")[0] for line in damage.told] == [f"sick, line {number}" for number in range(3, 10)]
    assert damage.lines == 7
    assert "nonsense" in damage.told[0]
    assert "a size from 0 to 1999" in damage.told[-1]


@pytest.mark.parametrize(
    "line",
    [b"1,\xff\xfe", "1,\N{LATIN SMALL LETTER E WITH ACUTE}".encode(), b'"1,20', b"1," + b"9" * 200_000, b"\x00,1"],
    ids=["bytes", "letter", "quote", "long field", "zero"],
)
def test_one_damaged_line_is_one_damaged_line_and_all_after_it_are_read(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "sick.csv.gz"
    path.write_bytes(gzip.compress(b"key,size\n" + line + b"\n" + b"7,70\n" * 90))
    damage = Damage()
    assert list(read_trace(path, damage=damage)) == [(7, 70)] * 90
    assert (damage.lines, damage.cut) == (1, "")
    assert damage.told[0].startswith("sick, line 2: ")
    assert len(damage.told[0]) < 500
    with pytest.raises(CannotRun, match="sick, line 2"):
        read_trace(path)


def test_of_a_file_that_ends_in_the_middle_whole_lines_are_kept_and_the_cut_is_told(tmp_path: Path) -> None:
    path = tmp_path / "cut.csv.gz"
    lines = [b"%d,%d\n" % (number * 7919 % 100_003, number % 1000) for number in range(50_000)]
    whole = gzip.compress(b"key,size\n" + b"".join(lines))
    path.write_bytes(whole[: len(whole) // 2])
    damage = Damage()
    kept = list(read_trace(path, damage=damage))
    assert 10_000 < len(kept) < 40_000
    assert kept == [(number * 7919 % 100_003, number % 1000) for number in range(len(kept))]
    assert damage.lines == 0
    assert damage.cut.startswith(f"cut ends in the middle, after {len(kept):,} requests: ")


def test_of_many_damaged_lines_the_first_are_named_and_all_counted(tmp_path: Path) -> None:
    damage = Damage()
    read_trace(_write(tmp_path / "sick.csv.gz", "key,size\n1,1\n" + "?\n" * 5000), damage=damage)
    assert (damage.lines, len(damage.told)) == (5000, 10)
