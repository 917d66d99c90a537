"""Locust as a process: what importing it does to a process (gevent patches the standard library) must not happen to the tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["LOCUSTFILE", "REPOSITORY", "Ran", "locust_command", "run_locust", "run_script", "started_locust"]

REPOSITORY = Path(__file__).resolve().parents[2]
LOCUSTFILE = REPOSITORY / "loadtests" / "locustfile.py"
_SECONDS = 150.0


@dataclass(frozen=True)
class Ran:
    """What came of it."""

    code: int
    output: str


def locust_command(*words: str) -> list[str]:
    return [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--only-summary", *words]


def run_locust(*words: str, **environment: str) -> Ran:
    return _run(locust_command("--headless", *words), environment)


@contextmanager
def started_locust(log: Path, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A Locust that is there until the end of the block; what it says goes to ``log``."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            locust_command(*words), stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=REPOSITORY
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def run_script(name: str, *words: str) -> Ran:
    """Run a script beside this file in a process of its own, which may import Locust."""
    return _run([sys.executable, str(Path(__file__).parent / "scripts" / name), *words], {})


def _run(command: list[str], environment: dict[str, str]) -> Ran:
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_SECONDS,
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        check=False,
    )
    return Ran(done.returncode, done.stdout)
