"""Facts: what a checkup goes by, and what it finds.

Here live the data that pass between gathering, checks and showing. Never here: a threshold.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

from kvcache.cluster.decisions import Report
from kvcache_client.placement.topology import Topology

__all__ = ["Facts", "NodeFacts", "Severity", "Sign", "figure", "listed"]


class Severity(StrEnum):
    """How bad it is."""

    ERROR = "error"
    """Something does not work, or data is at risk: act now."""
    WARNING = "warning"
    """It will not hold for ever, or the next accident costs more than it should."""
    NOTE = "note"
    """Worth knowing."""


Sign: TypeAlias = tuple[Severity, str, str]
"""What a check sees: how bad it is, at which node (empty: the cluster), and the sentence that says so."""


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What one node told. What it did not tell is empty; ``silence`` is why nothing came at all."""

    statistics: Mapping[str, Any] = field(default_factory=dict)
    report: Report | None = None
    machine: Mapping[str, Any] = field(default_factory=dict)
    coordinator: Mapping[str, Any] | None = None
    """None if the node has no coordinator."""
    unexamined: str = ""
    """Why it tells nothing of its machine and coordinator, as a node of an older version."""
    silence: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the document says, and what each member told."""

    topology: Topology
    nodes: Mapping[str, NodeFacts]

    def told(self) -> Iterator[tuple[str, NodeFacts]]:
        """Yield the nodes that answered."""
        return ((id, node) for id, node in self.nodes.items() if not node.silence)

    def machines(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield what each node that answered sees of its machine."""
        return ((id, node.machine) for id, node in self.told())

    def coordinators(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield what each node sees of its coordinator, if that answered it."""
        for id, node in self.told():
            if node.coordinator is not None and not node.coordinator.get("error"):
                yield id, node.coordinator


def figure(facts: Mapping[str, Any], *path: str) -> int | float | None:
    """Return the number at ``path``; None if it is not there or no number, for other versions tell other things."""
    found: Any = facts
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if isinstance(found, int | float) and not isinstance(found, bool) else None


def listed(names: Iterable[str]) -> str:
    """Return names in one phrase, in order."""
    return ", ".join(sorted(names))
