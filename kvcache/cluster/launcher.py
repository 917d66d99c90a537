"""Launcher: becomes another program that dies with the process that started it.

Run as a script: ``python -I -S launcher.py PARENT_PID PROGRAM ARGUMENT...``. Here lives what must happen
between the start of a child and its own program; it is a program of its own because code between fork and
exec is not safe in a process with threads. It imports the standard library only, so that it costs a few
milliseconds.

Linux: the kernel sends SIGKILL when the parent ends (``prctl(PR_SET_PDEATHSIG)``, see prctl(2); the wish
survives exec). Elsewhere: a small watching process looks twice a second whether the parent still lives.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Final

__all__ = ["main"]

PR_SET_PDEATHSIG: Final = 1
WATCH_SECONDS: Final = 0.5


def main(arguments: list[str]) -> None:
    """Tie this process to its parent, then become the program; returns only if that fails."""
    parent, command = int(arguments[0]), arguments[1:]
    if not _tie_by_kernel():
        _tie_by_watcher(parent)
    if os.getppid() != parent:  # it ended before we were tied to it
        sys.exit(1)
    try:
        os.execvp(command[0], command)  # noqa: S606  to become the program is the point
    except OSError as error:
        sys.exit(f"cannot start {command[0]}: {error.strerror}")


def _tie_by_kernel() -> bool:
    if not sys.platform.startswith("linux"):
        return False
    try:
        import ctypes

        return bool(ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) == 0)
    except (ImportError, OSError, AttributeError):  # a build without ctypes, or a libc without prctl
        return False


def _tie_by_watcher(parent: int) -> None:
    program = os.getpid()
    if os.fork():
        return
    while os.getppid() == program:  # otherwise the program ended, and there is nothing left to do
        try:
            os.kill(parent, 0)
        except ProcessLookupError:
            os.kill(program, signal.SIGKILL)
        time.sleep(WATCH_SECONDS)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
