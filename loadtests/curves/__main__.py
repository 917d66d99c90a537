"""The command line of the curves: what is measured, where the results go.

Here lives options, progress and the way out. Never here: measuring or showing.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from rich.console import Console

from loadtests import CannotRun
from loadtests.bench.report import machine, versions
from loadtests.curves.axes import AXES, Axis, Point, points
from loadtests.curves.budgets import budgets_mib, footprint
from loadtests.curves.hit_ratio import hit_point
from loadtests.curves.load import measure_point
from loadtests.curves.report import curves_page, print_summary
from loadtests.curves.results import LoadRow, Results
from loadtests.curves.servers import SYSTEMS
from loadtests.local_cluster import ClusterOptions, LocalCluster
from loadtests.trace import Trace, key_of, read_trace, trace_folder

__all__ = ["main", "parser"]

EXIT_FAILED: Final = 1
EXIT_CANNOT_RUN: Final = 2
EXIT_INTERRUPTED: Final = 130
_MEMORY: Final = "512MiB"
_QUICK_REQUESTS: Final = 100_000
_HIT_RATIO: Final = "hit-ratio"


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    commands = argparse.ArgumentParser(
        prog="python -m loadtests.curves",
        description="throughput and p99 of kvcache against one thing at a time; hit ratio against memory, beside its peers",
        epilog="curves: " + ", ".join([*(axis.field for axis in AXES), _HIT_RATIO]),
    )
    commands.add_argument("--only", metavar="CURVE,...", default="", help="these curves; default all")
    commands.add_argument("--quick", action="store_true", help="fewer and shorter points, the beginnings of the traces")
    commands.add_argument("--seconds", type=float, help="length of a point (default 2, quick 0.5)")
    commands.add_argument("--traces", metavar="NAME,...", default="", help="beginnings of names; default all")
    commands.add_argument("--requests", type=int, help="first requests of each trace (default all, quick 100000)")
    commands.add_argument(
        "--output", type=Path, default=Path("build/curves"), help="folder for the results (default build/curves)"
    )
    return commands


class _Run:
    """One run of the curves that were asked for."""

    def __init__(self, arguments: argparse.Namespace, notes: Console) -> None:
        known = [axis.field for axis in AXES]
        wanted = [name for name in arguments.only.split(",") if name] or [*known, _HIT_RATIO]
        for name in wanted:
            if name not in (*known, _HIT_RATIO):
                raise CannotRun(f"no curve is called {name!r}; there is: {', '.join([*known, _HIT_RATIO])}")
        self.axes = [axis for axis in AXES if axis.field in wanted]
        self.with_hits = _HIT_RATIO in wanted
        self.quick: bool = arguments.quick
        self.seconds: float = arguments.seconds or (0.5 if self.quick else 2.0)
        self.requests: int | None = arguments.requests or (_QUICK_REQUESTS if self.quick else None)
        self.traces: list[str] = [name for name in arguments.traces.split(",") if name]
        self.results = Results()
        self._notes = notes

    def measure(self) -> None:
        """Measure everything; a point that breaks is noted and leaves a gap."""
        if self.axes:
            _run_on_uvloop(self._throughput())
        if self.with_hits:
            self._hit_ratios()

    async def _throughput(self) -> None:
        for shape, wanted in _by_cluster(self.axes, quick=self.quick).items():
            try:
                async with LocalCluster(shape) as cluster:
                    for axis, value, point in wanted:
                        await self._point(cluster.seeds, axis, value, point)
            except CannotRun as error:
                self._failed(f"{shape.nodes} nodes, {shape.replicas} copies: {error}")

    async def _point(self, seeds: str, axis: Axis, value: int, point: Point) -> None:
        self._say(f"{axis.title} {value:,}")
        try:
            measured = await measure_point(seeds, point, self.seconds)
        except Exception as error:
            self._failed(f"{axis.title} {value:,}: {type(error).__name__}: {error}")
        else:
            self.results.loads.append(LoadRow.of(axis.field, value, point, measured))

    def _hit_ratios(self) -> None:
        missing: set[str] = set()
        for path in _trace_files(self.traces, self.results.skipped):
            trace = read_trace(path, self.requests)
            sizes = budgets_mib(footprint((key_of(number), size) for number, size in trace))
            for memory_mib in sizes[:: len(sizes) - 1] if self.quick else sizes:
                for system in SYSTEMS:
                    if system not in missing and not self._hit_ratio(trace, system, memory_mib):
                        missing.add(system)

    def _hit_ratio(self, trace: Trace, system: str, memory_mib: int) -> bool:
        """Measure one; returns False if the system is missing here."""
        self._say(f"{trace.name}, {memory_mib} MiB, {system}")
        try:
            self.results.hits.append(hit_point(trace, system, memory_mib))
        except CannotRun as reason:
            self.results.skipped.append(f"{system} is skipped: {reason}")
            return False
        except Exception as error:
            self._failed(f"{trace.name}, {memory_mib} MiB, {system}: {type(error).__name__}: {error}")
        return True

    def _say(self, what: str) -> None:
        self._notes.print(what, style="dim", highlight=False)

    def _failed(self, line: str) -> None:
        self.results.failed.append(line)
        self._notes.print(line, style="red", highlight=False)


def _by_cluster(axes: Sequence[Axis], *, quick: bool) -> dict[ClusterOptions, list[tuple[Axis, int, Point]]]:
    """Return the points by the cluster that they need, so that each is started once."""
    table: dict[ClusterOptions, list[tuple[Axis, int, Point]]] = {}
    for axis in axes:
        for value, point in points(axis, quick=quick):
            shape = ClusterOptions(nodes=point.nodes, replicas=point.replicas, memory=_MEMORY)
            table.setdefault(shape, []).append((axis, value, point))
    return table


def _trace_files(names: Sequence[str], skipped: list[str]) -> list[Path]:
    folder = trace_folder(os.environ)
    found = sorted(folder.glob("*.csv.gz")) if folder.is_dir() else []
    if not found:
        skipped.append(
            f"hit ratios are skipped: no traces in {folder}; set KVCACHE_TRACES to the folder that holds them"
        )
    chosen = [path for path in found if not names or path.name.startswith(tuple(names))]
    if found and not chosen:
        there = ", ".join(path.name for path in found)
        raise CannotRun(f"no trace begins with {' or '.join(names)}; there is: {there}")
    return chosen


def _run_on_uvloop(job: object) -> None:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(job)  # type: ignore[arg-type]


def main(argv: Sequence[str] | None = None) -> int:
    """Run; returns 0, 1 if a point failed, 2 if it could not run, 130 if interrupted."""
    arguments = _checked(parser(), argv)
    console = Console(width=None if sys.stdout.isatty() else 140)
    notes = Console(stderr=True, soft_wrap=True)
    ending = 0
    try:
        run = _Run(arguments, notes)
        run.measure()
    except CannotRun as error:
        notes.print(f"curves: {error}", highlight=False)
        return EXIT_CANNOT_RUN
    except KeyboardInterrupt:
        notes.print("curves: interrupted; what was measured until then:")
        ending = EXIT_INTERRUPTED
    results = replace(run.results, loads=sorted(run.results.loads, key=_place))
    arguments.output.mkdir(parents=True, exist_ok=True)
    results.write(arguments.output, {"machine": machine(), "versions": versions()})
    arguments.output.joinpath("curves.html").write_text(curves_page(results, machine()), encoding="utf-8")
    print_summary(console, results)
    console.print(f"report: {arguments.output / 'curves.html'}", highlight=False, soft_wrap=True)
    return ending or (EXIT_FAILED if results.failed else 0)


def _place(row: LoadRow) -> tuple[int, int]:
    return [axis.field for axis in AXES].index(row.axis), row.value


def _checked(commands: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    arguments = commands.parse_args(argv)
    if arguments.seconds is not None and not 0 < arguments.seconds <= 60:
        commands.error(f"--seconds is {arguments.seconds:g}; it must be more than 0 and at most 60")
    if arguments.requests is not None and arguments.requests < 1:
        commands.error(f"--requests is {arguments.requests}; it must be at least 1")
    if arguments.output.exists() and not arguments.output.is_dir():  # said now, not after all the work
        commands.error(f"--output: {arguments.output} is no folder")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
