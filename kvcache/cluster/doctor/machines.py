"""Checks of the machines: what a node needs of the one it runs on.

Here live functions from facts to signs. Never here: how a node learns of its machine (``kvcache.machine``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from kvcache.cluster.doctor.facts import Facts, Severity, Sign, figure, listed
from kvcache.option_values import format_size

__all__ = ["connections", "descriptors", "memory", "swap"]

FULL: Final = 0.8
"""Of a limit: worth a warning."""
NEARLY_OVER: Final = 0.95
"""Of a limit: an error."""

PROMISED: Final = 1.1
"""Real memory is at most this many times the budget, and an empty process."""
PROCESS_BYTES: Final = 60 << 20


def connections(facts: Facts) -> Iterator[Sign]:
    """Room for the connections that were asked for, and those that are open."""
    for id, node in facts.told():
        room, wanted = figure(node.machine, "connections"), figure(node.machine, "connections_wanted")
        if room is not None and wanted is not None and room < wanted:
            limit = figure(node.machine, "descriptors_limit")
            yield Severity.ERROR, id, f"has room for {room} of {wanted} connections: the limit is {limit} descriptors"
        used = figure(node.statistics, "stream", "connections")
        if room and used and used > FULL * room:
            yield Severity.WARNING, id, f"has {used} connections of {room}"


def descriptors(facts: Facts) -> Iterator[Sign]:
    """File descriptors in use."""
    for id, machine in facts.machines():
        used, limit = figure(machine, "descriptors"), figure(machine, "descriptors_limit")
        if used and limit and used > FULL * limit:
            severity = Severity.ERROR if used > NEARLY_OVER * limit else Severity.WARNING
            yield severity, id, f"uses {used} file descriptors of {limit}"


def swap(facts: Facts) -> Iterator[Sign]:
    """Memory on disk, where a cache has none."""
    for id, machine in facts.machines():
        mine, all_of_it = figure(machine, "swapped_bytes"), figure(machine, "machine_swapped_bytes")
        if mine:
            yield Severity.ERROR, id, f"has {format_size(int(mine))} of its memory in swap"
        elif all_of_it:
            yield Severity.WARNING, id, f"runs on a machine that has {format_size(int(all_of_it))} in swap"


def memory(facts: Facts) -> Iterator[Sign]:
    """Budgets against the memory that there is: each node in its control group, and all that share a machine."""
    together: dict[str, dict[str, float]] = {}
    physical: dict[str, float] = {}
    for id, node in facts.told():
        budget, limit = figure(node.statistics, "store", "budget_bytes"), figure(node.machine, "memory_limit_bytes")
        member = facts.topology.member(id)
        host = member.address.rpartition(":")[0] if member else id
        machine, total = str(node.machine.get("machine") or host), figure(node.machine, "machine_memory_bytes")
        if budget is None:
            continue
        needed = PROMISED * budget + PROCESS_BYTES
        together.setdefault(machine, {})[id] = needed
        if total is not None:
            physical[machine] = total
        if limit is not None and needed > limit:
            yield (
                Severity.ERROR,
                id,
                f"may need {format_size(int(needed))}, and its control group allows {format_size(int(limit))}",
            )
    for machine, needs in together.items():
        if machine in physical and sum(needs.values()) > physical[machine]:
            sizes = format_size(int(sum(needs.values()))), format_size(int(physical[machine]))
            text = f"{listed(needs)} may need {sizes[0]} on a machine that has {sizes[1]}"
            yield Severity.ERROR, min(needs), text
