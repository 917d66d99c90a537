"""``kvcache status``: the members of a cluster, and what each of them says about itself.

Here lives the table and its JSON. Never here: the counters' meaning (``service``) or the computation of shares
(``placement``).
"""

from __future__ import annotations

from typing import Any

import typer

from kvcache.commands.data import DEFAULT_SEEDS, DEFAULT_TIMEOUT, AsJson, Seeds, Timeout, connect
from kvcache.commands.outcome import ExitCode, reported
from kvcache.commands.output import print_json, print_table
from kvcache.option_values import format_size
from kvcache_client.placement.partitions import PARTITIONS
from kvcache_client.placement.ring import build_placement
from kvcache_client.placement.topology import Topology
from kvcache_client.protocol.errors import KvCacheError

__all__ = ["status"]


@reported
def status(seeds: Seeds = DEFAULT_SEEDS, timeout: Timeout = DEFAULT_TIMEOUT, as_json: AsJson = False) -> None:
    """Show the members of the cluster. Exit code 1 says that one or more cannot be reached."""
    with connect(seeds, timeout) as cache:
        topology = cache.topology()
        statistics = cache.node_statistics()
    members = describe_members(topology, statistics)
    if as_json:
        print_json(
            {
                "cluster": topology.cluster,
                "cluster_id": topology.cluster_id,
                "epoch": topology.epoch,
                "replication_factor": topology.replication_factor,
                "members": members,
                "move": _move(topology),
            }
        )
    else:
        _print(topology, members)
    if not all(member["reachable"] for member in members):
        raise typer.Exit(ExitCode.NEGATIVE)


def describe_members(topology: Topology, statistics: dict[str, dict[str, Any] | KvCacheError]) -> list[dict[str, Any]]:
    """Return what is known of each member, as plain data. What an unreachable one holds is None."""
    placement = build_placement(topology.spec())
    copies, primaries = placement.copies(), placement.primaries()
    rows = []
    for member in topology.members:
        told = statistics.get(member.id)
        store = told.get("store", {}) if isinstance(told, dict) else {}
        rows.append(
            {
                "id": member.id,
                "address": member.address,
                "zone": member.zone,
                "weight": member.weight,
                "state": member.shown_state,
                "reachable": isinstance(told, dict),
                "error": f"{type(told).__name__}: {told}" if isinstance(told, KvCacheError) else None,
                "epoch": told.get("topology", {}).get("epoch") if isinstance(told, dict) else None,
                "records": store.get("records"),
                "used_bytes": store.get("used_bytes"),
                "budget_bytes": store.get("budget_bytes"),
                "copies": copies.get(member.id, 0),
                "primaries": primaries.get(member.id, 0),
            }
        )
    return rows


def _move(topology: Topology) -> dict[str, Any] | None:
    move = topology.move
    return None if move is None else {"id": move.id, "stage": move.stage, "reason": move.reason, "rate": move.rate}


def _print(topology: Topology, members: list[dict[str, Any]]) -> None:
    print(
        f"cluster {topology.cluster}, epoch {topology.epoch}, copies of each key {topology.replication_factor}, "
        f"members {len(members)}"
    )
    if topology.move is not None:
        print(f"a move is going on: {topology.move.reason}, stage {topology.move.stage}")
    print()
    print_table(
        (
            "node",
            "address",
            "zone",
            "weight",
            "state",
            "reachable",
            "epoch",
            "records",
            "memory",
            "copies",
            "primaries",
        ),
        [
            (
                member["id"],
                member["address"],
                member["zone"] or None,
                member["weight"],
                member["state"],
                member["error"] or ("yes" if member["reachable"] else "no"),
                member["epoch"],
                member["records"],
                _memory(member),
                f"{member['copies'] / PARTITIONS:.1%}",
                f"{member['primaries'] / PARTITIONS:.1%}",
            )
            for member in members
        ],
    )


def _memory(member: dict[str, Any]) -> str | None:
    used, budget = member["used_bytes"], member["budget_bytes"]
    return None if used is None or budget is None else f"{format_size(used)} of {format_size(budget)}"
