"""Twins: two living processes that go by one node id.

Here lives finding that out: by whoever comes second, before it takes the place of the first; and by a process that reads in the
document that another one has taken its place. Never here: what a node does then (``membership``, ``node``).

The document keeps one life of each id. A copied configuration, or a machine thought dead that was merely paused, must not have
two processes take turns in it: keys would go to one and be looked for at the other.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

from kvcache.events import journal
from kvcache_client.bodies.aio_connection import connect
from kvcache_client.core.brain import Brain
from kvcache_client.core.reading import as_error
from kvcache_client.placement.topology import Member, Topology
from kvcache_client.protocol.errors import InvalidOption, KvCacheError
from kvcache_client.protocol.verbs import Verb

__all__ = ["Place", "lives"]


class Place:
    """The place of one process in the document. ``mine`` is what it says of itself, ``brain`` that of its client.

    ``lost`` is set when another process has it, and ``reason`` says which.
    """

    def __init__(self, mine: Callable[[], Member], brain: Callable[[], Brain]) -> None:
        self._mine = mine
        self._brain = brain
        self.lost = asyncio.Event()
        self.reason = ""

    async def refuse_twin(self, known: Topology) -> None:
        """Raise ``InvalidOption``, which names both addresses, if another process lives under this id.

        One that lived at the same address is gone: we listen there ourselves.
        """
        mine = self._mine()
        there = self.taken_by(known)
        if there is not None and there.address != mine.address and await lives(self._brain(), there):
            raise InvalidOption(
                f"node {mine.id} lives at {there.address} already; this process at {mine.address} needs an id of its own"
            )

    def taken_by(self, document: Topology) -> Member | None:
        """Return the other process that the document has under this id, if it does."""
        mine = self._mine()
        there = document.member(mine.id)
        return there if there is not None and there.incarnation != mine.incarnation else None

    async def is_lost_to(self, other: Member) -> bool:
        """Say whether ``other`` lives, so that this process must end; who does not live is only a memory of the document."""
        mine = self._mine()
        if other.address == mine.address or not await lives(self._brain(), other):
            return False
        self.reason = f"node {mine.id} lives at {other.address} now; this process at {mine.address} must end"
        journal.say("place_lost", reason=self.reason)
        self.lost.set()
        return True

    def __repr__(self) -> str:
        return f"<Place of {self._mine().id} {self.reason or 'held'}>"


async def lives(brain: Brain, there: Member) -> bool:
    """Say whether exactly that process answers at its address."""
    try:
        connection, _ = await connect(brain, there.address)
    except KvCacheError:
        return False
    try:
        outcome = await connection.ask([0, Verb.REPORT])
    finally:
        connection.end(ConnectionError("asked all that was needed"))
    if isinstance(outcome, KvCacheError) or as_error(outcome, there.id, Verb.REPORT) is not None:
        return False
    try:
        report = json.loads(outcome[2])
    except ValueError:
        return False
    return isinstance(report, dict) and report.get("incarnation") == there.incarnation
