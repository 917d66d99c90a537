"""The table of checks: what a doctor looks at, and what to do about what is found.

Here lives one row for each check, for the command, the runbook and the tests. Never here: how a check works.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from kvcache.cluster.doctor import coordination, machines, members
from kvcache.cluster.doctor.facts import Facts, Severity, Sign

__all__ = ["CHECKS", "Check", "Finding", "diagnose"]


@dataclass(frozen=True, slots=True)
class Check:
    """A row: its name, what it looks at, what to do about what it finds, and how it looks."""

    name: str
    looks_at: str
    advice: str
    find: Callable[[Facts], Iterator[Sign]]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to be acted on, or to be known; ``node`` is empty where it concerns the whole cluster."""

    severity: Severity
    check: str
    node: str
    text: str
    advice: str


CHECKS: Final[Mapping[str, Check]] = {
    row.name: row
    for row in (
        Check(
            "answers",
            "every member answers",
            "See whether the process runs and the port can be reached from here; its log ends with why it stopped.",
            members.answers,
        ),
        Check(
            "members",
            "every member is up, and nothing moves",
            "Down: restart or replace it. Anything else passes: kvcache admin wait-healthy.",
            members.states,
        ),
        Check(
            "epochs",
            "all go by the same topology",
            "Ask again in some seconds. If it stays, the node is cut off from the others: see 'Suspected split'.",
            members.epochs,
        ),
        Check(
            "versions",
            "all run the same kvcache",
            "End the rolling upgrade: restart those that are behind.",
            members.versions,
        ),
        Check(
            "clocks",
            "the clocks of all nodes and of the coordinator are within 500 ms",
            "Run an NTP client (chrony, systemd-timesyncd) on every machine, against the same servers.",
            coordination.clocks,
        ),
        Check(
            "copies",
            "there are members enough for the copies wanted",
            "Add members, or ask for another number of copies: kvcache admin replicas N.",
            members.copies,
        ),
        Check(
            "zones",
            "there are zones enough for the copies wanted",
            "Give every node a --zone that names what fails together, and have at least as many zones as copies.",
            members.zones,
        ),
        Check(
            "balance",
            "primaries, copies and records lie evenly, by weight",
            "Have as much weight in each zone as in the others, and --weight in proportion to --memory.",
            members.balance,
        ),
        Check(
            "hints",
            "nothing waits for a member that missed it",
            "It is handed over when the member is back. If some was dropped: kvcache admin repair, once all are up.",
            members.hints,
        ),
        Check(
            "tombstones",
            "deletes are remembered for as long as they must be",
            "kvcache admin repair now; then delete less at once, by purge PREFIX or a time to live.",
            members.forgotten,
        ),
        Check(
            "connections",
            "the descriptor limit lets in as many connections as are configured",
            "Raise LimitNOFILE (ulimits) to 64 more than --max-connections, or lower that: each client and node needs one.",
            machines.connections,
        ),
        Check(
            "descriptors",
            "file descriptors are left",
            "Raise LimitNOFILE (ulimits), and count the clients: each needs one connection per node.",
            machines.descriptors,
        ),
        Check(
            "swap",
            "no node's memory is swapped out",
            "swapoff -a, MemorySwapMax=0 or no swap for the container; give nodes less --memory if the machine is short of it.",
            machines.swap,
        ),
        Check(
            "memory",
            "budgets fit into the memory that there is",
            "Lower --memory, or give the container 1.1 x as much and 150 MB: see 'Size memory and nodes'.",
            machines.memory,
        ),
        Check(
            "redis",
            "every node reaches the same Redis or Valkey",
            "Start it, or let the nodes reach it: see 'Lost Redis'. Give all nodes the same --coordinator.",
            coordination.reached,
        ),
        Check(
            "redis-persistence",
            "it keeps the document on disk, and can",
            "appendonly yes (or a save rule) on a disk with room; then BGREWRITEAOF or BGSAVE must end with ok.",
            coordination.persistence,
        ),
        Check(
            "redis-eviction",
            "it throws nothing out",
            "maxmemory-policy noeviction, and a server that is not also a cache.",
            coordination.eviction,
        ),
        Check(
            "redis-access",
            "it asks for a password",
            "requirepass, or a user with rights on kvcache:* alone (ACL SETUSER), named in --coordinator by environment or file.",
            coordination.access,
        ),
        Check("redis-version", "it is recent enough", "Upgrade it: the document survives that.", coordination.release),
        Check(
            "redis-role",
            "it takes writes",
            "Point --coordinator at the primary, or at what follows it after a fail-over.",
            coordination.role,
        ),
    )
}


def diagnose(facts: Facts) -> list[Finding]:
    """Return all that any check finds, the worst first."""
    found = [
        Finding(severity, check.name, node, text, check.advice)
        for check in CHECKS.values()
        for severity, node, text in check.find(facts)
    ]
    order = list(Severity)
    return sorted(found, key=lambda finding: order.index(finding.severity))
