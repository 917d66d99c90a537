"""The command line of the siege: which attacks, how long, and whether the goals were reached.

Here lives options and printing. Never here: measuring (``sieges``).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import Final

import uvloop

from loadtests import CannotRun
from loadtests.siege.sieges import GOALS, PRICES, Finding, besiege, price_of

__all__ = ["main", "parser"]

EXIT_MISSED: Final = 1
EXIT_CANNOT_RUN: Final = 2


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    commands = argparse.ArgumentParser(prog="python -m loadtests.siege", description=__doc__.partition("\n")[0])
    commands.add_argument(
        "--only", metavar="NAME,...", default="", help=f"of {', '.join((*GOALS, *PRICES))}; default all"
    )
    commands.add_argument("--rounds", type=int, default=3, help="turns of peace and attack (default 3)")
    commands.add_argument("--seconds", type=float, default=2.0, help="length of a turn (default 2)")
    commands.add_argument("--json", action="store_true", help="print one line of JSON for each siege")
    return commands


def main(words: Sequence[str] | None = None) -> int:
    """Run; returns 0 when all goals are reached, 1 when one is not, 2 when a siege could not be run."""
    arguments = parser().parse_args(words)
    wanted = [name for name in arguments.only.split(",") if name] or [*GOALS, *PRICES]
    unknown = [name for name in wanted if name not in (*GOALS, *PRICES)]
    if unknown:
        parser().error(f"there is no siege {unknown[0]!r}; there are {', '.join((*GOALS, *PRICES))}")
    cores = sorted(os.sched_getaffinity(0))
    core = cores[1] if len(cores) > 1 else None
    if core is not None:
        os.sched_setaffinity(0, {cores[0]})  # the attackers inherit it
    try:
        findings = [uvloop.run(_run(name, arguments, core)) for name in wanted]
    except CannotRun as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_CANNOT_RUN
    finally:
        os.sched_setaffinity(0, cores)
    return 0 if all(finding.reached for finding in findings) else EXIT_MISSED


async def _run(name: str, arguments: argparse.Namespace, core: int | None) -> Finding:
    measure = besiege if name in GOALS else price_of
    finding = await measure(name, arguments.rounds, arguments.seconds, core)
    _tell(finding, arguments.json)
    return finding


def _tell(finding: Finding, as_json: bool) -> None:
    if as_json:
        plain = {"name": finding.name, "ratio": round(finding.figure, 3), "goal": finding.goal}
        print(json.dumps({**plain, "reached": finding.reached, **finding.details}), flush=True)
        return
    bound = ">=" if finding.at_least else "<="
    verdict = "reached" if finding.reached else "MISSED"
    details = ", ".join(f"{name} {value}" for name, value in finding.details.items())
    print(f"{finding.name}: {finding.figure:.2f} ({bound} {finding.goal}) {verdict}; {details}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
