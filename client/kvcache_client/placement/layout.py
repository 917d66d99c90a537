"""Layouts and moves: who owns the data, and the passage from one such state to the next.

Here live the two values, their checks and the stages of a move. Never here: which owners a layout gives to a partition
(``ring``), who is asked in which stage (``routes``), or when a stage is over (the controller). ::

    stage      reads      writes     what goes on
    -          A          A
    prepare    A          A and B    every node learns of the move: from now on no write misses B
    stream     A          A and B    the owners of B pull what they lack
    switch     B          A and B    every node learns that B answers; after that A gets no more writes
    -          B          B          B is the layout; what A no longer owns is dropped
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from kvcache_client.placement.fields import (
    CLUSTER_ID,
    NAME,
    REASON,
    ZONE,
    check_choice,
    check_integer,
    check_text,
    refuse,
    take,
)
from kvcache_client.placement.spec import Node
from kvcache_client.protocol.errors import TopologyError

__all__ = ["MAX_MEMBERS", "MAX_RATE", "MAX_REPLICATION_FACTOR", "MAX_WEIGHT", "STAGES", "Layout", "Move"]

T = TypeVar("T")

MAX_REPLICATION_FACTOR: Final = 8
MAX_WEIGHT: Final = 1000
MAX_MEMBERS: Final = 1024
MAX_RATE: Final = 1 << 40

STAGES: Final = ("prepare", "stream", "switch")
"""The stages of a move, in their order."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Who owns, with what weight, and how many copies there are. ``nodes`` are sorted by id."""

    replication_factor: int = 1
    nodes: tuple[Node, ...] = ()

    def __post_init__(self) -> None:
        check_integer("replication_factor of a layout", self.replication_factor, 1, MAX_REPLICATION_FACTOR)
        check_integer("the number of nodes of a layout", len(self.nodes), 0, MAX_MEMBERS)
        for node in self.nodes:
            check_text("the id of a node", node.id, NAME)
            check_text(f"the zone of node {node.id!r}", node.zone, ZONE)
            check_integer(f"the weight of node {node.id!r}", node.weight, 1, MAX_WEIGHT)
        ids = [node.id for node in self.nodes]
        if ids != sorted(set(ids)):
            raise TopologyError("the nodes of a layout are not sorted by id, or one is listed twice")

    @property
    def ids(self) -> frozenset[str]:
        """The ids of all owners."""
        return frozenset(node.id for node in self.nodes)

    @classmethod
    def from_fields(cls, place: str, entry: object) -> Layout:
        """Return the layout in a JSON object. Raises ``TopologyError``, which names the place."""
        fields = take(entry, place, cls.__dataclass_fields__)
        if type(fields["nodes"]) is not list or len(fields["nodes"]) > MAX_MEMBERS:
            refuse(f"{place}.nodes", fields["nodes"], f"a list of at most {MAX_MEMBERS} nodes")
        nodes = tuple(
            Node(**take(node, f"{place}.nodes[{at}]", Node.__dataclass_fields__))
            for at, node in enumerate(fields["nodes"])
        )
        return _placed(place, cls, replication_factor=fields["replication_factor"], nodes=nodes)


@dataclass(frozen=True, slots=True)
class Move:
    """A move under way, to the layout ``target``. ``id`` names it: data that was streamed for another one is refused."""

    id: str
    stage: str
    target: Layout
    reason: str = ""
    """Why, in words, for people."""
    began_ms: int = 0
    """When, in ms since 1970."""
    rate: int = 0
    """Records a second that each receiver may pull; 0 is as fast as it can."""

    def __post_init__(self) -> None:
        check_text("the id of a move", self.id, CLUSTER_ID)
        check_choice("the stage of a move", self.stage, STAGES)
        check_text("the reason of a move", self.reason, REASON)
        check_integer("the begin of a move", self.began_ms, 0, (1 << 48) - 1)
        check_integer("the rate of a move", self.rate, 0, MAX_RATE)

    @classmethod
    def from_fields(cls, place: str, entry: object) -> Move:
        """Return the move in a JSON object. Raises ``TopologyError``, which names the place."""
        fields = take(entry, place, cls.__dataclass_fields__)
        fields["target"] = Layout.from_fields(f"{place}.target", fields["target"])
        return _placed(place, cls, **fields)

    def __repr__(self) -> str:
        return f"<Move {self.id} {self.stage} to {len(self.target.nodes)} nodes rf={self.target.replication_factor}>"


def _placed(place: str, make: Callable[..., T], **fields: Any) -> T:
    try:
        return make(**fields)
    except TopologyError as error:
        raise TopologyError(f"{place}: {error}") from error
