"""Users: a process of Locust users, as the run drives it.

Here lives starting it, asking it for turns, and what a turn gave. Never here: Locust itself (``user_process``).
"""

from __future__ import annotations

import base64
import contextlib
import json
import selectors
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from loadtests import CannotRun
from loadtests.run.recording import BAD, Recording

__all__ = ["Turn", "UserProcess"]

_START_SECONDS: Final = 60.0
_PATIENCE_SECONDS: Final = 30.0  # beyond the turn's own length


@dataclass(frozen=True, slots=True)
class Turn:
    """What the users of one cache did in one turn."""

    seconds: float
    cpu_seconds: float
    recording: Recording

    @property
    def operations(self) -> int:
        """How many were answered or failed."""
        return self.recording.count()

    @property
    def per_second(self) -> float:
        """Operations per second."""
        return self.operations / self.seconds

    @property
    def per_cpu_second(self) -> float:
        """Operations per second that the Locust process spent on a core."""
        return self.operations / self.cpu_seconds

    @property
    def failed(self) -> int:
        """Operations that failed or are in doubt."""
        return self.recording.count(*BAD)

    @property
    def wrong(self) -> int:
        """Answers that no cache may give."""
        return self.recording.facts["wrong"] + self.recording.facts["old"]

    def latency_ms(self, fraction: float, verb: str | None = None) -> float:
        """Return a percentile of all operations, or of a verb, in milliseconds."""
        return self.recording.latency(verb).percentile(fraction) * 1e3


class UserProcess:
    """``with UserProcess(cache, host, mix, users, options) as users: users.turn(3.0)``. Raises ``CannotRun``."""

    def __init__(self, cache: str, host: str, mix: str, users: int, options: Sequence[str] = ()) -> None:
        self.cache = cache
        self._complaints = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by __exit__
        self._process = subprocess.Popen(
            [sys.executable, "-m", "loadtests.compare.user_process", cache, host, mix, str(users), *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            text=True,
            bufsize=1,
        )

    def __enter__(self) -> Self:
        try:
            self._line(_START_SECONDS)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        process = self._process
        with contextlib.suppress(OSError):
            process.stdin and process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout:
            process.stdout.close()
        self._complaints.close()

    def turn(self, seconds: float) -> Turn:
        """Let the users loose for so long. Raises ``CannotRun`` if their process ends or is far too late."""
        stdin = self._process.stdin
        with contextlib.suppress(BrokenPipeError):  # that it has ended is said by what it does not answer
            if stdin:
                stdin.write(f"{seconds}\n")
                stdin.flush()
        told = json.loads(self._line(2 * seconds + _PATIENCE_SECONDS))
        recording = Recording.from_bytes(base64.b85decode(told["record"]))
        return Turn(told["seconds"], told["cpu_seconds"], recording)

    def _line(self, seconds: float) -> str:
        stdout = self._process.stdout
        with selectors.DefaultSelector() as selector:
            if stdout is not None and selector.register(stdout, selectors.EVENT_READ) and selector.select(seconds):
                line = stdout.readline()
                if line.endswith("\n"):
                    return line
        self._process.kill()
        self._process.wait()
        raise CannotRun(f"the users of {self.cache} ended or said nothing: {self._last_complaint()}")

    def _last_complaint(self) -> str:
        self._complaints.seek(0)
        lines = self._complaints.read().strip().splitlines()
        return lines[-1] if lines else "they did not say why"

    def __repr__(self) -> str:
        return f"<UserProcess {self.cache} pid={self._process.pid}>"
