"""``kvcache up``: a whole cluster on this machine, until Ctrl-C.

Here lives what the command prints and when it ends. Never here: starting and stopping (``local_cluster``).
"""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

from kvcache.commands.outcome import ExitCode, reported
from kvcache.commands.output import print_json, print_table
from kvcache.option_values import format_size
from kvcache.options import OPTIONS, parse_option
from kvcache_client.protocol.errors import InvalidOption

if TYPE_CHECKING:
    from kvcache.commands.local_cluster import LocalCluster, LocalPlan

__all__ = ["up"]

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_COPIES: Final = 2

_HOW_TO_USE: Final = """
From a shell:

    curl -X PUT -d 'hello' {url}/v1/kv/greeting
    curl {url}/v1/kv/greeting
    kvcache status --seeds {first}

From Python (AsyncClient has the same methods, to be awaited):

    from kvcache_client import Client

    with Client("{seeds}") as cache:
        cache.set("user:1", {{"name": "Ada"}}, ttl=60)
        print(cache.get("user:1"))

Ctrl-C stops everything; what is in memory is gone then.
"""


@reported
def up(
    nodes: Annotated[int, typer.Option(envvar="KVCACHE_UP_NODES", metavar="N", help="How many nodes.")] = 3,
    replicas: Annotated[
        int | None,
        typer.Option(envvar="KVCACHE_UP_REPLICAS", metavar="N", help="Copies of each key; 2, or 1 with a single node."),
    ] = None,
    memory: Annotated[
        str, typer.Option(envvar="KVCACHE_MEMORY", metavar="SIZE", help="Memory for records, per node.")
    ] = "256MiB",
    port: Annotated[
        int,
        typer.Option(envvar="KVCACHE_UP_PORT", metavar="PORT", help="The first node's port; 0 takes free ones."),
    ] = 7700,
    log_level: Annotated[
        str, typer.Option(envvar="KVCACHE_LOG_LEVEL", metavar="LEVEL", help="How much the nodes log.")
    ] = "warning",
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON once the cluster is ready.")] = False,
) -> None:
    """Run a whole cluster on this machine, with an embedded Valkey, until Ctrl-C."""
    from kvcache.commands.local_cluster import LocalPlan

    plan = LocalPlan(
        nodes=nodes,
        replicas=_copies(replicas, nodes),
        memory=parse_option(OPTIONS["memory"], memory, "--memory"),
        port=port,
        log_level=parse_option(OPTIONS["log_level"], log_level, "--log-level"),
    )
    raise typer.Exit(asyncio.run(_run(plan, as_json)))


def _copies(wanted: int | None, nodes: int) -> int:
    """Return how many copies of a key there are to be. Raises ``InvalidOption`` for more than there can be."""
    if wanted is None:
        return max(1, min(_COPIES, nodes))
    if wanted > nodes >= 1:
        raise InvalidOption(f"replicas is {wanted}; each copy needs a node of its own, and nodes is {nodes}")
    return wanted


async def _run(plan: LocalPlan, as_json: bool) -> int:
    from kvcache.commands.local_cluster import LocalCluster

    stopping = asyncio.Event()
    for number in _SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    cluster = LocalCluster(plan)
    try:
        if not await _start(cluster, stopping):
            return ExitCode.FINE
        _announce(cluster, as_json)
        return await _supervise(cluster, stopping)
    finally:
        await cluster.stop()


async def _start(cluster: LocalCluster, stopping: asyncio.Event) -> bool:
    """Start the cluster; False if it was told to stop before it was ready."""
    starting, told = asyncio.ensure_future(cluster.start()), asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait((starting, told), return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            return False
        starting.result()
        return True
    finally:
        for task in (starting, told):
            task.cancel()
        await asyncio.gather(starting, told, return_exceptions=True)


async def _supervise(cluster: LocalCluster, stopping: asyncio.Event) -> int:
    """Tell of each process that ends by itself; return when told to stop, or when no node is left."""
    from kvcache.commands.local_cluster import describe_exit

    told = asyncio.ensure_future(stopping.wait())
    valkey = asyncio.ensure_future(cluster.valkey.wait())
    losses = {valkey: "coordination (Valkey) {}; data is served on, but no node can join"}
    for node in cluster.nodes:
        ended = asyncio.ensure_future(node.process.wait())
        losses[ended] = f"{node.id} on {node.address} {{}}; the cluster goes on"
    try:
        while losses.keys() - {valkey}:
            await asyncio.wait({told, *losses}, return_when=asyncio.FIRST_COMPLETED)
            if told.done():
                return ExitCode.FINE
            for task in [task for task in losses if task.done()]:
                _tell(losses.pop(task).format(describe_exit(task.result())))
        _tell("no node is left")
        return ExitCode.FAILED
    finally:
        for pending in (told, *losses):
            pending.cancel()


def _tell(line: str) -> None:
    sys.stderr.write(line + "\n")


def _announce(cluster: LocalCluster, as_json: bool) -> None:
    plan, nodes = cluster.plan, cluster.nodes
    if as_json:
        print_json(
            {
                "nodes": [
                    {"id": node.id, "address": node.address, "url": node.url, "pid": node.process.pid} for node in nodes
                ],
                "seeds": cluster.seeds,
                "coordinator": {"url": cluster.valkey.url, "pid": cluster.valkey.pid},
                "replicas": plan.replicas,
                "memory": plan.memory,
            }
        )
        return
    print(
        f"The cluster is ready: nodes {len(nodes)}, copies of each key {plan.replicas}, "
        f"memory {format_size(plan.memory)} per node, coordination {cluster.valkey.url}.\n"
    )
    print_table(
        ("node", "address", "http", "pid"),
        [(node.id, node.address, node.url, node.process.pid) for node in nodes],
    )
    print(_HOW_TO_USE.format(url=nodes[0].url, first=nodes[0].address, seeds=cluster.seeds), flush=True)
