"""A stampede of real processes: one computation, whatever the machine is doing; and the way out of the command."""

from __future__ import annotations

import json

import pytest

from loadtests.stampede import StampedeOptions, main, run


async def test_callers_in_four_processes_make_one_computation() -> None:
    figures = await run(StampedeOptions(callers=80, processes=4, load_seconds=0.3, rounds=2, nodes=3))
    assert [(each.computations, each.answered) for each in figures] == [(1, 80), (1, 80)]


def test_the_command_reports_each_round(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--callers", "4", "--processes", "2", "--nodes", "1", "--load-seconds", "0.05"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["computations"], report["answered"]) == (1, 4)
    assert report["last_ms"] > 0
