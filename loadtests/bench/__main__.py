"""The command line of the bench: what is measured, how long, and where the result goes.

Here lives options, progress and the way out. Never here: measuring (``works``) or showing (``report``).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from loadtests import CannotRun
from loadtests.bench.arena import Arena
from loadtests.bench.goals import OURS
from loadtests.bench.report import document_of, machine, print_tables, versions
from loadtests.bench.turns import Outcome
from loadtests.bench.works import WORKS, Work, choose, measure, turns_of

__all__ = ["main", "parser"]

EXIT_INCOMPLETE = 1
EXIT_CANNOT_RUN = 2
EXIT_INTERRUPTED = 130
_FILE_WIDTH = 160
_SECONDS_MAX = 60


def parser() -> argparse.ArgumentParser:
    """Return the command line of the bench."""
    commands = argparse.ArgumentParser(
        prog="python -m loadtests.bench",
        description="kvcache beside redis-py, pymemcache, aiomcache and emcache, in one run on this machine",
        epilog="works: " + ", ".join(work.name for work in WORKS),
    )
    commands.add_argument("--only", metavar="NAME,...", default="", help="works by name, or the beginning of one")
    commands.add_argument("--rounds", type=int, default=5, help="turns of each contestant (default 5)")
    commands.add_argument("--seconds", type=float, default=1.0, help="length of a turn (default 1)")
    commands.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop", help="event loop of the clients")
    commands.add_argument("--apart", action="store_true", help="load and servers on different cores")
    commands.add_argument("--json", type=Path, metavar="FILE", help="write every sample to FILE")
    return commands


class _Run:
    """One run: works, their outcomes, and what had to be left out and why."""

    def __init__(self, arguments: argparse.Namespace, console: Console) -> None:
        self.works = choose(name for name in arguments.only.split(",") if name)
        self.rounds: int = arguments.rounds
        self.seconds: float = arguments.seconds
        self.loop: str = arguments.loop
        self.apart: bool = arguments.apart
        self.outcomes: list[Outcome] = []
        self.skipped: dict[str, str] = {}
        self._console = console

    def measure_all(self) -> None:
        """Measure every work; one that breaks is reported and leaves a row without figures."""
        columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
        # Refreshed between turns only: a drawing thread would take its share of the measured core.
        with (
            Progress(*columns, console=self._console, auto_refresh=False, transient=True) as bar,
            Arena(_loop_factory(self.loop), apart=self.apart) as arena,
        ):
            task = bar.add_task("", total=sum(turns_of(work, self.rounds) for work in self.works))
            for work in self.works:
                bar.update(task, description=work.title, refresh=True)
                self._measure(work, arena, lambda _: bar.update(task, advance=1, refresh=True))

    def _measure(self, work: Work, arena: Arena, finished: Callable[[str], None]) -> None:
        try:
            outcome = measure(work, arena, self.rounds, self.seconds, finished=finished, skipped=self._skip)
        except Exception as error:
            self._console.print(f"{work.name} broke: {type(error).__name__}: {error}", style="red")
            outcome = Outcome(work.name, {})
        self.outcomes.append(outcome)

    def _skip(self, name: str, reason: CannotRun) -> None:
        if self.skipped.get(name) != str(reason):
            self.skipped[name] = str(reason)
            self._console.print(f"{name} is skipped: {reason}", style="yellow", highlight=False)

    @property
    def complete(self) -> bool:
        """Say whether every work has a figure of ours."""
        return len(self.outcomes) == len(self.works) and all(OURS in outcome.medians for outcome in self.outcomes)


def _loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if name == "asyncio":
        return None
    try:
        import uvloop
    except ImportError as error:
        raise CannotRun("uvloop is not installed: pip install uvloop, or use --loop asyncio") from error
    return uvloop.new_event_loop


def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench; returns 0, 1 if a figure of ours is missing, 2 if it could not run, 130 if interrupted."""
    arguments = _checked(parser(), argv)
    console = Console(width=None if sys.stdout.isatty() else _FILE_WIDTH)
    notes = Console(stderr=True, soft_wrap=True)
    ending = 0
    try:
        run = _Run(arguments, notes)
        _print_head(console, run)
        with _ending_on_sigterm():
            run.measure_all()
    except CannotRun as error:
        notes.print(f"bench: {error}", highlight=False)
        return EXIT_CANNOT_RUN
    except KeyboardInterrupt:
        notes.print("bench: interrupted; what was measured until then:")
        ending = EXIT_INTERRUPTED
    print_tables(console, run.outcomes)
    if arguments.json:
        settings = {"rounds": run.rounds, "seconds": run.seconds, "loop": run.loop, "apart": run.apart}
        arguments.json.write_text(json.dumps(document_of(run.outcomes, settings, run.skipped), indent=2) + "\n")
    return ending or (0 if run.complete else EXIT_INCOMPLETE)


def _checked(commands: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    arguments = commands.parse_args(argv)
    if arguments.rounds < 1:
        commands.error(f"--rounds is {arguments.rounds}; it must be at least 1")
    if not 0 < arguments.seconds <= _SECONDS_MAX:
        commands.error(f"--seconds is {arguments.seconds:g}; it must be more than 0 and at most {_SECONDS_MAX}")
    if arguments.json and not arguments.json.parent.is_dir():  # said now, not after all the work
        commands.error(f"--json: there is no folder {arguments.json.parent}")
    return arguments


def _print_head(console: Console, run: _Run) -> None:
    console.print(machine(), highlight=False)
    console.print(", ".join(f"{name} {version}" for name, version in versions().items()), highlight=False)
    console.print(f"{run.rounds} rounds of {run.seconds:g} s, {run.loop}; medians", highlight=False)


@contextlib.contextmanager
def _ending_on_sigterm() -> Iterator[None]:
    """Inside, SIGTERM ends the run as Ctrl-C does: asyncio ends its tasks, and every server is stopped."""
    before = signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    sys.exit(main())
