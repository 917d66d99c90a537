"""The bench: turns, medians, goals, tables and its command line; what it measures is not for a test to judge."""

from __future__ import annotations

import asyncio
import io
import json
import signal
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from loadtests import CannotRun
from loadtests.bench.__main__ import main, parser
from loadtests.bench.arena import KEYS, VALUES
from loadtests.bench.calls import Missed, async_rate, blocking_rate
from loadtests.bench.capacity import DIALECTS, drive
from loadtests.bench.goals import GOALS, AtLeast, AtMost, judge
from loadtests.bench.memory import mixed_records, small_records
from loadtests.bench.report import document_of, print_tables
from loadtests.bench.turns import Contestant, Outcome, take_turns, warm_up_seconds
from loadtests.bench.works import SECTIONS, WORKS, choose, measure, turns_of
from loadtests.peers import ASYNC_CLIENTS, BLOCKING_CLIENTS, AsyncCache, BlockingCache, start_peer

# --- turns


def _unbroken(name: str, error: Exception) -> None:
    raise AssertionError(name) from error


def test_a_contestant_that_breaks_is_out_and_the_others_go_on() -> None:
    broken: list[tuple[str, str]] = []
    turns = iter([1.0, 2.0, 3.0])

    def fail_at_the_third(seconds: float) -> float:
        figure = next(turns)
        if figure == 3.0:
            raise TimeoutError("too slow")
        return figure

    contestants = [Contestant("a", lambda seconds: seconds), Contestant("b", fail_at_the_third)]
    samples = take_turns(
        contestants, 3, 1.0, lambda name: None, broke=lambda name, error: broken.append((name, str(error)))
    )
    assert samples == {"a": [1.0, 1.0, 1.0]}
    assert broken == [("b", "too slow")]


def test_contestants_take_turns_within_each_round_and_a_different_one_begins() -> None:
    ran: list[tuple[str, float]] = []
    finished: list[str] = []

    def contestant(name: str) -> Contestant:
        return Contestant(name, lambda seconds: ran.append((name, seconds)) or float(len(ran)))

    samples = take_turns([contestant(name) for name in "abc"], 3, 2.0, finished.append, broke=_unbroken)
    assert finished == ["a", "b", "c", "b", "c", "a", "c", "a", "b"]
    assert {name: len(figures) for name, figures in samples.items()} == {"a": 3, "b": 3, "c": 3}
    # Each turn is preceded by a shorter one that is not counted.
    assert ran[:4] == [("a", warm_up_seconds(2.0)), ("a", 2.0), ("b", warm_up_seconds(2.0)), ("b", 2.0)]
    assert samples["a"][0] == 2.0


def test_the_figure_is_the_median_and_a_ratio_is_taken_to_the_best_other() -> None:
    outcome = Outcome("async-get-1", {"kvcache": [30, 10, 20], "redis-py": [10, 99, 10], "emcache": [40, 40, 0]})
    assert outcome.medians == {"kvcache": 20, "redis-py": 10, "emcache": 40}
    assert outcome.ratio("kvcache", ["redis-py"]) == 2
    assert outcome.ratio("kvcache", ["redis-py", "emcache"]) == 0.5
    assert outcome.best(["redis-py", "emcache"], lower_is_better=True) == "redis-py"
    assert outcome.ratio("kvcache", ["aiomcache"]) is None
    assert Outcome("async-get-1", {}).ratio("kvcache", ["redis-py"]) is None


# --- goals


def test_a_goal_is_reached_missed_or_left_open() -> None:
    outcome = Outcome("x", {"kvcache": [20.0], "redis-py": [10.0]})
    assert AtLeast(2, ("redis-py",)).judge(outcome).reached is True
    assert AtLeast(2.1, ("redis-py",)).judge(outcome).reached is False
    assert AtLeast(1, ("emcache",)).judge(outcome).reached is None
    assert AtMost(20, "B").judge(outcome).reached is True
    assert AtMost(19, "B").judge(outcome).reached is False
    assert AtMost(19, "B").judge(Outcome("x", {})).measured is None


def test_a_goal_against_several_peers_is_one_against_the_best_of_them() -> None:
    outcome = Outcome("async-get-50", {"kvcache": [100.0], "redis-py": [10.0], "aiomcache": [40.0], "emcache": [60.0]})
    assert [(verdict.measured, verdict.reached) for verdict in judge(outcome)] == [
        (10.0, True),
        (pytest.approx(100 / 60), False),
    ]


def test_every_goal_belongs_to_a_work_and_names_its_contestants() -> None:
    works = {work.name: work for work in WORKS}
    for name, goals in GOALS.items():
        for goal in goals:
            assert set(getattr(goal, "peers", ())) <= set(works[name].contestants)


# --- works


def test_works_are_chosen_by_name_or_by_the_beginning_of_it() -> None:
    assert [work.name for work in choose(["async-get-50"])] == ["async-get-50"]  # and not async-get-500
    assert [work.name for work in choose(["memory", "capacity-get-1"])] == [
        "capacity-get-1",
        "memory-record",
        "memory-budget",
    ]
    assert choose([]) == WORKS
    with pytest.raises(CannotRun, match=r"no work is called 'speed'.*async-get-1"):
        choose(["speed"])


def test_every_work_has_ours_and_belongs_to_a_section_whose_reference_it_has() -> None:
    for work in WORKS:
        assert work.contestants[0] == "kvcache"
        assert work.section in SECTIONS
        assert turns_of(work, 5) == len(work.contestants) * (1 if work.once else 5)


def test_a_contestant_that_cannot_take_part_is_reported_and_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    (work,) = choose(["blocking-get-many"])

    def opener(arena: Any, stack: Any, name: str) -> Contestant:
        if name != "kvcache":
            raise CannotRun(f"install {name}")
        return Contestant(name, lambda seconds: 5.0)

    skipped: dict[str, str] = {}
    once = type(work)(work.name, work.title, work.section, work.contestants, opener, once=True)
    outcome = measure(
        once, None, 3, 1.0, finished=lambda name: None, skipped=lambda name, why: skipped.update({name: str(why)})
    )
    assert outcome.medians == {"kvcache": 5.0}
    assert skipped == {"redis-py": "install redis-py", "pymemcache": "install pymemcache"}


# --- what is measured


async def test_asyncio_calls_are_counted_and_a_miss_ends_the_measurement() -> None:
    asked: set[bytes] = set()

    async def get(key: bytes) -> bytes | None:
        asked.add(key)
        await asyncio.sleep(0)
        return VALUES[key]

    async def nothing(*_: Any) -> None:
        await asyncio.sleep(0)

    rate = await async_rate(AsyncCache(get, nothing, nothing), "get", 3, 0.02)
    assert rate > 0
    assert asked <= set(KEYS)
    assert await async_rate(AsyncCache(get, nothing, nothing), "set", 3, 0.02) > 0
    with pytest.raises(Missed, match="missed"):
        await async_rate(AsyncCache(nothing, nothing, nothing), "get", 3, 0.02)


def test_blocking_batches_must_be_whole_and_their_keys_are_counted() -> None:
    calls: list[int] = []

    def get_many(keys: list[bytes]) -> dict[bytes, bytes]:
        calls.append(len(keys))
        return {key: VALUES[key] for key in keys}

    cache = BlockingCache(VALUES.get, get_many, lambda values: [], lambda: None, failures_of=len)
    assert blocking_rate(cache, "get", 0.005) > 0
    assert blocking_rate(cache, "get_many", 0.005) > 0
    assert blocking_rate(cache, "set_many", 0.005) > 0
    assert set(calls) == {100}
    broken = BlockingCache({}.get, lambda keys: {}, lambda values: ["key"], lambda: None, failures_of=len)
    for verb in ("get", "get_many", "set_many"):
        with pytest.raises(Missed):
            blocking_rate(broken, verb, 0.005)


def test_the_generator_reads_every_reply_that_it_asked_for() -> None:
    """Four connections to a server that answers 3 bytes with 5."""
    pairs = [socket.socketpair() for _ in range(4)]
    served = []

    def serve(end: socket.socket) -> None:
        while request := end.recv(3, socket.MSG_WAITALL):
            served.append(request)
            end.sendall(b"reply")

    threads = [threading.Thread(target=serve, args=(far,)) for _, far in pairs]
    for thread in threads:
        thread.start()
    try:
        answered = drive([near for near, _ in pairs], [b"abc", b"def"], 5, 0.05)
    finally:
        for near, _ in pairs:
            near.close()
        for thread in threads:
            thread.join(10)
        for _, far in pairs:
            far.close()
    assert answered == len(served) >= 4
    assert set(served) == {b"abc", b"def"}


def test_requests_of_one_dialect_all_have_one_length() -> None:
    for dialect in DIALECTS.values():
        assert len({len(dialect.get(number, KEYS[number])) for number in range(10_000)}) == 1


def test_records_for_the_memory_works_are_as_large_as_they_say() -> None:
    assert [(len(key), len(value)) for key, value in small_records(3)] == [(16, 100)] * 3
    mixed = list(mixed_records(1 << 20))
    sizes = [len(value) for _, value in mixed]
    assert 1 << 20 <= sum(sizes) + 16 * len(mixed) < (1 << 20) + 4200
    assert 64 <= min(sizes) < 100 < 3500 < max(sizes) <= 4096
    assert mixed == list(mixed_records(1 << 20))  # the same in every run


# --- peers


def test_a_missing_package_is_a_line_that_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr("loadtests.peers.importlib.import_module", missing)
    with pytest.raises(CannotRun, match=r"pymemcache is not installed: pip install pymemcache"):
        BLOCKING_CLIENTS["pymemcache"].open("127.0.0.1:1")


def test_a_missing_server_is_a_line_that_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadtests.peers.shutil.which", lambda name: None)
    with pytest.raises(CannotRun, match="apt install memcached"):
        start_peer("memcached")


def test_every_asyncio_contestant_has_a_server() -> None:
    assert {spec.server for spec in ASYNC_CLIENTS.values()} == {"kvcache", "redis", "memcached"}


# --- report


def test_the_tables_show_figures_ratios_and_whether_a_goal_is_reached() -> None:
    outcomes = [
        Outcome("blocking-get", {"kvcache": [23_000.0], "redis-py": [10_000.0], "pymemcache": [30_000.0]}),
        Outcome("memory-budget", {"kvcache": [1.04]}),
        Outcome("capacity-get-1", {}),
    ]
    text = io.StringIO()
    print_tables(Console(file=text, width=200), outcomes)
    shown = " ".join(text.getvalue().split())
    for part in ("23,000", "2.30x", "0.77x pymemcache", "2.2x redis-py: 2.30", "<= 1.1 x budget: 1.04", "yes", "no"):
        assert part in shown
    assert "asyncio" not in shown  # a section without a work has no table


def test_the_document_holds_every_sample_and_is_json() -> None:
    outcome = Outcome("blocking-get", {"kvcache": [2.0, 4.0, 3.0], "redis-py": [1.0, 1.0, 1.0]})
    document = json.loads(json.dumps(document_of([outcome], {"rounds": 3}, {"emcache": "absent"})))
    (work,) = document["works"]
    assert work["samples"]["kvcache"] == [2.0, 4.0, 3.0]
    assert work["ratio_to_reference"] == work["ratio_to_best_other"] == 3.0
    assert [goal["reached"] for goal in work["goals"]] == [True, None]
    assert document["skipped"] == {"emcache": "absent"}
    assert "redis" in document["versions"]


# --- command


@pytest.mark.parametrize(
    "arguments", [["--rounds", "0"], ["--seconds", "0"], ["--seconds", "3600"], ["--loop", "trio"]]
)
def test_an_argument_that_makes_no_sense_is_named_with_exit_code_two(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ending:
        main(arguments)
    assert ending.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_an_unknown_work_is_one_line_and_exit_code_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "speed"]) == 2
    assert "no work is called 'speed'" in capsys.readouterr().err


def test_the_defaults_are_five_rounds_of_a_second_on_uvloop() -> None:
    arguments = parser().parse_args([])
    assert (arguments.rounds, arguments.seconds, arguments.loop) == (5, 1.0, "uvloop")


@pytest.mark.slow
def test_a_short_bench_measures_a_real_node_and_writes_every_sample(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bench.json"
    before = signal.getsignal(signal.SIGTERM)
    works = "async-get-1,capacity-get-1"
    code = main(["--only", works, "--rounds", "1", "--seconds", "0.05", "--json", str(file)])
    assert signal.getsignal(signal.SIGTERM) == before
    assert code == 0, capsys.readouterr().err
    document = json.loads(file.read_text())
    measured = {work["name"]: work["medians"]["kvcache"] for work in document["works"]}
    assert all(figure > 0 for figure in measured.values())
    assert set(measured) == {"async-get-1", "capacity-get-1"}
