"""A master with two workers: one report from the records of all, also when a worker dies in the middle."""

from __future__ import annotations

import json
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from locust_process import started_locust
from polling import wait_until
from serving import ServingCluster

from loadtests.server_process import free_ports

pytestmark = pytest.mark.slow


class Distributed:
    """A master and its workers, each in a process of its own, with its output in a file."""

    def __init__(self, folder: Path, seeds: str, stack: ExitStack) -> None:
        self.folder = folder
        self.port = str(free_ports(1)[0])
        self._seeds = seeds
        self._stack = stack

    def master(self, *words: str) -> subprocess.Popen[bytes]:
        common = ["--headless", "--master", "--master-bind-port", self.port, "--expect-workers", "2"]
        return self._start("master", *common, "-H", self._seeds, *words)

    def worker(self, number: int) -> subprocess.Popen[bytes]:
        return self._start(f"worker{number}", "--worker", "--master-port", self.port, "ReadWrite")

    def output(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def figures(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads((self.folder / "report.json").read_text())
        return told

    def _start(self, name: str, *words: str) -> subprocess.Popen[bytes]:
        return self._stack.enter_context(started_locust(self.folder / f"{name}.log", *words))


@pytest.fixture
def distributed(tmp_path: Path, three_nodes: ServingCluster) -> Iterator[Distributed]:
    with ExitStack() as stack:
        yield Distributed(tmp_path, three_nodes.seeds, stack)


@contextmanager
def _shown(run: Distributed) -> Iterator[None]:
    """Show what the processes said when something was not as it should be."""
    try:
        yield
    except BaseException:
        for log in sorted(run.folder.glob("*.log")):
            print(f"---- {log.name}\n{log.read_text()}")
        raise


def _options(run: Distributed, seconds: int) -> list[str]:
    report = str(run.folder / "report.html")
    words = ["-u", "6", "-r", "6", "-t", f"{seconds}s", "--keys", "300", "--report", report]
    return [*words, "--json-file", str(run.folder / "locust"), "--slo", "failed=0,lost=0,wrong=0,old=0", "ReadWrite"]


def test_the_records_of_two_workers_are_one_report(distributed: Distributed) -> None:
    with _shown(distributed):
        master = distributed.master(*_options(distributed, 5))
        workers = [distributed.worker(number) for number in (1, 2)]
        assert [process.wait(60) for process in (master, *workers)] == [0, 0, 0]
        figures = distributed.figures()
        assert figures["facts"]["checked"] == 600  # the keys of both
        counted = Counter[str]()
        for row in json.loads((distributed.folder / "locust.json").read_text()):
            counted[row["method"]] += row["num_requests"]
        assert counted == {verb: it["operations"] for verb, it in figures["verbs"].items()}
        assert all(term["held"] for term in figures["slo"])
        assert not figures["notes"]


def _says(run: Distributed, text: str) -> Callable[[], bool]:
    return lambda: text in run.output("master")


def test_who_comes_and_goes_in_the_middle_is_named_and_what_nobody_looked_for_is_not_held(
    distributed: Distributed,
) -> None:
    """One worker is killed, one is stopped in order, one joins late. Then SIGTERM ends the master, long before its time."""
    with _shown(distributed):
        master = distributed.master(*_options(distributed, 120))
        killed, stopped = distributed.worker(1), distributed.worker(2)
        wait_until(_says(distributed, "The users begin"), 40)
        late = distributed.worker(3)
        wait_until(_says(distributed, "worker 2 joined in the middle of the run"), 40)
        killed.kill()
        wait_until(_says(distributed, "was lost in the middle of the run"), 40)
        stopped.send_signal(signal.SIGINT)
        wait_until(_says(distributed, "was stopped in the middle of the run"), 40)
        master.send_signal(signal.SIGTERM)
        assert [process.wait(60) for process in (master, stopped, late)] == [1, 0, 0]
        figures = distributed.figures()
        assert figures["notes"] == [it["text"] for it in figures["happenings"]]
        assert [note.partition(" in the middle of the run")[0][9:] for note in figures["notes"]] == [
            "joined",
            "was lost",
            "was stopped",
        ]
        assert figures["facts"]["workers lost"] == 1
        assert figures["facts"]["checked"] == 600  # the keys of the two that could still look for them
        assert figures["operations"] > 100
        assert {term["term"]: term["held"] for term in figures["slo"]} == {
            "failed=0": True,
            "lost=0": False,
            "wrong=0": False,
            "old=0": False,
        }
        assert "lost=0: FAILED, 0, but 1 workers took with them" in distributed.output("master")
        assert "Traceback" not in distributed.output("worker3")
