"""Child processes: started so that they die with us, stopped so that none stays behind.

Here live the start and the stop of one process. Never here: what the process is for.

A child gets its own session, so that Ctrl-C at the terminal reaches only the parent, which then stops its
children in order. It dies with its parent also when that is killed (``launcher``).
"""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

from kvcache.cluster import launcher

__all__ = ["GRACE_SECONDS", "start_child", "stop_child"]

GRACE_SECONDS: Final = 5.0
"""How long a child may take to stop by itself before it is killed."""

_LAUNCHER: Final = str(Path(launcher.__file__).resolve())


async def start_child(
    command: Sequence[str],
    *,
    output: int | IO[bytes] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Process:
    """Start ``command`` and return its process; its pid is the program's own.

    ``output`` takes stdout and stderr (None: ours). Call it from a thread that lives as long as the child
    may: Linux takes the end of the thread that starts a child for the end of the parent.
    """
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-S",
        _LAUNCHER,
        str(os.getpid()),
        *command,
        stdin=DEVNULL,
        stdout=output,
        stderr=output,
        env=environment,
        start_new_session=True,
    )


async def stop_child(process: Process, grace: float = GRACE_SECONDS) -> int:
    """Ask the process to stop, kill it after ``grace`` seconds, and return its exit code once it is gone."""
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(grace):
            return await process.wait()
    except TimeoutError:
        return await _kill(process)
    finally:  # also when this was cancelled
        if process.returncode is None:
            await _kill(process)


async def _kill(process: Process) -> int:
    with suppress(ProcessLookupError):
        process.kill()
    return await process.wait()
