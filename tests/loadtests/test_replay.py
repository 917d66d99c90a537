"""The replay command: its report, its way out, and one replay against real node processes."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from kvcache_client import Client
from loadtests.callers import ReplayOptions, Tally
from loadtests.replay import main, report


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Ten rounds over 100 keys that no other test uses."""
    path = tmp_path / "tiny.csv.gz"
    lines = [f"{990_000_000 + number % 100},{50 + number % 7}" for number in range(1000)]
    path.write_bytes(gzip.compress("\n".join(["key,size", *lines]).encode()))
    return path


def _result(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def test_the_report_gives_ratio_rate_and_latency_per_verb() -> None:
    tally = Tally(hits=3, misses=1, elapsed=2.0)
    for _ in range(4):
        tally.get.latency.record(0.004)
    tally.set.latency.record(0.010)
    tally.set.failed["NoAnswer"] += 1
    document = report("shop", ReplayOptions(), tally)
    assert (document["hit_ratio"], document["operations"], document["operations_per_second"]) == (0.75, 5, 2)
    assert document["verbs"]["get"]["latency_ms"]["p99.9"] == pytest.approx(4, rel=0.01)
    assert document["verbs"]["set"]["failed"] == {"NoAnswer": 1}


def test_a_replay_of_nothing_is_reported_without_dividing_by_zero() -> None:
    document = report("shop", ReplayOptions(), Tally())
    assert (document["hit_ratio"], document["operations_per_second"]) == (0.0, 0)


def test_a_missing_trace_folder_is_one_line_and_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KVCACHE_TRACES", str(tmp_path / "gone"))
    assert main([]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "KVCACHE_TRACES" in said


def test_seeds_that_do_not_answer_are_one_line_and_exit_code_2(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--trace", str(trace), "--seeds", "127.0.0.1:1"]) == 2
    assert "127.0.0.1:1" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--requests", "0"],
        ["--requests", "1.5"],
        ["--concurrency", "-1"],
        ["--ttl", "nan"],
        ["--limit", "inf"],
        ["--seconds", "soon"],
        ["--seeds", "a:1", "--start-cluster"],
    ],
)
def test_an_argument_that_makes_no_sense_is_named_with_exit_code_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ending:
        main(arguments)
    assert ending.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_a_replay_against_a_running_node_hits_what_it_has_set(
    trace: Path, one_node: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--trace", str(trace), "--seeds", one_node.seeds, "--json", "--concurrency", "10"]) == 0
    document = _result(capsys)
    assert document["wrong"] == 0
    assert document["hits"] + document["misses"] == 1000
    assert document["hits"] >= 900 - 10  # callers that ask for the same key at once may miss together


def test_a_wrong_value_is_exit_code_1(trace: Path, one_node: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with Client(one_node.seeds) as client:
        client.set("990000007", b"990000008:not its own")
        try:
            assert main(["--trace", str(trace), "--requests", "20", "--seeds", one_node.seeds]) == 1
        finally:
            client.delete("990000007")
    assert "wrong values 1" in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_a_two_second_replay_against_three_node_processes(
    trace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    endless = tmp_path / "long.csv.gz"
    body = gzip.decompress(trace.read_bytes()).partition(b"\n")[2] + b"\n"
    endless.write_bytes(gzip.compress(b"key,size\n" + body * 300))
    code = main(["--trace", str(endless), "--start-cluster", "--memory", "32MiB", "--seconds", "2", "--json"])
    document = _result(capsys)
    assert code == 0
    assert document["wrong"] == 0
    assert document["hits"] > document["misses"] >= 100
    assert document["verbs"]["get"]["failed"] == {}
