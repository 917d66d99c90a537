"""Replays a real cache trace through the real client: the main job on real input.

Here lives the command, its progress and its report. Never here: the load itself (``callers``), how a cluster
is started (``local_cluster``) or a trace is read (``trace``).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

from kvcache_client.protocol.errors import KvCacheError
from loadtests import CannotRun
from loadtests.callers import ReplayOptions, Tally, VerbTally, replay
from loadtests.histogram import PERCENTILES
from loadtests.local_cluster import ClusterOptions, LocalCluster
from loadtests.trace import Trace, find_trace, read_trace, trace_folder

__all__ = ["main", "parser", "report"]

DEFAULT_SEEDS: Final = "kvcache://127.0.0.1:7700"
EXIT_WRONG: Final = 1
EXIT_CANNOT_RUN: Final = 2
_PROGRESS_SECONDS: Final = 0.2


def report(trace: str, options: ReplayOptions, tally: Tally) -> dict[str, Any]:
    """Return everything that was measured as one JSON-able document."""
    operations = sum(verb.latency.count for verb in tally.verbs().values())
    return {
        "trace": trace,
        "concurrency": options.concurrency,
        "ttl_s": options.ttl,
        "seconds": round(tally.elapsed, 3),
        "hit_ratio": round(tally.hit_ratio, 6),
        "hits": tally.hits,
        "misses": tally.misses,
        "wrong": tally.wrong,
        "operations": operations,
        "operations_per_second": round(operations / tally.elapsed) if tally.elapsed else 0,
        "verbs": {name: _verb_report(verb) for name, verb in tally.verbs().items()},
    }


def _verb_report(verb: VerbTally) -> dict[str, Any]:
    latency = {name: round(ms, 3) for name, ms in verb.latency.summary_ms().items()}
    return {"operations": verb.latency.count, "latency_ms": latency, "failed": dict(verb.failed)}


def _print_table(document: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    columns = [*PERCENTILES, "max"]
    table = Table(title=f"replay of {document['trace']}", title_justify="left")
    table.add_column("verb")
    for title in ("operations", *(f"{name} ms" for name in columns), "failed"):
        table.add_column(title, justify="right")
    for name, verb in document["verbs"].items():
        marks = [f"{verb['latency_ms'][column]:.2f}" for column in columns]
        failed = ", ".join(f"{error} {count:,}" for error, count in verb["failed"].items()) or "0"
        table.add_row(name, f"{verb['operations']:,}", *marks, failed)
    console = Console()
    console.print(table)
    console.print(
        f"hit ratio {document['hit_ratio']:.2%}   {document['operations_per_second']:,} operations/s   "
        f"{document['operations']:,} operations in {document['seconds']:.1f} s   "
        f"wrong values {document['wrong']:,}",
        highlight=False,
        soft_wrap=True,
    )


@contextlib.asynccontextmanager
async def _progress(total: int, tally: Tally) -> AsyncIterator[None]:
    """Show the requests done on stderr, where they disturb no one who reads the result."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    loop = asyncio.get_running_loop()
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), auto_refresh=False, transient=True) as bar:
        task = bar.add_task("", total=total)

        def show() -> None:
            failed = tally.get.failed.total() + tally.set.failed.total()
            text = f"hit ratio {tally.hit_ratio:.1%}" + (f", {failed:,} failed" if failed else "")
            bar.update(task, completed=tally.get.latency.count, description=text, refresh=True)

        timer: asyncio.Handle

        def keep_showing() -> None:
            nonlocal timer
            show()
            timer = loop.call_later(_PROGRESS_SECONDS, keep_showing)

        keep_showing()
        try:
            yield
        finally:
            timer.cancel()
            show()


async def _run(arguments: argparse.Namespace, trace: Trace, options: ReplayOptions) -> Tally:
    from kvcache_client import AsyncClient

    tally = Tally()
    async with contextlib.AsyncExitStack() as stack:
        seeds = arguments.seeds
        if arguments.start_cluster:
            shape = ClusterOptions(arguments.nodes, arguments.replicas, arguments.memory)
            seeds = (await stack.enter_async_context(LocalCluster(shape))).seeds
        client = await stack.enter_async_context(AsyncClient(seeds, timeout=arguments.timeout))
        await client.topology()  # an unreachable cluster is one error now, not a million later
        async with _progress(len(trace), tally):
            await replay(client, iter(trace), options, tally)
    return tally


def _positive(kind: type[int] | type[float]) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            number = kind(text)
        except ValueError:
            number = kind(0)
        if not 0 < number < float("inf"):
            raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
        return number

    return parse


def parser() -> argparse.ArgumentParser:
    """Return the command line of the replay."""
    count, amount = _positive(int), _positive(float)
    commands = argparse.ArgumentParser(prog="python -m loadtests.replay", description=__doc__.partition("\n")[0])
    commands.add_argument("--trace", default="twitter", help="a file, or (the beginning of) a name in the trace folder")
    commands.add_argument("--requests", type=count, help="replay only the first REQUESTS requests")
    commands.add_argument("--seconds", type=amount, help="stop after this long")
    commands.add_argument("--concurrency", type=count, default=50, help="callers at a time (default 50)")
    commands.add_argument("--limit", type=amount, help="at most this many requests per second")
    commands.add_argument("--ttl", type=amount, default=3600.0, help="seconds that a value lives (default 3600)")
    commands.add_argument("--timeout", type=amount, default=0.25, help="the client's timeout in s (default 0.25)")
    target = commands.add_mutually_exclusive_group()
    target.add_argument("--seeds", default=DEFAULT_SEEDS, help=f"a running cluster (default {DEFAULT_SEEDS})")
    target.add_argument("--start-cluster", action="store_true", help="start a cluster for the replay and stop it after")
    commands.add_argument("--nodes", type=count, default=3, help="nodes of the started cluster (default 3)")
    commands.add_argument("--replicas", type=count, default=2, help="copies of each record in it (default 2)")
    commands.add_argument("--memory", default="256MiB", help="memory of each of its nodes (default 256MiB)")
    commands.add_argument("--json", action="store_true", help="print the result as JSON instead of a table")
    return commands


def main(argv: Sequence[str] | None = None) -> int:
    """Replay; returns 0, 1 if a wrong value was read, 2 if the replay could not run."""
    arguments = parser().parse_args(argv)
    options = ReplayOptions(arguments.concurrency, arguments.ttl, arguments.limit, arguments.seconds)
    try:
        trace = read_trace(find_trace(arguments.trace, trace_folder(os.environ)), arguments.requests)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            tally = runner.run(_run(arguments, trace, options))
    except (CannotRun, KvCacheError) as error:
        print(f"replay: {error}", file=sys.stderr)
        return EXIT_CANNOT_RUN
    except KeyboardInterrupt:
        print("replay: interrupted", file=sys.stderr)
        return 130
    document = report(trace.name, options, tally)
    if arguments.json:
        print(json.dumps(document, indent=2))
    else:
        _print_table(document)
    return EXIT_WRONG if tally.wrong else 0


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # the client alone needs no uvloop
        return None
    return uvloop.new_event_loop


if __name__ == "__main__":
    sys.exit(main())
