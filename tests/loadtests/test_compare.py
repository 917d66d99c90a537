"""The comparison: medians, ratios, goals, the page, and a whole run with real servers that is as short as can be."""

from __future__ import annotations

import io
import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from loadtests import CannotRun
from loadtests.compare import __main__ as command
from loadtests.compare.figures import GOALS, Comparison, Verdict, judge
from loadtests.compare.report import comparison_page, print_summary
from loadtests.compare.systems import SYSTEMS, System
from loadtests.compare.users import Turn, UserProcess
from loadtests.run.recording import FAILED, IN_DOUBT, Recording


def turn(operations: int, latency: float = 0.001, outcome: str = "hit", verb: str = "get") -> Turn:
    recording = Recording()
    for _ in range(operations):
        recording.note(1, verb, "", outcome, latency)
    return Turn(seconds=2.0, cpu_seconds=1.0, recording=recording)


def comparison(**rates: Sequence[int]) -> Comparison:
    return Comparison("ReadMostly", {name: [turn(rate) for rate in each] for name, each in rates.items()})


# --- figures


def test_a_figure_is_the_median_of_the_rounds_and_a_ratio_is_of_medians() -> None:
    measured = comparison(kvcache=[30, 10, 90], redis=[20, 10, 10])
    assert measured.median_of("kvcache", lambda it: it.per_second) == 15
    assert measured.ratio("redis", lambda it: it.per_second) == 3
    assert measured.ratio("redis", lambda it: it.per_cpu_second) == 3


def test_what_was_not_measured_has_no_ratio_and_its_goals_are_open() -> None:
    measured = comparison(kvcache=[10], memcached=[])
    assert measured.ratio("memcached", lambda it: it.per_second) is None
    assert {verdict.reached for verdict in judge(measured)} == {None}


@pytest.mark.parametrize(("ours", "reached"), [(150, True), (149, False)])
def test_half_as_many_again_as_redis_is_wanted(ours: int, reached: bool) -> None:
    verdict = judge(comparison(kvcache=[ours], redis=[100]))[0]
    assert verdict.measured == ours / 100
    assert verdict.reached is reached


@pytest.mark.parametrize(
    ("bound", "at_most", "measured", "reached"), [(1.0, True, 1.01, False), (1.0, True, 1.0, True)]
)
def test_a_latency_may_not_be_above_its_bound(bound: float, at_most: bool, measured: float, reached: bool) -> None:
    goal = next(it for it in GOALS if it.at_most is at_most and it.bound == bound)
    assert Verdict(goal, measured).reached is reached


def test_every_goal_names_a_system_that_there_is() -> None:
    assert {goal.other for goal in GOALS} == SYSTEMS.keys() - {"kvcache"}


def test_failed_and_wrong_answers_are_counted_apart() -> None:
    measured = turn(3, outcome=FAILED)
    measured.recording.note(1, "set", "", IN_DOUBT, 0.001)
    measured.recording.note(1, "get", "", "hit", 0.001)
    measured.recording.facts["old"] = 1
    assert (measured.operations, measured.failed, measured.wrong) == (5, 4, 1)


# --- turns


class Scripted:
    """Users whose turns are numbered over all, and who end at one of them."""

    def __init__(self, name: str, log: list[str], ends_at: int = 0) -> None:
        self.name, self.log, self.ends_at, self.turns = name, log, ends_at, 0

    def turn(self, seconds: float) -> Turn:
        self.turns += 1
        self.log.append(self.name)
        if self.turns == self.ends_at:
            raise CannotRun("gone")
        return turn(1)


def take(users: dict[str, Scripted], rounds: int) -> tuple[dict[str, list[Turn]], str]:
    said = io.StringIO()
    turns = command.take_turns(users, rounds, 1.0, Console(file=said))  # type: ignore[arg-type]
    return turns, said.getvalue()


def test_another_begins_each_round() -> None:
    log: list[str] = []
    turns, _ = take({name: Scripted(name, log) for name in "abc"}, 3)
    assert "".join(log) == "abcbcacab"
    assert {name: len(each) for name, each in turns.items()} == {"a": 3, "b": 3, "c": 3}


def test_one_that_ends_is_out_with_all_its_turns_and_the_others_go_on() -> None:
    log: list[str] = []
    turns, said = take({"a": Scripted("a", log), "b": Scripted("b", log, ends_at=2)}, 3)
    assert {name: len(each) for name, each in turns.items()} == {"a": 3}
    assert "b is out: gone" in said


# --- shown


def test_the_page_and_the_summary_show_every_cache_and_every_goal() -> None:
    measured = comparison(kvcache=[300, 310], redis=[100, 110], memcached=[200, 220])
    page = comparison_page([measured], "a machine", ["memcached is skipped: no memcached: apt install memcached"])
    out = io.StringIO()
    print_summary(Console(file=out, width=200), [measured], ["a note"])
    for system in SYSTEMS.values():
        assert system.title in page
        assert system.title in out.getvalue()
    for goal in GOALS:
        assert goal.text in out.getvalue()
    assert "apt install memcached" in page
    assert "a note" in out.getvalue()
    assert page.count('<svg class="chart"') == 3


# --- the whole command

QUICK = ["--rounds", "1", "--seconds", "0.2", "--users", "4", "--keys", "200"]


@pytest.mark.slow
def test_a_whole_comparison_writes_its_report_and_no_answer_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main([*QUICK, "--mix", "ReadWrite,Batch", "--output", str(tmp_path / "deep" / "report")]) == 0
    document = json.loads((tmp_path / "deep" / "report" / "compare.json").read_text())
    assert [it["mix"] for it in document["comparisons"]] == ["ReadWrite", "Batch"]
    there = SYSTEMS.keys() - {note.split()[0] for note in document["skipped"]}
    for it in document["comparisons"]:
        assert it["systems"].keys() == there
        for figures in it["systems"].values():
            assert figures["per_second"][0] > 0
            assert (figures["failed"], figures["wrong"]) == (0, 0)
    assert "<svg" in (tmp_path / "deep" / "report" / "compare.html").read_text()
    shown = capsys.readouterr()
    assert "requests/s" in shown.out
    assert all("skipped" in line for line in shown.err.splitlines() if "apt" in line)


@pytest.mark.slow
def test_a_peer_that_is_missing_is_skipped_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing() -> object:
        raise CannotRun("no memcached: apt install memcached")

    ours = SYSTEMS["kvcache"]
    monkeypatch.setattr(command, "SYSTEMS", {"kvcache": ours, "memcached": System("memcached", "m", missing)})  # type: ignore[arg-type]
    assert command.main([*QUICK, "--mix", "ReadMostly", "--output", str(tmp_path)]) == 0
    assert capsys.readouterr().err.count("memcached is skipped: no memcached: apt install memcached\n") == 1
    assert json.loads((tmp_path / "compare.json").read_text())["comparisons"][0]["systems"].keys() == {"kvcache"}


@pytest.mark.slow
def test_users_of_a_cache_that_is_not_there_say_why() -> None:
    with (
        pytest.raises(CannotRun, match="no memcached at"),
        UserProcess("memcached", "memcached://127.0.0.1:1", "ReadMostly", 1),
    ):
        pass


@pytest.mark.slow
def test_users_who_are_killed_are_missed_at_once() -> None:
    try:
        with (
            SYSTEMS["memcached"].start() as host,
            UserProcess("memcached", host, "ReadMostly", 2, ["--keys", "10"]) as users,
        ):
            os.kill(users._process.pid, signal.SIGKILL)
            with pytest.raises(CannotRun, match="users of memcached ended"):
                users.turn(0.1)
    except CannotRun as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--mix", "Everything"], "Everything"),
        (["--rounds", "0"], "--rounds is 0"),
        (["--seconds", "0"], "--seconds is 0"),
        (["--users", "5000"], "--users is 5000"),
        (["--output", __file__], "is no folder"),
    ],
)
def test_a_senseless_option_is_named_before_anything_starts(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(arguments)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
