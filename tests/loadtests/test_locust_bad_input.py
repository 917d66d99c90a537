"""What a run says of input that makes no sense: one line, at once, exit code 2."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from locust_process import run_locust
from serving import ServingCluster

from loadtests.server_process import free_ports


def _said(output: str) -> str:
    lines = [line for line in output.splitlines() if line.startswith("loadtest: ")]
    assert len(lines) == 1, output
    assert "Traceback" not in output
    return lines[0]


def test_no_cluster_at_the_address() -> None:
    address = f"127.0.0.1:{free_ports(1)[0]}"
    ran = run_locust("-H", f"kvcache://{address}", "-t", "60s", "ReadWrite")
    assert ran.code == 2
    assert f"no cluster at kvcache://{address}" in _said(ran.output)


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--slo", "get.p98<1ms"], "--slo: 'get.p98<1ms': there is no figure 'p98'; there is: p50"),
        (["--slo", "failed<0"], "--slo: 'failed<0' can never be held"),
        (["--zipf", "-1"], "--zipf -1.0: it must be a number from 0 to 10"),
        (["--value-sizes", "big"], "--value-sizes: 'big' is not NUMBER"),
        (["-H", "ftp://here"], "the scheme must be kvcache://"),
        (["--shape", "day"], "--shape day needs --run-time"),
        (["--report", "/proc/report.html"], "--report '/proc/report.html' can't be written: "),
    ],
)
def test_an_option_that_makes_no_sense(words: list[str], what: str) -> None:
    ran = run_locust(*words, "ReadWrite")
    assert ran.code == 2
    assert what in _said(ran.output)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('[[fault]]\nat = 1\ndo = "explode"', "there is no fault 'explode'; there is: kill"),
        ('[[fault]]\nat = 1\ndo = "kill"\nnode = "n9"', "kill n9: there is no such node; there is: n1, n2, n3"),
        ("[[fault]", "is not TOML"),
    ],
)
def test_a_fault_that_there_is_not(tmp_path: Path, text: str, what: str) -> None:
    faults = tmp_path / "faults.toml"
    faults.write_text(text)
    ran = run_locust("--start-cluster", "--faults", str(faults), "-t", "5s", "ReadWrite")
    assert ran.code == 2
    assert what in _said(ran.output)


def test_faults_are_for_a_cluster_of_the_runs_own(tmp_path: Path) -> None:
    ran = run_locust("--faults", str(tmp_path / "faults.toml"), "-t", "5s", "ReadWrite")
    assert ran.code == 2
    assert "give --start-cluster too" in _said(ran.output)


def test_a_run_that_is_over_before_its_keys_are_written(three_nodes: ServingCluster) -> None:
    ran = run_locust("-H", three_nodes.seeds, "-t", "1s", "--keys", "5000000", "--slo", "lost=0", "ReadWrite")
    assert ran.code == 2, ran.output
    assert "The run has ended before its users began: nothing was measured" in ran.output
    assert "Traceback" not in ran.output


def test_damaged_lines_of_a_trace_are_named_counted_and_left_out(three_nodes: ServingCluster, tmp_path: Path) -> None:
    trace, report = tmp_path / "sick.csv.gz", tmp_path / "report.html"
    trace.write_bytes(gzip.compress(b"key,size\n" + b"1,10\n2,20\nwhat,is,this\n3,\n4,many\n" * 20))
    words = ["-H", three_nodes.seeds, "-u", "2", "-r", "2", "-t", "3s", "--keys", "100", "--trace", str(trace)]
    ran = run_locust(*words, "--slo", "failed=0,lost=0,wrong=0", "--report", str(report), "TraceUser")
    assert ran.code == 0, ran.output
    assert "sick, line 4: ['what', 'is', 'this'] is not a key and a size" in ran.output
    assert "40 lines of the trace were damaged and left out" in ran.output
    assert "40 lines of the trace were damaged and left out" in report.read_text()


def test_a_trace_that_was_named_and_is_not_there_ends_the_run(three_nodes: ServingCluster, tmp_path: Path) -> None:
    words = ["-H", three_nodes.seeds, "-u", "1", "-t", "600s", "--keys", "100", "--trace", "nosuch", "TraceUser"]
    ran = run_locust(*words, KVCACHE_TRACES=str(tmp_path))
    assert ran.code == 2, ran.output
    assert f"--trace: no trace is called 'nosuch' in {tmp_path}; there is: nothing" in ran.output
    assert "Traceback" not in ran.output


def test_without_its_trace_a_trace_user_says_so_in_one_line(three_nodes: ServingCluster, tmp_path: Path) -> None:
    words = ["-H", three_nodes.seeds, "-u", "1", "-t", "2s", "--keys", "100", "TraceUser"]
    ran = run_locust(*words, KVCACHE_TRACES=str(tmp_path / "nowhere"))
    assert ran.code == 0, ran.output
    assert ran.output.count("TraceUser is skipped: no trace folder at") == 1
    assert "Traceback" not in ran.output
