"""Open arrivals: how many are due and when, under each shape, and what becomes of those that no user comes to."""

from __future__ import annotations

import argparse
import time
from itertools import pairwise, takewhile
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from loadtests.report.timelines import Timelines
from loadtests.run.arrivals import OpenArrivals
from loadtests.run.options import add_options, options_of
from loadtests.run.overdue import note_overdue
from loadtests.run.recording import NOT_BEGUN, Place, Recording
from loadtests.run.shapes import SHAPES
from loadtests.run.slo import judge, parse_slo
from loadtests.users.workload import Workload


def test_open_arrivals_come_at_their_rate_whether_or_not_anybody_is_free() -> None:
    arrivals = OpenArrivals(lambda gone: 200.0, 200.0, 50.0, Random(1))
    due = [arrivals.next() for _ in range(20_000)]
    assert due == sorted(due)
    assert due[0] >= 50.0
    assert due[-1] - 50.0 == pytest.approx(100.0, rel=0.03)
    gaps = [after - before for before, after in pairwise(due)]
    assert sum(gap > 1 / 200 for gap in gaps) / len(gaps) == pytest.approx(0.368, abs=0.02)  # 1/e: a Poisson process


def test_open_arrivals_follow_a_shape() -> None:
    arrivals = OpenArrivals(lambda gone: 100.0 if gone >= 10 else 0.0, 100.0, 0.0, Random(1))
    assert arrivals.next() >= 10


@pytest.mark.parametrize("shape", sorted(SHAPES))
@pytest.mark.parametrize("rate", [2.0, 20.0])
def test_open_arrivals_under_a_shape_are_as_many_as_its_area_however_slow_they_begin(shape: str, rate: float) -> None:
    share, runs, length = SHAPES[shape], 200, 10.0
    counts = []
    for seed in range(runs):
        arrivals = OpenArrivals(lambda gone: rate * share(min(gone / length, 1.0)), rate, 0.0, Random(seed))
        counts.append(sum(1 for _ in takewhile(lambda due: due < length, iter(arrivals.next, None))))
    wanted = rate * length * sum(share(at / 1000) for at in range(1000)) / 1000
    four_standard_errors = 4 * (wanted / runs) ** 0.5
    assert sum(counts) / runs == pytest.approx(wanted, abs=four_standard_errors)
    assert rate < 20 or min(counts) > 0


def test_what_was_due_and_never_asked_for_is_told_with_its_moments() -> None:
    arrivals = OpenArrivals(lambda gone: 100.0, 100.0, 50.0, Random(1))
    begun = [arrivals.next() for _ in range(300)]
    overdue = list(arrivals.overdue(60.0))
    assert {count for _, count in overdue} == {1}
    moments = [due for due, _ in overdue]
    assert begun[-1] < moments[0]
    assert moments == sorted(moments)
    assert moments[-1] <= 60.0
    assert len(begun) + len(moments) == pytest.approx(1000, abs=4 * 1000**0.5)
    assert not list(arrivals.overdue(60.0))  # they were told


def test_so_many_overdue_that_drawing_each_would_take_long_are_told_in_groups() -> None:
    arrivals = OpenArrivals(lambda gone: 5e6 if gone < 30 else 1e7, 1e7, 0.0, Random(1))
    overdue = list(arrivals.overdue(60.0))
    assert len(overdue) < 30_000
    assert sum(count for _, count in overdue) == pytest.approx(450e6, rel=0.03)
    assert sum(count for due, count in overdue if due < 30) == pytest.approx(150e6, rel=0.05)


def test_what_was_never_begun_is_a_latency_and_no_answer() -> None:
    recording = Recording()
    for number in range(1000):
        recording.note(100 + number % 10, "get", "n1", "hit", 0.001)
    before = recording.count()
    recording.cell(Place(109, "get", "", NOT_BEGUN)).add(2.0, 500)
    assert (recording.count(), recording.count(NOT_BEGUN)) == (before, 500)
    assert recording.latency("get").percentile(0.99) == pytest.approx(2.0, rel=0.01)
    judgements = judge(parse_slo("get.p99<100ms,not_begun<1%,rate<=100,failed<0.1%"), recording, 10.0)
    assert [it.held for it in judgements] == [False, False, True, True]
    assert judgements[1].value == pytest.approx(500 / (before + 500))
    rates = Timelines(recording, 100.0).rates(lambda place: place.verb)
    assert sum(count for _, count in rates["get"]) == 800  # whole seconds, without what was not begun


def _workload(*words: str) -> Workload:
    """A workload whose cache is never asked."""
    parser = argparse.ArgumentParser()
    for name in ("--host", "--run-time"):
        parser.add_argument(name)
    add_options(parser)
    environment: Any = SimpleNamespace(host="", events=SimpleNamespace(request=SimpleNamespace(fire=None)))
    cache: Any = None
    return Workload(options_of(parser.parse_args(words)), cache, environment)


def test_at_the_end_the_overdue_are_counted_with_their_waits_under_the_verbs_of_the_users() -> None:
    workload = _workload("--rate", "1000")
    workload.mix.update(get=3.0, set=1.0)
    workload.start()
    begun = [workload.due() for _ in range(100)]
    stopped = begun[-1] + 4.0
    note_overdue(workload, stopped)
    run = workload.recording
    missed = run.count(NOT_BEGUN)
    assert missed == run.facts["not begun"] == pytest.approx(4000, abs=4 * 4000**0.5)
    assert run.count(NOT_BEGUN, verb="get") / missed == pytest.approx(0.75, abs=0.05)
    assert run.count() == 0
    assert run.latency("get").maximum == pytest.approx(4.0, abs=0.1)
    assert run.latency("set").percentile(0.5) == pytest.approx(2.0, rel=0.1)
    assert {place.second for place in run.cells} == {int(time.time() + stopped - workload.now())}


def test_closed_users_have_nothing_overdue() -> None:
    workload = _workload()
    workload.mix.update(get=1.0)
    workload.start()
    note_overdue(workload, workload.now() + 10)
    assert not workload.recording.cells
