"""One server as a child process: started on a core of its own, measured through /proc, gone at the end.

Here lives what is the same for every server of a load test, ours or a peer's. Never here: which options a
server takes (``local_cluster``, ``peers``).

A child gets its own session, so that Ctrl-C in the terminal reaches only the load test, which then stops its
children in order; it dies with the load test also when that is killed (``kvcache.cluster.launcher``). What a
child prints goes to a nameless temporary file; its end is shown when the child does not start.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from kvcache.cluster import launcher
from loadtests import CannotRun

__all__ = ["ServerProcess", "accepts", "free_ports", "on_core"]

_LOG_TAIL_BYTES: Final = 2000
_LAUNCHER: Final = str(Path(launcher.__file__).resolve())


def free_ports(count: int) -> list[int]:
    """Return ``count`` different loopback ports that are free now; another process may still be quicker."""
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in listeners]


def accepts(port: int) -> bool:
    """Say whether something accepts connections on this loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """Children started inside run on ``core`` only (a child inherits it); None changes nothing."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class ServerProcess:
    """A running server. ``stop`` is safe to call twice and never leaves the process behind."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        core: int | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop
        try:
            with on_core(core):
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", _LAUNCHER, str(os.getpid()), *command],
                    stdin=subprocess.DEVNULL,
                    stdout=self._log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    env=environment,
                )
        except OSError as error:
            self._log.close()
            raise CannotRun(f"{name} cannot be started: {error}") from error

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether it is gone."""
        return self._process.poll() is not None

    def wait_until(self, ready: Callable[[], bool], seconds: float = 15.0) -> None:
        """Poll until ``ready()``; raises ``CannotRun`` with its last line if it dies or is too late."""
        deadline = time.monotonic() + seconds
        while not ready():
            if self._process.poll() is not None:
                raise CannotRun(f"{self.name} ended with code {self._process.returncode}: {self.last_line()}")
            if time.monotonic() > deadline:
                raise CannotRun(f"{self.name} was not ready within {seconds:g} s: {self.last_line()}")
            time.sleep(0.02)

    def last_line(self) -> str:
        """Return the last line that the server printed."""
        descriptor = self._log.fileno()
        size = os.fstat(descriptor).st_size
        # pread, because the child writes through the same file offset.
        tail = os.pread(descriptor, _LOG_TAIL_BYTES, max(0, size - _LOG_TAIL_BYTES))
        text = tail.decode(errors="replace").strip()
        return text.splitlines()[-1].strip() if text else "it printed nothing"

    def memory_bytes(self, field: str = "VmRSS") -> int:
        """Return a memory figure of /proc/PID/status: ``VmRSS`` now, ``VmHWM`` at its highest."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
        raise CannotRun(f"/proc/{self.pid}/status has no {field}; memory is measured on Linux only")

    def cpu_seconds(self) -> float:
        """Return the time that the process has spent on a core, all threads, user and system, in seconds."""
        nanoseconds = sum(
            int(task.read_text().split()[0]) for task in Path(f"/proc/{self.pid}/task").glob("*/schedstat")
        )
        return nanoseconds / 1e9

    def stop(self, grace: float = 5.0) -> None:
        """Ask the server to end, and after ``grace`` seconds make it."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(grace)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._log.close()

    def __repr__(self) -> str:
        state = "running" if self._process.poll() is None else f"ended {self._process.returncode}"
        return f"<ServerProcess {self.name} pid={self.pid} {state}>"
