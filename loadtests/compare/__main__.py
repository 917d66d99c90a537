"""The command line of the comparison.

Here lives options, the order of the turns, and the way out. Never here: load, figures or showing them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from rich.console import Console

from loadtests import CannotRun
from loadtests.bench.report import machine, versions
from loadtests.compare.figures import Comparison
from loadtests.compare.report import comparison_page, print_summary
from loadtests.compare.systems import OURS, SYSTEMS
from loadtests.compare.users import Turn, UserProcess

__all__ = ["main", "parser", "take_turns"]

EXIT_FAILED: Final = 1
EXIT_CANNOT_RUN: Final = 2
EXIT_INTERRUPTED: Final = 130
_MIXES: Final = ("ReadMostly", "ReadWrite", "WriteHeavy", "SessionStore", "Counter", "Batch")


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    commands = argparse.ArgumentParser(
        prog="python -m loadtests.compare",
        description="the same Locust users on kvcache, Redis Cluster and memcached, in turns",
        epilog="further options are those of the locustfile, as --keys 100000 --value-sizes 64:50,1024:50 --zipf 1.1",
    )
    commands.add_argument("--mix", default="ReadMostly,ReadWrite", help=f"any of {', '.join(_MIXES)}")
    commands.add_argument("--users", type=int, default=50, help="users of each cache (default 50)")
    commands.add_argument("--rounds", type=int, default=5, help="turns of each cache (default 5)")
    commands.add_argument("--seconds", type=float, default=3.0, help="length of a turn (default 3)")
    commands.add_argument("--quick", action="store_true", help="3 rounds of 1 s, ReadMostly alone")
    commands.add_argument(
        "--output", type=Path, default=Path("build/compare"), help="folder of the report (default build/compare)"
    )
    return commands


def take_turns(users: Mapping[str, UserProcess], rounds: int, seconds: float, say: Console) -> dict[str, list[Turn]]:
    """Give each a turn in each round, another first each time. One that ends is out, with all its turns."""
    turns: dict[str, list[Turn]] = {name: [] for name in users}
    names = list(users)
    for number in range(rounds):
        first = number % len(names)
        for name in (*names[first:], *names[:first]):
            if name in turns:
                try:
                    turns[name].append(users[name].turn(seconds))
                except CannotRun as error:
                    say.print(f"{name} is out: {error}", style="red", highlight=False)
                    del turns[name]
    return turns


class _Run:
    """One run: every mix on every system that can be started."""

    def __init__(self, arguments: argparse.Namespace, options: Sequence[str], say: Console) -> None:
        self.arguments = arguments
        self.options = list(options)
        self.comparisons: list[Comparison] = []
        self.notes: list[str] = []
        self.incomplete = False
        self._say = say

    def measure(self) -> None:
        """Measure every mix. Raises ``CannotRun`` if our own cluster can't be started."""
        arguments = self.arguments
        with contextlib.ExitStack() as stack:
            hosts = self._start(stack)
            for mix in arguments.mix.split(","):
                self._say.print(f"{mix}: {arguments.rounds} rounds of {arguments.seconds:g} s on {', '.join(hosts)}")
                with contextlib.ExitStack() as users:
                    processes = {
                        name: users.enter_context(UserProcess(name, host, mix, arguments.users, self.options))
                        for name, host in hosts.items()
                    }
                    turns = take_turns(processes, arguments.rounds, arguments.seconds, self._say)
                self.incomplete |= turns.keys() != hosts.keys()
                self.comparisons.append(Comparison(mix, turns))

    def _start(self, stack: contextlib.ExitStack) -> dict[str, str]:
        hosts = {}
        for name, system in SYSTEMS.items():
            try:
                hosts[name] = stack.enter_context(system.start())
            except CannotRun as reason:
                if name == OURS:
                    raise
                self.notes.append(f"{name} is skipped: {reason}")
                self._say.print(self.notes[-1], style="yellow", highlight=False)
        return hosts

    @property
    def failed(self) -> bool:
        """Whether a process of users ended, or an answer was one that no cache may give."""
        turns = (turn for it in self.comparisons for each in it.turns.values() for turn in each)
        return self.incomplete or any(turn.wrong for turn in turns)


def main(argv: Sequence[str] | None = None) -> int:
    """Run; returns 0, 1 if a cache dropped out or answered wrongly, 2 if it could not run, 130 if interrupted."""
    arguments, options = _checked(parser(), argv)
    console = Console(width=None if sys.stdout.isatty() else 140)
    say = Console(stderr=True, soft_wrap=True)
    run, ending = _Run(arguments, options, say), 0
    try:
        run.measure()
    except CannotRun as error:
        say.print(f"compare: {error}", highlight=False)
        return EXIT_CANNOT_RUN
    except KeyboardInterrupt:
        say.print("compare: interrupted; what was measured until then:")
        ending = EXIT_INTERRUPTED
    _write(run)
    print_summary(console, run.comparisons, run.notes)
    console.print(f"report: {arguments.output / 'compare.html'}", highlight=False, soft_wrap=True)
    return ending or (EXIT_FAILED if run.failed else 0)


def _write(run: _Run) -> None:
    arguments = run.arguments
    settings = {"users": arguments.users, "rounds": arguments.rounds, "seconds": arguments.seconds}
    document = {
        "machine": machine(),
        "versions": versions(),
        "settings": {**settings, "options": run.options},
        "skipped": run.notes,
        "comparisons": [it.document() for it in run.comparisons],
    }
    arguments.output.mkdir(parents=True, exist_ok=True)
    arguments.output.joinpath("compare.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    shape = f"{arguments.users} users, {arguments.rounds} rounds of {arguments.seconds:g} s"
    page = comparison_page(run.comparisons, f"{machine()}; {shape}", run.notes)
    arguments.output.joinpath("compare.html").write_text(page, encoding="utf-8")


def _checked(commands: argparse.ArgumentParser, argv: Sequence[str] | None) -> tuple[argparse.Namespace, Sequence[str]]:
    arguments, options = commands.parse_known_args(argv)
    if arguments.quick:
        arguments.mix, arguments.rounds, arguments.seconds = "ReadMostly", 3, 1.0
    for mix in arguments.mix.split(","):
        if mix not in _MIXES:
            commands.error(f"--mix {mix!r}: there is {', '.join(_MIXES)}")
    for name, low, high in (("users", 1, 1000), ("rounds", 1, 1000), ("seconds", 0.1, 600)):
        if not low <= getattr(arguments, name) <= high:
            commands.error(f"--{name} is {getattr(arguments, name):g}; it must be {low:g} to {high:g}")
    if arguments.output.exists() and not arguments.output.is_dir():  # said now, not after all the work
        commands.error(f"--output: {arguments.output} is no folder")
    return arguments, options


if __name__ == "__main__":
    sys.exit(main())
