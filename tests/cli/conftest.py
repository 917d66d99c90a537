"""What the tests of the command line share: running it in this process, and as processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from kvcache.cli import app

KVCACHE = [sys.executable, "-m", "kvcache"]


@pytest.fixture(autouse=True)
def _no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("KVCACHE_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def run() -> Callable[..., Result]:
    """Run a command in this process."""
    return lambda *words, **options: CliRunner().invoke(app, list(words), catch_exceptions=False, **options)


@pytest.fixture
def shell() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a command as a process."""

    def invoke(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*KVCACHE, *words], capture_output=True, text=True, timeout=30, check=False, **options)

    return invoke


@pytest.fixture
def is_alive() -> Callable[[int], bool]:
    """Say whether a process runs; one that ended but was not waited for yet does not."""

    def look(pid: int) -> bool:
        try:
            stat = Path(f"/proc/{pid}/stat").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            return False
        return stat.rpartition(b")")[2].split()[0] not in (b"Z", b"X")

    return look


@pytest.fixture
def until() -> Callable[..., Any]:
    """Wait for a condition and return what it said; fail when it does not hold for too long."""

    def wait(condition: Callable[[], Any], seconds: float = 30.0) -> Any:
        deadline = time.monotonic() + seconds
        while not (held := condition()):
            assert time.monotonic() < deadline, "waited too long"
            time.sleep(0.02)
        return held

    return wait


class Up:
    """``kvcache up`` as a process."""

    def __init__(self, process: subprocess.Popen[str], errors: Path) -> None:
        self.process = process
        self._errors = errors

    @property
    def errors(self) -> str:
        return self._errors.read_text()

    def facts(self) -> dict[str, Any]:
        """Return what it prints with --json once it is ready."""
        return json.loads(self.process.stdout.readline() or "{}")

    def children(self) -> list[int]:
        pid = self.process.pid
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def stop(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(20)


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    """Start ``kvcache up`` on free ports; whatever the test leaves running is killed with all its children."""
    started: list[Up] = []

    def start(*words: str, port: int = 0, **options: Any) -> Up:
        errors = tmp_path / f"errors-{len(started)}"
        with errors.open("w") as output:
            command = [*KVCACHE, "up", "--port", str(port), *words]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=output, text=True, **options)
        started.append(Up(process, errors))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.wait(20)
        each.process.stdout.close()
