"""Topology: the cluster's document, which says who the members are, who owns now, and what is moving.

Here lives the document as an immutable value, its JSON form and the checks of it. Never here: how it is agreed upon
or spread, which member can be reached, or what a change of it should be (``kvcache.cluster.changes``).

What is *wanted* (``members`` with their weights, ``replication_factor``) and what *is* (``layout``) stand side by side.
A controller brings the second to the first by a ``move`` in stages; while one runs, the document holds both placements.

A document comes from outside (a coordinator, a node, a file), so all of it is checked, on every way in: a value of
these classes that exists is valid. Fields that this program does not know are ignored. A schema or an algorithm that
it does not know is refused, because programs that compute placement differently must not share a cluster.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from kvcache_client.placement.fields import (
    CLUSTER_ID,
    INCARNATION,
    NAME,
    ZONE,
    check_address,
    check_choice,
    check_flag,
    check_integer,
    check_text,
    refuse,
    take,
)
from kvcache_client.placement.layout import MAX_MEMBERS, MAX_REPLICATION_FACTOR, MAX_WEIGHT, Layout, Move
from kvcache_client.placement.spec import ALGORITHM, DEFAULT_VNODES, MAX_POINTS, Node, PlacementSpec
from kvcache_client.protocol.errors import TopologyError
from kvcache_client.protocol.limits import KEY_BYTES
from kvcache_client.protocol.record import brought_over, version_of
from kvcache_client.protocol.version import MAX_VERSION

__all__ = [
    "DOCUMENT_BYTES",
    "MAX_EPOCH",
    "MAX_GENERATIONS",
    "MAX_MEMBERS",
    "MAX_REPLICATION_FACTOR",
    "MAX_SEED",
    "MAX_VNODES",
    "MAX_WEIGHT",
    "SCHEMA",
    "STATES",
    "Member",
    "Topology",
    "hidden_to",
    "hides",
]

SCHEMA: Final = 1
DOCUMENT_BYTES: Final = 1024 * 1024
"""Largest document."""

MAX_EPOCH: Final = 1 << 53
"""Up to here an epoch stays exact in every JSON reader."""

MAX_SEED: Final = (1 << 32) - 1
MAX_VNODES: Final = 4096
_NOBODY: Final = Layout()

MAX_GENERATIONS: Final = 256
"""Flushes and purges that a document may carry; they are dropped when nothing older can come back."""

STATES: Final[Mapping[str, int]] = {"up": 0, "syncing": 1, "joining": 1, "down": 2}
"""State of a member -> its place in line among the owners of a partition: who is well is asked first.

One that is joining owns nothing yet. One that is down still owns, until it is removed. Anybody may be ``leaving`` as well.
"""


@dataclass(frozen=True, slots=True)
class Member:
    """A node as the cluster knows it: ``id`` outlives its process, ``incarnation`` names one run of it."""

    id: str
    address: str
    zone: str = ""
    weight: int = 1
    state: str = "up"
    incarnation: str = ""
    leaving: bool = False
    """Whether it is to own nothing any more; it is taken from the document once that is true."""

    def __post_init__(self) -> None:
        check_text("the id of a member", self.id, NAME)
        place = f"of member {self.id!r}"
        check_address(f"the address {place}", self.address)
        check_text(f"the zone {place}", self.zone, ZONE)
        check_integer(f"the weight {place}", self.weight, 1, MAX_WEIGHT)
        check_choice(f"the state {place}", self.state, STATES)
        check_text(f"the incarnation {place}", self.incarnation, INCARNATION)
        check_flag(f"leaving {place}", self.leaving)

    @property
    def shown_state(self) -> str:
        """The state in one word for people."""
        return "leaving" if self.leaving and self.state == "up" else self.state


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Topology:
    """The document. A change makes a new one with the next epoch; none is ever altered.

    ``layout`` says who owns now. ``generations`` are pairs ``(prefix, version)``: what lies under the prefix up to that
    version is flushed.
    """

    schema: int = SCHEMA
    cluster: str
    cluster_id: str
    epoch: int
    fence: int = 0
    """The highest fence of a lock under which the document was changed."""
    algorithm: str = ALGORITHM
    seed: int
    vnodes: int = DEFAULT_VNODES
    replication_factor: int
    members: tuple[Member, ...] = ()
    layout: Layout = _NOBODY
    move: Move | None = None
    generations: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        check_integer("schema", self.schema, SCHEMA, SCHEMA)
        check_text("cluster", self.cluster, NAME)
        check_text("cluster_id", self.cluster_id, CLUSTER_ID)
        check_integer("epoch", self.epoch, 1, MAX_EPOCH)
        check_integer("fence", self.fence, 0, MAX_EPOCH)
        check_choice("algorithm", self.algorithm, (ALGORITHM,))
        check_integer("seed", self.seed, 0, MAX_SEED)
        check_integer("vnodes", self.vnodes, 1, MAX_VNODES)
        check_integer("replication_factor", self.replication_factor, 1, MAX_REPLICATION_FACTOR)
        self._check_members()
        self._check_layouts()
        check_integer("the number of generations", len(self.generations), 0, MAX_GENERATIONS)
        for index, generation in enumerate(self.generations):
            _check_generation(f"generations[{index}]", generation)

    def _check_members(self) -> None:
        if len(self.members) > MAX_MEMBERS:
            raise TopologyError(f"there are {len(self.members)} members, the limit is {MAX_MEMBERS}")
        seen: set[str] = set()
        for member in self.members:
            if member.id in seen:
                raise TopologyError(f"the member {member.id!r} is listed twice")
            seen.add(member.id)
        # Members that do not own yet count too: the document must stay valid when they begin to.
        points = self.vnodes * sum(member.weight for member in self.members)
        if points > MAX_POINTS:
            raise TopologyError(
                f"vnodes times the sum of the weights is {points}, the limit is {MAX_POINTS}; "
                "weights are relative, so divide them all"
            )

    def _check_layouts(self) -> None:
        layouts = (self.layout, self.move.target) if self.move else (self.layout,)
        ids = {member.id for member in self.members}
        for layout in layouts:
            for node in layout.nodes:
                if node.id not in ids:
                    raise TopologyError(f"the layout names the node {node.id!r}, which is no member")
            points = self.vnodes * sum(node.weight for node in layout.nodes)
            check_integer("vnodes times the sum of a layout's weights", points, 0, MAX_POINTS)
        if self.move and not (self.layout.nodes and self.move.target.nodes):
            raise TopologyError("a move leads from owners to owners, not from or to nobody")

    @classmethod
    def found(
        cls, cluster: str, *, cluster_id: str, seed: int, replication_factor: int, vnodes: int = DEFAULT_VNODES
    ) -> Topology:
        """Return the first document of a new cluster: epoch 1, no members.

        ``cluster_id`` (hex digits) and ``seed`` (32 bits) are the caller's, drawn at random.
        """
        return cls(
            cluster=cluster,
            cluster_id=cluster_id,
            epoch=1,
            seed=seed,
            vnodes=vnodes,
            replication_factor=replication_factor,
            layout=Layout(replication_factor),
        )

    def member(self, id: str) -> Member | None:
        """Return the member of that id, or None."""
        return next((member for member in self.members if member.id == id), None)

    def with_member(self, member: Member) -> Topology:
        """Return the next document, in which ``member`` is new or takes the place of the one with its id."""
        members = {other.id: other for other in self.members} | {member.id: member}
        return replace(self, members=tuple(members[id] for id in sorted(members)), epoch=self.epoch + 1)

    def wanted(self) -> Layout:
        """Return the layout that the members and the replication factor ask for.

        Who is leaving is not in it, nor is one that went down before it ever owned anything. It is never empty while
        somebody owns: the last owners keep what they have.
        """
        owning = {node.id for node in self.layout.nodes}
        nodes = tuple(
            Node(member.id, member.zone, member.weight)
            for member in sorted(self.members, key=lambda member: member.id)
            if not member.leaving and (member.id in owning or member.state != "down")
        )
        return Layout(self.replication_factor, nodes or self.layout.nodes)

    @property
    def at_rest(self) -> bool:
        """Whether nothing moves and nothing is to move: until then, a write also goes to nodes that are about to drop it."""
        return self.move is None and self.layout == self.wanted()

    def settled(self) -> Topology:
        """Return this document, of the same epoch, with the wanted layout in force: for a cluster that holds no data yet."""
        return replace(self, layout=self.wanted(), move=None)

    def spec(self) -> PlacementSpec:
        """Return what the placement in force is computed from."""
        return self.spec_of(self.layout)

    def spec_of(self, layout: Layout) -> PlacementSpec:
        """Return what the placement of ``layout`` is computed from."""
        return PlacementSpec(
            algorithm=self.algorithm,
            seed=self.seed,
            vnodes=self.vnodes,
            replication_factor=layout.replication_factor,
            nodes=layout.nodes,
        )

    def to_json(self) -> bytes:
        """Return the document as JSON in ASCII. Raises ``TopologyError`` if it is too large to be read back."""
        data = json.dumps(asdict(self), separators=(",", ":")).encode("ascii")
        _check_size(data)
        return data

    @classmethod
    def from_json(cls, data: bytes) -> Topology:
        """Return the document in ``data``. Raises ``TopologyError``, which names the place and the value."""
        document = _parse(data)
        check_integer("schema", document.get("schema"), SCHEMA, SCHEMA)  # first: it decides what the rest means
        fields = take(document, "the document", cls.__dataclass_fields__)
        for name in ("members", "generations"):
            if type(fields[name]) is not list:
                refuse(name, fields[name], "a list")
        if len(fields["members"]) <= MAX_MEMBERS:  # else the check of the number refuses it
            fields["members"] = [_member(f"members[{at}]", entry) for at, entry in enumerate(fields["members"])]
        fields["members"] = tuple(fields["members"])
        fields["layout"] = Layout.from_fields("layout", fields["layout"])
        if fields["move"] is not None:
            fields["move"] = Move.from_fields("move", fields["move"])
        fields["generations"] = tuple(tuple(it) if type(it) is list else it for it in fields["generations"])
        return cls(**fields)

    def __repr__(self) -> str:
        shown = [f"{member.id}={member.shown_state}" for member in self.members[:8]]
        if len(self.members) > len(shown):
            shown.append(f"... {len(self.members)} in all")
        return (
            f"<Topology {self.cluster!r} epoch={self.epoch} rf={self.replication_factor} members=[{', '.join(shown)}]"
            f"{f' {self.move!r}' if self.move else ''}>"
        )


def hidden_to(generations: Iterable[tuple[str, int]], name: bytes) -> int:
    """Return up to which version flushes and purges hide the key ``name``; -1 if none does."""
    return max((version for prefix, version in generations if name.startswith(prefix.encode())), default=-1)


def hides(generations: Iterable[tuple[str, int]], name: bytes, record: bytes) -> bool:
    """Say whether flushes and purges hide ``record`` under the key ``name``; one that was restored over them they do not."""
    hidden = hidden_to(generations, name)
    return version_of(record) <= hidden and brought_over(record) < hidden


def _parse(data: bytes) -> dict[str, Any]:
    _check_size(data)
    try:
        document = json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise TopologyError(f"the document is not JSON ({error}); it begins with {data[:40]!r}") from error
    if type(document) is not dict:
        refuse("the document", document, "a JSON object")
    return document


def _check_size(data: bytes) -> None:
    if len(data) > DOCUMENT_BYTES:
        raise TopologyError(f"the document has {len(data)} bytes, the limit is {DOCUMENT_BYTES}")


def _member(place: str, entry: object) -> Member:
    fields = take(entry, place, Member.__dataclass_fields__)
    try:
        return Member(**fields)
    except TopologyError as error:
        raise TopologyError(f"{place}: {error}") from error


def _check_generation(place: str, generation: object) -> None:
    if type(generation) is not tuple or len(generation) != 2:
        refuse(place, generation, "a pair of a prefix and a version")
    prefix, version = generation
    # A lone surrogate can't be encoded, so "replace" makes it differ: no node could compare such a prefix with keys.
    encoded = prefix.encode(errors="replace") if type(prefix) is str else b""
    if type(prefix) is not str or len(encoded) > KEY_BYTES or encoded.decode() != prefix:
        refuse(f"{place}[0]", prefix, f"valid Unicode of at most {KEY_BYTES} bytes")
    check_integer(f"{place}[1]", version, 0, MAX_VERSION)
