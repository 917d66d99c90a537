"""Gathering: what a cluster tells to whoever looks for what is wrong.

Here lives asking every member, and the outcome as plain data. Never here: what the answers mean (``table``).
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any, Final

from kvcache.cluster.admin import Admin
from kvcache.cluster.controller import reports_of
from kvcache.cluster.decisions import Report
from kvcache.cluster.doctor.facts import Facts, NodeFacts, Severity
from kvcache.cluster.doctor.table import CHECKS, diagnose
from kvcache_client.core.effects import Plan, Within
from kvcache_client.core.inspecting import json_of
from kvcache_client.placement.topology import Topology
from kvcache_client.protocol.errors import KvCacheError
from kvcache_client.protocol.verbs import Verb

__all__ = ["examine", "gather"]

_ASK_SECONDS: Final = 2.0
"""What an examination may take. A coordinator that is silent costs a node 0.6 s: it does not ask again."""


async def examine(admin: Admin) -> dict[str, Any]:
    """Return what is wrong with the cluster, as plain data: ``healthy``, ``findings``, and the ``checks`` that were made.

    Raises ``Forbidden`` to whoever is no admin.
    """
    facts = await gather(admin)
    findings = diagnose(facts)
    return {
        "cluster": facts.topology.cluster,
        "epoch": facts.topology.epoch,
        "members": len(facts.topology.members),
        "healthy": not any(finding.severity is Severity.ERROR for finding in findings),
        "checks": list(CHECKS),
        "findings": [asdict(finding) for finding in findings],
    }


async def gather(admin: Admin) -> Facts:
    """Ask every member that is not taken for dead."""
    topology = await admin.topology()
    client = admin.client
    statistics, seen, reports = await asyncio.gather(  # together, or who is silent is waited for three times
        client.node_statistics(), client.run(_examinations(topology)), client.run(reports_of(topology))
    )
    nodes = {
        member.id: _facts_of(statistics.get(member.id), seen.get(member.id), reports.get(member.id))
        for member in topology.members
    }
    return Facts(topology, nodes)


def _examinations(topology: Topology) -> Plan[dict[str, dict[str, Any] | KvCacheError]]:
    nodes = [member.id for member in topology.members if member.state != "down"]
    outcomes = yield Within([(node, [0, Verb.EXAMINE]) for node in nodes], _ASK_SECONDS)
    return {node: json_of(outcome, node, Verb.EXAMINE) for node, outcome in zip(nodes, outcomes, strict=True)}


def _facts_of(
    statistics: dict[str, Any] | KvCacheError | None,
    seen: dict[str, Any] | KvCacheError | None,
    report: Report | None,
) -> NodeFacts:
    if not isinstance(statistics, dict):
        return NodeFacts(silence=str(statistics or "it is not asked"))
    if not isinstance(seen, dict):
        return NodeFacts(statistics, report, unexamined=str(seen or "it is not asked"))
    return NodeFacts(statistics, report, seen.get("machine") or {}, seen.get("coordinator"))
