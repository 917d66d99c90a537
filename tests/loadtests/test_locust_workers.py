"""A master with two workers: one report from the records of all, also when a worker dies in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from locust_process import REPOSITORY, locust_command
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
        output = self._stack.enter_context((self.folder / f"{name}.log").open("wb"))
        process = subprocess.Popen(
            locust_command(*words),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=REPOSITORY,
        )
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        return process


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


def _running(run: Distributed) -> Callable[[], bool]:
    return lambda: "All users spawned" in run.output("master")


def test_a_worker_that_dies_in_the_middle_is_named_and_the_run_goes_on(distributed: Distributed) -> None:
    with _shown(distributed):
        master = distributed.master(*_options(distributed, 12))
        victim, other = distributed.worker(1), distributed.worker(2)
        wait_until(_running(distributed), 40)
        os.kill(victim.pid, signal.SIGKILL)
        assert [master.wait(60), other.wait(60)] == [0, 0]
        figures = distributed.figures()
        notes = [note for note in figures["notes"] if "was lost in the middle of the run" in note]
        assert len(notes) == 1
        assert notes[0].startswith("worker ")
        assert [it["text"] for it in figures["happenings"]] == notes
        assert figures["facts"]["checked"] == 300  # the keys of the one that is left
        assert figures["operations"] > 100
        assert notes[0] in (distributed.folder / "report.html").read_text()
