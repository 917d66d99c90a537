"""Outcomes: the exit codes that scripts rely on, and the one place where an error becomes a line and a code.

Here lives the table of codes. Never here: what a command does.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from enum import IntEnum
from typing import Final, ParamSpec

import typer

from kvcache_client.protocol.errors import InDoubt, KvCacheError, NotApplied, UsageError

__all__ = ["CODES_HELP", "ExitCode", "exit_code_of", "reported"]

P = ParamSpec("P")


class ExitCode(IntEnum):
    """How a command ended."""

    FINE = 0
    NEGATIVE = 1
    USAGE = 2
    UNAVAILABLE = 3
    FAILED = 4


CODES_HELP: Final = (
    "Exit codes: 0 fine; 1 not found, or the answer is no; 2 wrong usage, or a port that is taken; "
    "3 the cluster or its coordination is not available; 4 any other failure."
)

_CODES: Final[tuple[tuple[type[KvCacheError], ExitCode], ...]] = (
    (UsageError, ExitCode.USAGE),
    (NotApplied, ExitCode.UNAVAILABLE),
    (InDoubt, ExitCode.UNAVAILABLE),
    (KvCacheError, ExitCode.FAILED),
)
"""The first class that fits decides."""


def exit_code_of(error: KvCacheError) -> ExitCode:
    """Return the exit code of ``error``."""
    return next(code for kind, code in _CODES if isinstance(error, kind))


def reported(command: Callable[P, None]) -> Callable[P, None]:
    """Return the command with its errors told in one line on stderr, and as an exit code."""

    @functools.wraps(command)
    def run(*arguments: P.args, **options: P.kwargs) -> None:
        try:
            command(*arguments, **options)
            sys.stdout.flush()
        except KvCacheError as error:
            line = "; ".join(str(error).splitlines())
            sys.stderr.write(f"{type(error).__name__}: {line}\n")
            raise typer.Exit(exit_code_of(error)) from error
        except BrokenPipeError as error:  # the reader, such as head, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains once more at its exit
            raise typer.Exit(ExitCode.FINE) from error

    return run
