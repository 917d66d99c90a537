"""The curves: budgets, batches, verdicts, the page, and a whole run with real servers that is as short as can be."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from loadtests import CannotRun
from loadtests.curves import __main__ as command
from loadtests.curves.axes import AXES, Point, points
from loadtests.curves.budgets import LEAST_MIB, SHARES, budgets_mib, footprint
from loadtests.curves.hit_ratio import BATCH, HitPoint, batches, replayed
from loadtests.curves.report import curves_page, print_summary
from loadtests.curves.results import LoadRow, Results, judge
from loadtests.curves.servers import SYSTEMS
from loadtests.trace import key_of

MIB = 1 << 20


# --- budgets


def test_a_footprint_is_each_key_once_with_its_last_value() -> None:
    assert footprint([(b"a", 10), (b"bb", 20), (b"a", 30)]) == 1 + 30 + 2 + 20


def test_budgets_are_shares_of_the_footprint_in_whole_mebibytes() -> None:
    assert budgets_mib(100 * MIB) == [25, 38, 50, 75, 100]


@pytest.mark.parametrize("size", [0, 1, MIB, 3 * MIB])
def test_a_small_footprint_gets_different_budgets_that_every_system_can_run_with(size: int) -> None:
    assert budgets_mib(size) == [LEAST_MIB + step for step in range(len(SHARES))]


@given(st.integers(0, 1 << 40))
def test_budgets_rise(size: int) -> None:
    budgets = budgets_mib(size)
    assert len(budgets) == len(SHARES)
    assert all(before < after for before, after in itertools.pairwise(budgets))
    assert budgets[0] >= LEAST_MIB


# --- batches


@given(st.lists(st.tuples(st.integers(0, 9), st.just(7)), max_size=200))
def test_batches_keep_the_order_and_no_key_is_in_one_twice(requests: list[tuple[int, int]]) -> None:
    found = list(batches(requests, limit=5))
    assert [key for batch in found for key in batch] == [key_of(number) for number, _ in requests]
    assert all(0 < len(batch) <= 5 for batch in found)


def test_a_batch_ends_only_where_it_must() -> None:
    numbers = [*range(BATCH + 1), 0, 1, 0]
    assert [len(batch) for batch in batches((number, 1) for number in numbers)] == [BATCH, 3, 1]


def test_a_replay_in_batches_hits_exactly_as_often_as_one_request_at_a_time() -> None:
    requests = [(number * number % 23, 10) for number in range(500)]
    held: dict[bytes, bytes] = {}

    def holds(keys: list[bytes]) -> set[bytes]:
        return {key for key in keys if key in held}

    def store(values: Mapping[bytes, bytes]) -> int:
        held.update(values)
        return 0

    assert replayed(requests, holds, store) == (500 - len(held), 0)
    assert all(len(value) == 10 for value in held.values())


def test_refused_stores_are_counted() -> None:
    assert replayed([(1, 5), (2, 5), (1, 5)], lambda keys: set(), len) == (0, 3)


def test_a_value_that_memcached_refuses_is_counted_and_the_others_are_stored() -> None:
    try:
        with SYSTEMS["memcached"](4) as server:
            assert server.store({b"first": b"1", b"large": bytes(2 * MIB), b"last": b"2"}) == 1
            assert server.holds([b"first", b"large", b"last"]) == {b"first", b"last"}
    except CannotRun as reason:
        pytest.skip(str(reason))


# --- axes


def test_a_point_differs_from_the_usual_one_in_what_is_varied_alone() -> None:
    for axis in AXES:
        for value, point in points(axis, quick=False):
            assert getattr(point, axis.field) == value
            changed = {name for name in Point.__slots__ if getattr(point, name) != getattr(Point(), name)}
            allowed = {"value_bytes": {"value_bytes", "keys"}, "nodes": {"nodes", "replicas"}}
            assert changed <= allowed.get(axis.field, {axis.field})
            assert point.replicas <= point.nodes
            assert point.keys * point.value_bytes <= 128 * MIB


def test_the_axes_reach_as_far_as_they_should() -> None:
    reach = {axis.field: (min(axis.values), max(axis.values)) for axis in AXES}
    assert reach == {
        "nodes": (1, 6),
        "replicas": (1, 3),
        "value_bytes": (16, MIB),
        "tasks": (1, 1000),
        "keys": (1000, 1_000_000),
    }
    assert all(set(axis.quick) <= set(range(axis.values[0], axis.values[-1] + 1)) for axis in AXES)


# --- verdicts


def hit(system: str, mib: int, hits: int) -> HitPoint:
    return HitPoint("twitter-cluster52", system, mib, 10_000, hits, 0, 1, mib * MIB)


def sizes(*rows: tuple[int, int, int]) -> dict[int, dict[str, HitPoint]]:
    names = ("kvcache", "redis", "memcached")
    return {
        mib: {name: hit(name, mib, hits) for name, hits in zip(names, row, strict=True)}
        for mib, row in enumerate(rows, start=1)
    }


def test_above_both_at_three_sizes_and_below_none_is_reached() -> None:
    verdict = judge(sizes((9, 8, 8), (9, 8, 8), (9, 8, 8), (9, 9, 9), (9, 9, 8)))
    assert verdict is not None
    assert (verdict.sizes, verdict.above, verdict.below, verdict.reached) == (5, 3, (), True)


def test_below_one_peer_at_one_size_is_not() -> None:
    verdict = judge(sizes(*[(9000, 8000, 8000)] * 4, (9000, 9001, 8000)))
    assert verdict is not None
    assert not verdict.reached
    assert verdict.below == ("5 MiB: 90.00% against redis 90.01%",)


def test_without_a_peer_there_is_no_verdict() -> None:
    assert judge({1: {"kvcache": hit("kvcache", 1, 5)}}) is None
    assert judge({}) is None


# --- shown


def results() -> Results:
    row = LoadRow("tasks", 10, 1000.0, 0.1, 0.2, 0.3, 0.4, 0, 0, 3, 2, 100, 10, 10_000)
    found = Results(loads=[row], skipped=["redis is skipped: no redis-server: apt install redis-server"])
    found.hits = [hit(system, mib, 10 * mib) for mib in (1, 2) for system in ("kvcache", "memcached")]
    return found


def test_the_page_has_every_curve_and_says_what_is_missing() -> None:
    page = curves_page(results(), "a machine")
    assert page.count('<svg class="chart"') == 3
    assert "apt install redis-server" in page
    assert "Equal bytes" in page


def test_the_summary_ends_with_the_verdict() -> None:
    out = io.StringIO()
    print_summary(Console(file=out, width=160), results())
    assert "above all peers at 0 of 2 sizes, below one at 0: not reached" in out.getvalue()


def test_what_is_written_can_be_read_again(tmp_path: Path) -> None:
    results().write(tmp_path, {"machine": "m"})
    with (tmp_path / "hit-ratio.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["hit_ratio"] for row in rows] == ["0.001", "0.001", "0.002", "0.002"]
    with (tmp_path / "throughput.csv").open(newline="") as file:
        assert next(csv.DictReader(file))["per_second"] == "1000.0"
    assert json.loads((tmp_path / "curves.json").read_text())["machine"] == "m"


# --- the whole command


@pytest.mark.slow
def test_a_whole_run_writes_every_file_and_every_system_hits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    traces = tmp_path / "traces"
    traces.mkdir()
    with gzip.open(traces / "tiny.csv.gz", "wt") as file:
        file.write("key,size\n" + "".join(f"{number * number % 97},\n" for number in range(600)))
    monkeypatch.setenv("KVCACHE_TRACES", str(traces))
    out = tmp_path / "out"
    asked = ["--quick", "--only", "tasks,hit-ratio", "--seconds", "0.1", "--output", str(out)]
    assert command.main(asked) == 0
    document = json.loads((out / "curves.json").read_text())
    assert [row["value"] for row in document["throughput"]] == [1, 100]
    assert all(row["per_second"] > 0 and row["failed"] == row["missed"] == 0 for row in document["throughput"])
    systems = {"kvcache", "redis", "memcached"} - {line.split()[0] for line in document["skipped"]}
    assert {(it["system"], it["memory_mib"]) for it in document["hit_ratio"]} == {
        (it, mib) for it in systems for mib in (2, 6)
    }
    distinct = len({number * number % 97 for number in range(600)})
    assert {it["hits"] for it in document["hit_ratio"]} == {600 - distinct}  # all fits, so only first reads miss
    assert {it["records"] for it in document["hit_ratio"]} == {distinct}
    assert (out / "throughput.csv").exists()
    assert (out / "hit-ratio.csv").exists()
    assert "<svg" in (out / "curves.html").read_text()
    assert "hit ratio at equal bytes" in capsys.readouterr().out


def test_without_traces_one_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KVCACHE_TRACES", str(tmp_path / "none"))
    assert command.main(["--only", "hit-ratio", "--output", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.count("hit ratios are skipped: no traces in") == 1


def test_a_curve_that_there_is_not_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--only", "colour", "--output", str(tmp_path)]) == 2
    assert "no curve is called 'colour'; there is: nodes, replicas" in capsys.readouterr().err


def test_a_trace_that_there_is_not_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tiny.csv.gz").touch()
    monkeypatch.setenv("KVCACHE_TRACES", str(tmp_path))
    assert command.main(["--only", "hit-ratio", "--traces", "huge", "--output", str(tmp_path / "o")]) == 2
    assert "no trace begins with huge; there is: tiny.csv.gz" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--seconds", "0"], "--seconds is 0"),
        (["--requests", "0"], "--requests is 0"),
        (["--output", __file__], "no folder"),
    ],
)
def test_a_senseless_option_is_named(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(arguments)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
