"""The report of a run, from made-up records: what it shows, what it counts, and what a fault cost."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from loadtests import CannotRun
from loadtests.adapters import NodeFigures
from loadtests.faults.plays import Happening
from loadtests.report.recovery import cost_of
from loadtests.report.run_report import check_place, render
from loadtests.report.summary import summary
from loadtests.report.timelines import Timelines
from loadtests.run.outcome import Outcome, machine
from loadtests.run.recording import FAILED, Recording
from loadtests.run.slo import judge, parse_slo
from loadtests.run.watch import NodeSample

BEGAN = 1000.0
FAULT = Happening(BEGAN + 10.2, "fault", "kill n2")


def _recording(*, seconds: int = 20, hurt: range = range(10, 13), rate_when_hurt: int = 20) -> Recording:
    """100 gets a second; in the ``hurt`` seconds fewer, of which 5 fail and one takes a second."""
    recording = Recording()
    for second in range(seconds):
        bad = second in hurt
        for number in range(rate_when_hurt if bad else 100):
            outcome = FAILED if bad and number < 5 else "hit" if number % 10 else "miss"
            recording.note(
                int(BEGAN) + second, "get", f"n{number % 2 + 1}", outcome, 1.0 if bad and not number else 0.001
            )
        recording.reasons[int(BEGAN) + second, "expired"] += 2
    return recording


def _outcome(recording: Recording) -> Outcome:
    outcome = Outcome("Load <test>", {"users": "5"}, BEGAN, BEGAN + 20, recording, [FAULT])
    outcome.samples = [NodeSample(BEGAN + at, "n1", NodeFigures(at << 20, 64 << 20, 5, 0)) for at in (1, 2, 3, 9, 10)]
    outcome.judgements = judge(parse_slo("failed=0,get.p50<1s"), recording, 20.0)
    return outcome


def test_a_fault_cost_what_failed_until_three_calm_seconds_followed() -> None:
    recording = _recording()
    cost = cost_of(FAULT, recording, Timelines(recording, BEGAN).seconds)
    assert cost is not None
    assert (cost.failed_reads, cost.failed_writes) == (15, 0)
    assert cost.lowest_rate == pytest.approx(0.2)
    assert cost.worst_ms == pytest.approx(1000)
    assert cost.recovered == pytest.approx(2.8)


def test_a_fault_that_hurt_nobody_was_over_at_once_and_one_at_the_end_is_not_over() -> None:
    calm = _recording(hurt=range(0))
    assert cost_of(FAULT, calm, Timelines(calm, BEGAN).seconds).recovered == 0  # type: ignore[union-attr]
    never = _recording(hurt=range(10, 20))
    assert cost_of(FAULT, never, Timelines(never, BEGAN).seconds).recovered is None  # type: ignore[union-attr]


def test_there_is_nothing_to_say_of_a_fault_before_anything_was_recorded() -> None:
    early = Happening(BEGAN - 5, "fault", "kill n1")
    recording = _recording()
    assert cost_of(early, recording, Timelines(recording, BEGAN).seconds) is None


def test_series_are_of_whole_seconds_only_and_agree_with_the_record() -> None:
    recording = _recording()
    lines = Timelines(recording, BEGAN)
    assert list(lines.seconds) == list(range(1001, 1019))
    rates = dict(lines.rates(lambda place: place.verb)["get"])
    assert (rates[1.0], rates[10.0]) == (100, 20)
    ratio = dict(lines.hit_ratio(["get"]))
    assert ratio[1.0] == pytest.approx(0.9)
    assert dict(lines.misses()["expired"])[5.0] == 2
    p100 = dict(lines.latencies("get", {"max": 1.0})["max"])
    assert p100[1.0] == pytest.approx(1.0, rel=0.02)
    assert p100[11.0] == pytest.approx(1000, rel=0.02)
    assert math.isnan(dict(lines.latencies("set", {"max": 1.0})["max"])[1.0])


def test_the_report_shows_the_verdict_the_fault_and_the_gap_of_a_silent_node() -> None:
    html = render(_outcome(_recording()), {"processor": "one & only"})
    assert "SLO not held: failed=0" in html
    assert html.count("kill n2</text>") == 7  # every chart
    assert "after 2.8 s" in html
    assert "Load &lt;test&gt;" in html
    assert "one &amp; only" in html
    memory = html[html.index("Memory per node") :]
    path = memory[memory.index('class="line"', memory.index("<svg class")) :].partition("/>")[0]
    assert path.count("M") == 2


def _right_and_wrong(recording: Recording) -> list[str]:
    html = render(_outcome(recording), {})
    cards = re.findall(r'<b class="(\w*)">([^<]*)</b><span>(?:acknowledged writes lost|old or wrong answers)<', html)
    rows = re.findall(r'<td class="(\w*)">([^<]*)</td></tr>', html[html.index("<h2>Right and wrong") :])[:3]
    return [f"{count} {tone}".strip() for tone, count in cards + rows]


@pytest.mark.parametrize(
    ("facts", "shown"),
    [
        ({"checked": 50}, ["0 good"] * 5),
        ({"checked": 50, "unreadable": 1}, ["-"] * 5),
        ({"checked": 50, "workers lost": 1, "lost": 3}, ["3 bad", "-", "3 bad", "-", "-"]),
        ({}, ["-", "0 good", "-", "0 good", "0 good"]),
    ],
)
def test_nothing_found_is_good_only_where_all_was_looked_at(facts: dict[str, int], shown: list[str]) -> None:
    recording = _recording()
    recording.facts.update(facts)
    assert _right_and_wrong(recording) == shown


def test_what_happened_after_the_users_had_ended_is_told_and_not_drawn() -> None:
    outcome = _outcome(_recording())
    outcome.happenings.append(Happening(BEGAN + 31, "healed", "n4 has joined"))
    html = render(outcome, {})
    assert '<td class="">n4 has joined</td>' in html
    assert "n4 has joined</text>" not in html


def test_the_summary_has_the_same_figures_for_programs() -> None:
    told = summary(_outcome(_recording()))
    assert told["operations"] == 17 * 100 + 3 * 20
    assert told["verbs"]["get"]["outcomes"]["failed"] == 15
    assert told["happenings"][0]["recovered_s"] == pytest.approx(2.8)
    assert [term["held"] for term in told["slo"]] == [False, True]


def test_a_run_in_which_nothing_happened_has_a_report_too() -> None:
    html = render(Outcome("nothing", {}, BEGAN, BEGAN + 1), machine())
    assert "nothing was recorded" in html
    assert "0 operations" not in html


def test_whether_a_report_can_be_written_is_known_before_the_run_and_leaves_nothing_behind(tmp_path: Path) -> None:
    check_place(str(tmp_path / "new" / "report.html"))
    assert not list((tmp_path / "new").iterdir())
    old = tmp_path / "old.html"
    old.write_text("of the run before")
    check_place(str(old))
    assert [it.name for it in tmp_path.iterdir() if it.is_file()] == ["old.html"]
    assert old.read_text() == "of the run before"


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("/proc/report.html", "can't be written"),
        ("{folder}", "can't be written: {folder}: Is a directory"),
        ("{folder}/taken/report.html", "can't be written: {folder}/taken: File exists"),
        ("{folder}/report.json", "that is where the figures go"),
        ("/", "can't be written"),
    ],
)
def test_a_place_where_no_report_can_be_is_named(tmp_path: Path, path: str, what: str) -> None:
    (tmp_path / "taken").write_text("")
    place = path.format(folder=tmp_path)
    with pytest.raises(CannotRun, match=re.escape(what.format(folder=tmp_path))) as caught:
        check_place(place)
    assert place in str(caught.value)


def test_the_machine_is_told_with_its_versions() -> None:
    told = machine()
    assert "cores" in told["processor"]
    assert told["locust"][0].isdigit()
