"""Changes: the next topology document, for everything that may happen to a cluster.

Here lives what each change makes of the document, as pure functions from one immutable document to the next. Never here: who
may ask for it, when (``decisions``), or how it is agreed upon (``registry``). A change that would change nothing returns the
very document that it was given. One that makes no sense raises ``InvalidOption`` or ``TopologyError``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from kvcache_client.placement.layout import MAX_RATE, MAX_REPLICATION_FACTOR, MAX_WEIGHT, STAGES, Move
from kvcache_client.placement.topology import MAX_GENERATIONS, Member, Topology
from kvcache_client.protocol.errors import InvalidOption
from kvcache_client.protocol.limits import KEY_BYTES
from kvcache_client.protocol.version import version_at, version_ms

__all__ = [
    "advance_move",
    "begin_move",
    "cancel_move",
    "drain",
    "forget",
    "marked",
    "purge",
    "registered",
    "remove",
    "replicas",
    "reseeded",
    "reweight",
    "throttle",
]


def _next(topology: Topology, fence: int = 0, **fields: Any) -> Topology:
    return replace(topology, epoch=topology.epoch + 1, fence=max(topology.fence, fence), **fields)


def _with(topology: Topology, member: Member, fence: int = 0) -> Topology:
    members = {other.id: other for other in topology.members} | {member.id: member}
    return _next(topology, fence, members=tuple(members[id] for id in sorted(members)))


def _member(topology: Topology, id: str) -> Member:
    member = topology.member(id)
    if member is None:
        known = ", ".join(other.id for other in topology.members)
        raise InvalidOption(f"{id!r:.80} is no member of cluster {topology.cluster!r}; its members are {known}")
    return member


# What a node says of itself


def registered(topology: Topology, member: Member) -> Topology:
    """Return the document in which ``member`` has (re)appeared as a process.

    The first of all owns everything at once. A new one is joining. One that comes back as another incarnation has lost its
    memory: it is syncing until it holds again what its co-owners hold. Weight and leaving stay as the cluster has them.
    """
    if not topology.layout.nodes:
        return _with(topology, replace(member, state="up")).settled()
    known = topology.member(member.id)
    if known is None:
        return _with(topology, replace(member, state="joining"))
    state = known.state
    if member.incarnation != known.incarnation:
        state = "syncing" if member.id in _owners(topology) else "joining"
    now = replace(member, state=state, weight=known.weight, leaving=known.leaving)
    return topology if now == known else _with(topology, now)


def _owners(topology: Topology) -> frozenset[str]:
    """Return who is asked for data: the owners in force, and those of a move that has been switched."""
    owners = topology.layout.ids
    return owners | topology.move.target.ids if topology.move and topology.move.stage == "switch" else owners


def marked(topology: Topology, ids: Iterable[str], state: str) -> Topology:
    """Return the document in which the members ``ids`` are in ``state``; those that are gone are passed over."""
    wanted = set(ids)
    members = tuple(replace(member, state=state) if member.id in wanted else member for member in topology.members)
    return topology if members == topology.members else _next(topology, members=members)


def reseeded(topology: Topology, epoch: int) -> Topology:
    """Return the document to be put into a coordinator that has lost it: the same, above every epoch that was ever seen."""
    return replace(topology, epoch=max(topology.epoch, epoch) + 1)


# Moves


def begin_move(topology: Topology, id: str, now_ms: int, reason: str, rate: int = 0, fence: int = 0) -> Topology:
    """Return the document in which the move to the wanted layout has begun."""
    target = topology.wanted()
    if topology.move is not None or target == topology.layout:
        return topology
    return _next(topology, fence, move=Move(id, STAGES[0], target, reason, now_ms, rate))


def advance_move(topology: Topology, fence: int = 0) -> Topology:
    """Return the document in which the move is in its next stage, or done after the last."""
    move = topology.move
    if move is None:
        return topology
    place = STAGES.index(move.stage) + 1
    if place == len(STAGES):
        return _finished(topology, move, fence)
    members = topology.members
    if STAGES[place] == "switch":  # those that have received everything now answer for it
        members = tuple(
            replace(member, state="up") if member.state == "joining" and member.id in move.target.ids else member
            for member in members
        )
    return _next(topology, fence, members=members, move=replace(move, stage=STAGES[place]))


def _finished(topology: Topology, move: Move, fence: int) -> Topology:
    gone = topology.layout.ids - move.target.ids
    members = tuple(member for member in topology.members if not (member.id in gone and member.leaving))
    return _next(topology, fence, members=members, layout=move.target, move=None)


def cancel_move(topology: Topology, fence: int = 0) -> Topology:
    """Return the document without the move, and without the wishes that led to it.

    Who was to join by it is out, and may join again as another process. One that came later still joins.

    Raises ``InvalidOption`` after the switch: then the data is there already, and going on is the way out.
    """
    move = topology.move
    if move is None:
        raise InvalidOption("no move is running")
    if move.stage == STAGES[-1]:
        raise InvalidOption("the move has switched to its new owners already; it ends by itself in a moment")
    owning = {node.id: node for node in topology.layout.nodes}
    newcomers = move.target.ids - topology.layout.ids
    members = tuple(
        replace(member, weight=owning[member.id].weight, zone=owning[member.id].zone, leaving=False)
        if member.id in owning
        else member
        for member in topology.members
        if member.id not in newcomers
    )
    factor = topology.layout.replication_factor
    return _next(topology, fence, members=members, replication_factor=factor, move=None)


def throttle(topology: Topology, rate: int, fence: int = 0) -> Topology:
    """Return the document in which the running move pulls at most ``rate`` records a second per receiver; 0 is no limit."""
    _check("rate", rate, 0, MAX_RATE)
    if topology.move is None:
        raise InvalidOption("no move is running")
    return _next(topology, fence, move=replace(topology.move, rate=rate))


# What operators wish


def drain(topology: Topology, id: str, fence: int = 0) -> Topology:
    """Return the document in which ``id`` is to give away what it holds and leave."""
    member = _member(topology, id)
    if member.state == "down":
        raise InvalidOption(f"{id} is down and cannot hand anything over; remove it instead")
    return _leave(topology, member, fence)


def remove(topology: Topology, id: str, *, force: bool = False, fence: int = 0) -> Topology:
    """Return the document in which ``id`` is to own nothing any more, whether or not it is alive.

    Raises ``InvalidOption`` if that would lose data, unless ``force``: if some partitions have no other living owner.
    """
    member = _member(topology, id)
    others = [other for other in topology.members if other.id != id and other.id in topology.layout.ids]
    living = [other for other in others if other.state == "up"]
    if id in topology.layout.ids and not force:
        if topology.layout.replication_factor == 1 and member.state != "up":
            raise InvalidOption(
                f"removing {id} loses everything that only it holds: there is one copy of each key; force removes it anyway"
            )
        if len(others) - len(living) >= topology.layout.replication_factor - 1 and member.state != "up":
            dead = ", ".join(other.id for other in others if other.state != "up") or "nobody else"
            raise InvalidOption(
                f"removing {id} loses the partitions that it shares with {dead} alone; force removes it anyway"
            )
    if id not in _owners(topology) and topology.move is None:
        return forget(topology, id, fence)
    return _leave(topology, member, fence)


def _leave(topology: Topology, member: Member, fence: int) -> Topology:
    if member.leaving:
        return topology
    changed = _with(topology, replace(member, leaving=True), fence)
    if all(other.leaving for other in changed.members if other.state != "joining"):
        raise InvalidOption(f"{member.id} is the last owner: nobody could take over what it holds")
    return changed


def forget(topology: Topology, id: str, fence: int = 0) -> Topology:
    """Return the document without the member ``id``, which owns nothing."""
    _member(topology, id)
    return _next(topology, fence, members=tuple(member for member in topology.members if member.id != id))


def reweight(topology: Topology, id: str, weight: int, fence: int = 0) -> Topology:
    """Return the document in which ``id`` is to hold ``weight`` shares."""
    _check("weight", weight, 1, MAX_WEIGHT)
    member = _member(topology, id)
    return topology if member.weight == weight else _with(topology, replace(member, weight=weight), fence)


def replicas(topology: Topology, count: int, fence: int = 0) -> Topology:
    """Return the document in which each key is to have ``count`` copies."""
    _check("replicas", count, 1, MAX_REPLICATION_FACTOR)
    return topology if topology.replication_factor == count else _next(topology, fence, replication_factor=count)


def purge(topology: Topology, prefix: str, version: int, keep_after: int, fence: int = 0) -> Topology:
    """Return the document in which everything under ``prefix`` up to ``version`` is gone; an empty prefix is a flush.

    Generations at or below ``keep_after`` are dropped: nothing older than that can come back any more. So are those that a
    shorter prefix covers.
    """
    try:
        size = len(prefix.encode())
    except UnicodeEncodeError as error:
        raise InvalidOption(f"the prefix {prefix!r:.60} is not valid Unicode") from error
    if size > KEY_BYTES:
        raise InvalidOption(f"a prefix has at most {KEY_BYTES} bytes, this one {size}")
    touched = [at for other, at in topology.generations if prefix.startswith(other) or other.startswith(prefix)]
    if version <= (before := max(touched, default=-1)):  # our clock is behind: what came after that purge is to go, too
        version = version_at(version_ms(before) + 1)
    kept: list[tuple[str, int]] = [(prefix, version)]
    for old in topology.generations:
        covered = any(old[0].startswith(other) and old[1] <= at for other, at in kept)
        if not covered and old[1] > keep_after:
            kept.append(old)
    if len(kept) > MAX_GENERATIONS:
        way_out = "flush, purge a shorter prefix, or wait"
        raise InvalidOption(f"{MAX_GENERATIONS} purges of the last half hour are still in force; {way_out}")
    return _next(topology, fence, generations=tuple(sorted(kept)))


def _check(name: str, number: int, low: int, high: int) -> None:
    if type(number) is not int or not low <= number <= high:
        raise InvalidOption(f"{name}={number!r:.40}: must be an integer in {low}..{high}")
