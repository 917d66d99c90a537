"""``kvcache admin ...``: operations on a whole cluster.

Here lives the command line of each operation: arguments, confirmation, progress, output. Never here: what an operation does
(``cluster.admin``, ``cluster.snapshotting``, ``cluster.restoring``).
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvcache.commands.data import DEFAULT_SEEDS, AsJson, Seeds
from kvcache.commands.outcome import CODES_HELP, ExitCode, reported
from kvcache.commands.output import print_json, print_table
from kvcache.option_values import format_size
from kvcache_client.protocol.errors import DeadlineExceeded, InvalidOption

if TYPE_CHECKING:
    from kvcache.cluster.admin import Admin, OnProgress

__all__ = ["admin"]

admin = typer.Typer(name="admin", help="Operations on a whole cluster, each under a lock.", no_args_is_help=True)

Node = Annotated[str, typer.Argument(metavar="NODE", help="The id of a node.", show_default=False)]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Wait = Annotated[float, typer.Option("--wait", metavar="SECONDS", min=0, help="How long to wait for the move to end.")]
Directory = Annotated[str, typer.Argument(metavar="DIR", help="The directory of the snapshot.", show_default=False)]

Work = Callable[["Admin", "OnProgress"], Awaitable[Any]]

_WAIT = 3600.0


def _operate(seeds: str, work: Work, *, quiet: bool) -> Any:
    """Run ``work`` with an admin connected to ``seeds``, and show its progress on a terminal."""
    from kvcache.cluster.admin import Admin
    from kvcache_client import AsyncClient, ClientConfig
    from kvcache_client.credentials import secrets_from, tls_for
    from kvcache_client.protocol.verbs import Role
    from kvcache_client.seeds import parse_seeds

    addresses, cluster = parse_seeds(seeds)

    async def run() -> Any:
        config = ClientConfig(
            role=Role.ADMIN,
            name="kvcache admin",
            timeout=2.0,
            cluster=cluster,
            secrets=secrets_from(os.environ),
            tls=tls_for(seeds, anywhere=True),
        )
        async with AsyncClient(addresses, config=config) as client:
            with _progress_bar(quiet) as progress:
                return await work(Admin(client), progress)

    return asyncio.run(run())


class _progress_bar:  # noqa: N801  reads as what it shows
    """A bar on stderr, if that is a terminal."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet or not sys.stderr.isatty()

    def __enter__(self) -> OnProgress:
        if self._quiet:
            return lambda progress: None
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
        self._bar.start()
        task = self._bar.add_task("", total=None)
        return lambda progress: self._bar.update(
            task, description=f"{progress.unit} {progress.text}", total=progress.total, completed=progress.done
        )

    def __exit__(self, *_: object) -> None:
        if not self._quiet:
            self._bar.stop()


def _confirm(question: str, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise InvalidOption(f"{question} Say --yes where nobody can be asked.")
    if not typer.confirm(question):
        raise typer.Exit(ExitCode.NEGATIVE)


def _show(outcome: Any, as_json: bool, line: str) -> None:
    if as_json:
        print_json(outcome)
        return
    late = outcome.get("unconfirmed") if isinstance(outcome, dict) else None
    print(line + (f"; not yet known to {', '.join(late)}" if late else ""))


@admin.command(epilog=CODES_HELP)
@reported
def flush(seeds: Seeds = DEFAULT_SEEDS, yes: Yes = False, as_json: AsJson = False) -> None:
    """Forget everything, on every node, also on those that are away."""
    _confirm("Forget everything that the cluster holds?", yes)
    outcome = _operate(seeds, lambda admin, _: admin.flush(), quiet=as_json)
    _show(outcome, as_json, f"flushed, epoch {outcome['epoch']}")


@admin.command(epilog=CODES_HELP)
@reported
def purge(
    prefix: Annotated[str, typer.Argument(metavar="PREFIX", help="Keys that begin so.", show_default=False)],
    seeds: Seeds = DEFAULT_SEEDS,
    as_json: AsJson = False,
) -> None:
    """Forget every key that begins with PREFIX, on every node, also on those that are away."""
    if not prefix:
        raise InvalidOption("an empty prefix would forget everything; that is what flush is for")
    outcome = _operate(seeds, lambda admin, _: admin.purge(prefix), quiet=as_json)
    _show(outcome, as_json, f"purged {prefix!r}, epoch {outcome['epoch']}")


@admin.command(epilog=CODES_HELP)
@reported
def drain(node: Node, seeds: Seeds = DEFAULT_SEEDS, wait: Wait = _WAIT, as_json: AsJson = False) -> None:
    """Have a node hand over all that it holds and leave the cluster."""
    outcome = _operate(seeds, lambda admin, bar: admin.drain(node, wait=wait, progress=bar), quiet=as_json)
    _show(outcome, as_json, f"{node} {'has left' if wait else 'is leaving'}")


@admin.command(epilog=CODES_HELP)
@reported
def remove(
    node: Node,
    seeds: Seeds = DEFAULT_SEEDS,
    force: Annotated[bool, typer.Option("--force", help="Even if data is lost by it.")] = False,
    yes: Yes = False,
    wait: Wait = _WAIT,
    as_json: AsJson = False,
) -> None:
    """Take a node out of the cluster, alive or not."""
    _confirm(f"Take {node} out of the cluster?", yes)
    outcome = _operate(
        seeds, lambda admin, bar: admin.remove(node, force=force, wait=wait, progress=bar), quiet=as_json
    )
    _show(outcome, as_json, f"{node} {'is removed' if wait else 'is being removed'}")


@admin.command(epilog=CODES_HELP)
@reported
def reweight(
    node: Node,
    weight: Annotated[int, typer.Argument(metavar="WEIGHT", min=1, help="Its new share.", show_default=False)],
    seeds: Seeds = DEFAULT_SEEDS,
    wait: Wait = _WAIT,
    as_json: AsJson = False,
) -> None:
    """Give a node another share of the keys."""
    outcome = _operate(seeds, lambda admin, bar: admin.reweight(node, weight, wait=wait, progress=bar), quiet=as_json)
    _show(outcome, as_json, f"{node} has weight {weight}")


@admin.command(epilog=CODES_HELP)
@reported
def replicas(
    count: Annotated[int, typer.Argument(metavar="N", min=1, help="Copies of each key.", show_default=False)],
    seeds: Seeds = DEFAULT_SEEDS,
    wait: Wait = _WAIT,
    as_json: AsJson = False,
) -> None:
    """Keep another number of copies of each key."""
    outcome = _operate(seeds, lambda admin, bar: admin.replicas(count, wait=wait, progress=bar), quiet=as_json)
    _show(outcome, as_json, f"each key has {count} copies")


@admin.command(epilog=CODES_HELP)
@reported
def rebalance(
    seeds: Seeds = DEFAULT_SEEDS,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would move.")] = False,
    drain: Annotated[str, typer.Option(metavar="NODE", help="As if this node were drained.")] = "",
    as_json: AsJson = False,
) -> None:
    """Show what moves between which nodes. The cluster balances itself, so there is nothing to be started."""
    from kvcache.cluster import changes

    if not dry_run:
        raise InvalidOption(
            "the cluster balances itself when members or weights change; say --dry-run to see what moves"
        )
    change = (lambda topology: changes.drain(topology, drain)) if drain else (lambda topology: topology)
    outcome = _operate(seeds, lambda admin, _: admin.dry_run(change), quiet=as_json)
    if as_json:
        print_json(outcome)
        return
    columns = ("from", "to", "partitions", "records", "bytes")
    print_table(columns, [tuple(row[name] for name in columns) for row in outcome["moves"]])
    print(
        f"in all {outcome['partitions']} partitions, about {outcome['records']} records, {format_size(outcome['bytes'])}"
    )


@admin.command(epilog=CODES_HELP)
@reported
def repair(seeds: Seeds = DEFAULT_SEEDS, as_json: AsJson = False) -> None:
    """Compare all copies and copy what differs."""
    outcome = _operate(seeds, lambda admin, bar: admin.repair(progress=bar), quiet=as_json)
    line = f"{outcome['partitions']} partitions compared, {outcome['copied']} records copied"
    missed = "".join(f"; {count} not compared with {node}, it is not up" for node, count in outcome["skipped"].items())
    _show(outcome, as_json, line + missed)


@admin.command(epilog=CODES_HELP)
@reported
def snapshot(directory: Directory, seeds: Seeds = DEFAULT_SEEDS, as_json: AsJson = False) -> None:
    """Write all records into a new directory on this machine."""
    from kvcache.cluster.snapshotting import take_snapshot

    outcome = _operate(seeds, lambda admin, bar: take_snapshot(admin, directory, bar), quiet=as_json)
    _show(outcome, as_json, f"{outcome['records']} records, {format_size(outcome['bytes'])} in {directory}")


@admin.command(epilog=CODES_HELP)
@reported
def restore(directory: Directory, seeds: Seeds = DEFAULT_SEEDS, as_json: AsJson = False) -> None:
    """Put the records of a snapshot into the cluster; what is newer there stays."""
    from kvcache.cluster.restoring import restore_snapshot

    outcome = _operate(seeds, lambda admin, bar: restore_snapshot(admin, directory, bar), quiet=as_json)
    line = f"{outcome['restored']} records restored, {outcome['superseded']} were older than what is there, "
    late = "".join(f"; {count} copies wait for {node}" for node, count in outcome["waiting"].items())
    _show(outcome, as_json, line + f"{outcome['expired']} had expired{late}")


@admin.command(epilog=CODES_HELP)
@reported
def locks(seeds: Seeds = DEFAULT_SEEDS, as_json: AsJson = False) -> None:
    """Show who holds which lock."""
    outcome = _operate(seeds, lambda admin, _: admin.locks(), quiet=as_json)
    if as_json:
        print_json(outcome)
        return
    columns = ("resource", "owner", "doing", "fence", "lease_left_ms")
    print_table(columns, [tuple(row.get(name) for name in columns) for row in outcome])


@admin.command(epilog=CODES_HELP)
@reported
def throttle(
    rate: Annotated[int, typer.Argument(metavar="RATE", min=0, help="Records a second; 0 is no bound.")],
    seeds: Seeds = DEFAULT_SEEDS,
    as_json: AsJson = False,
) -> None:
    """Bound the running move to so many records a second per receiver."""
    outcome = _operate(seeds, lambda admin, _: admin.throttle(rate), quiet=as_json)
    _show(outcome, as_json, f"at most {rate} records a second" if rate else "as fast as it goes")


@admin.command(epilog=CODES_HELP)
@reported
def cancel(seeds: Seeds = DEFAULT_SEEDS, as_json: AsJson = False) -> None:
    """Give up the running move."""
    outcome = _operate(seeds, lambda admin, _: admin.cancel(), quiet=as_json)
    _show(outcome, as_json, "cancelled")


@admin.command("wait-healthy", epilog=CODES_HELP)
@reported
def wait_healthy(
    seeds: Seeds = DEFAULT_SEEDS,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", min=0, help="How long to wait.")] = 60.0,
    as_json: AsJson = False,
) -> None:
    """Wait until all members are up and complete: then, and only then, the next node may be restarted. Exit code 1 if not."""
    try:
        topology = _operate(seeds, lambda admin, bar: admin.wait_healthy(timeout, bar), quiet=as_json)
    except DeadlineExceeded as error:
        _show({"healthy": False, "why": str(error)}, as_json, str(error))
        raise typer.Exit(ExitCode.NEGATIVE) from error
    outcome = {"healthy": True, "epoch": topology.epoch, "members": len(topology.members)}
    _show(outcome, as_json, f"healthy: {len(topology.members)} members, epoch {topology.epoch}")


@admin.command(epilog=CODES_HELP)
@reported
def doctor(seeds: Seeds = DEFAULT_SEEDS, as_json: AsJson = False) -> None:
    """Look for what is wrong, or soon will be, and say what to do about it. Exit code 1 if something must be done now."""
    from kvcache.cluster.doctor.gathering import examine

    outcome = _operate(seeds, lambda admin, _: examine(admin), quiet=as_json)
    if as_json:
        print_json(outcome)
    else:
        for found in outcome["findings"]:
            where = f" {found['node']}:" if found["node"] else ""
            print(f"{found['severity']} ({found['check']}){where} {found['text']}\n    {found['advice']}")
        worst = "nothing that must be done now" if outcome["healthy"] else "something must be done"
        print(f"{outcome['members']} members, {len(outcome['checks'])} checks: {worst}")
    if not outcome["healthy"]:
        raise typer.Exit(ExitCode.NEGATIVE)
