"""Crews: processes that begin their work at the same moment and tell what came of it.

Here lives starting them, the signal and the reports. Never here: what the work is (``stampede``, ``counting``).

A worker gets its task as JSON, prints ``ready``, waits for a line on its standard input and prints its report as JSON. It ends by
itself when its input ends, so it outlives nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Self, TypeAlias

from loadtests import CannotRun

__all__ = ["WORKER", "Crew", "Work", "work"]

WORKER: Final = "--worker"
_READY: Final = b"ready\n"
_READY_SECONDS: Final = 30.0
_REPORT_BYTES: Final = 64 << 20

Work: TypeAlias = Callable[[Mapping[str, Any], Callable[[], Awaitable[None]]], Awaitable[Mapping[str, Any]]]
"""Takes the task and what to await before the work begins; returns the report."""


class Crew:
    """``async with Crew("loadtests.stampede", tasks) as crew: ...``: one worker for each task."""

    def __init__(self, module: str, tasks: Sequence[Mapping[str, Any]]) -> None:
        self._module = module
        self._tasks = tasks
        self._workers: list[asyncio.subprocess.Process] = []

    async def __aenter__(self) -> Self:
        try:
            for task in self._tasks:
                command = [sys.executable, "-m", self._module, WORKER, json.dumps(task)]
                pipe = asyncio.subprocess.PIPE
                self._workers.append(
                    await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, limit=_REPORT_BYTES)
                )
            async with asyncio.timeout(_READY_SECONDS):
                await self._until_ready()
        except BaseException:
            await self._end()
            raise
        return self

    async def _until_ready(self) -> None:
        for worker in self._workers:
            if worker.stdout is None or await worker.stdout.readline() != _READY:
                raise CannotRun(f"a worker of {self._module} ended before it began; see above")

    def go(self) -> None:
        """Let all begin."""
        for worker in self._workers:
            if worker.stdin is not None:
                worker.stdin.write(b"go\n")

    async def reports(self) -> list[dict[str, Any]]:
        """Return what each worker reports, when all have."""
        lines = [await worker.stdout.readline() for worker in self._workers if worker.stdout is not None]
        if not all(lines):
            raise CannotRun(f"a worker of {self._module} ended without a report; see above")
        return [json.loads(line) for line in lines]

    async def _end(self) -> None:
        for worker in self._workers:
            with contextlib.suppress(ProcessLookupError):
                worker.kill()
            await worker.communicate()

    async def __aexit__(self, *_: object) -> None:
        await self._end()

    def __repr__(self) -> str:
        return f"<Crew {self._module} {len(self._workers)}>"


def work(task: str, do: Work) -> None:
    """Do one worker's part: the whole life of its process."""

    async def go() -> None:
        print(_READY.decode(), end="", flush=True)
        if not await asyncio.to_thread(sys.stdin.readline):
            raise CannotRun("nobody is left to work for")

    async def live() -> None:
        report = await do(json.loads(task), go)
        print(json.dumps(report), flush=True)

    asyncio.run(live())
