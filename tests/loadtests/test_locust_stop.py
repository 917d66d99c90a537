"""Ctrl-C and SIGTERM in the middle of a run: it ends in order, and what was measured is judged and reported."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from locust_process import run_script, started_locust
from polling import wait_until
from serving import ServingCluster

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_has_its_whole_record_and_its_verdict(
    three_nodes: ServingCluster, tmp_path: Path, stop: signal.Signals
) -> None:
    log, report = tmp_path / "locust.log", tmp_path / "report.html"
    # The second two users come a second after the first two, so there is something to report by then.
    words = ["--headless", "-H", three_nodes.seeds, "-u", "4", "-r", "2", "-t", "120s", "--keys", "200"]
    words += ["--slo", "failed=0,lost=0,get.p50<0.1us", "--report", str(report), "ReadWrite"]
    with started_locust(log, *words) as locust:
        wait_until(lambda: "All users spawned" in log.read_text(), 40)
        locust.send_signal(stop)
        code = locust.wait(60)
    said = log.read_text()
    assert code == 1, said  # one term is broken: the verdict was there before the exit code was chosen
    assert "SLO lost=0: held" in said
    assert "SLO get.p50<0.1us: FAILED" in said
    assert "Traceback" not in said
    figures = json.loads(report.with_suffix(".json").read_text())
    assert figures["operations"] > 50
    assert figures["facts"]["checked"] == 200
    assert {outcome for verb in figures["verbs"].values() for outcome in verb["outcomes"]} <= {"hit", "ok"}


def test_the_last_reading_is_no_part_of_the_runs_time(tmp_path: Path) -> None:
    ran = run_script("ending.py", str(tmp_path / "report.html"))
    lines = [line for line in ran.output.splitlines() if line.startswith("ENDING ")]
    assert lines, ran.output
    told = json.loads(lines[0].removeprefix("ENDING "))
    assert told["facts"]["checked"] == 20
    assert told["seconds"] <= told["asked"] + 0.001  # it is rounded
