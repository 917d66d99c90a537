"""Loader: brings a node what it should hold and does not: after a restart, after a pause, and in a move.

Here lives deciding what to pull from whom, and pulling it, a few partitions at a time. Never here: the requests themselves
(``core.pulling``), or what a node that is not complete may answer (``service``).

Two kinds of loading, each with its own session: *syncing* (this node owns the partitions already; it answers no reads of them
until it has what its co-owners hold and what stand-ins kept for it) and *receiving* (a move gives them to it; nobody reads
them here before the move is switched). Partitions whose digests are equal are not sent at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from kvcache.events import journal
from kvcache.service.loading import Loading
from kvcache.service.ownership import Ownership
from kvcache.service.service import Service
from kvcache_client.core.effects import Plan
from kvcache_client.core.inspecting import documents_of, newest_of
from kvcache_client.core.pulling import ANYTHING, Row, ask, digests, rows
from kvcache_client.placement.topology import STATES, Topology
from kvcache_client.protocol.errors import ConnectFailed, KvCacheError, NotReady
from kvcache_client.protocol.verbs import Verb

__all__ = ["Loader"]

_GROUP: Final = 64
"""Partitions compared in one request: a few milliseconds of work for the node that is asked."""

_WORKERS: Final = 4
_RETRY_SECONDS: Final = 0.05
_TELL_SECONDS: Final = 0.5
"""What the others get to tell which document is in force; one of them is enough."""

_COLLECT_TRIES: Final = 20
_COLLECT_SECONDS: Final = 0.5
"""What a stand-in gets to hand over a part of what it keeps; one that is silent must not hold everything up."""


class Loader:
    """The loading of one node. ``run`` drives a plan through the node's own client; ``synced`` is called when all is there.

    ``adopt`` has the node go by a document, if it is newer.
    """

    def __init__(
        self,
        service: Service,
        run: Callable[[Plan[Any]], Awaitable[Any]],
        synced: Callable[[], Awaitable[None]],
        adopt: Callable[[Topology], Awaitable[None]],
    ) -> None:
        self.syncing = Loading()
        self.receiving = Loading()
        self._service = service
        self._run = run
        self._synced = synced
        self._adopt = adopt
        self._work = asyncio.Event()
        self._unsaid = False
        """Whether something was asked for since the node was last complete."""
        self._asked = 0
        self._free_at = 0.0
        self._counted = 0

    def sync(self, session: str) -> None:
        """Pull everything that this node owns again, and answer no reads before that is done."""
        ownership = self._service.ownership
        if ownership is None:
            return
        mine = [partition for partition, reads in enumerate(ownership.writable) if reads]
        self._service.begin_loading(mine)
        self._service.uninformed = True
        self.syncing.begin(session, mine)
        self.collect()

    def collect(self) -> None:
        """Ask stand-ins for what they keep for this node; until it is here, the node decides nothing."""
        self._unsaid = True
        self._asked += 1
        self._work.set()

    def resync(self, partitions: list[int]) -> None:
        """Pull some partitions again in the background; they are answered meanwhile."""
        for partition in partitions:
            self.syncing.again(partition)
        self.collect()

    def follow(self, ownership: Ownership) -> None:
        """Take up, or give up, what a move asks of this node."""
        move = ownership.topology.move
        if move is None or move.stage == "prepare":
            if self.receiving.session:
                self.receiving.begin("", ())
        elif move.stage == "stream" and self.receiving.session != move.id:
            self.receiving.begin(move.id, ownership.moving)
            journal.say("receiving", move=move.id, partitions=self.receiving.left)
        elif self.receiving.left:  # switched while something was missing: it must not be answered for
            missing = [partition for partition, loading in enumerate(self.receiving.flags) if loading]
            self._service.begin_loading(missing)
            self.resync(missing)
        self._work.set()

    @property
    def left(self) -> int:
        """Partitions that are still to be pulled."""
        return self.syncing.left + self.receiving.left

    async def run(self) -> None:
        """Load whatever there is to load, for ever."""
        while True:
            await self._work.wait()
            self._work.clear()
            while self.left or self._unsaid:
                await self._catch_up()
                await asyncio.gather(*(self._pull_some(self.receiving) for _ in range(_WORKERS)))
                await asyncio.gather(*(self._pull_some(self.syncing) for _ in range(_WORKERS)))
                if not self.syncing.left and self._unsaid:
                    await self._finish_syncing()

    async def _catch_up(self) -> None:
        """Learn by which document the others go, before anything that this node holds is shown.

        One flush is a line in a document: who missed it would take all that it hides for true, and the coordinator, which
        tells of it, may be away just now. Where all others are gone, there is nobody to ask.
        """
        while self._service.uninformed and (others := self._others()):
            asked = self._asked
            told = newest_of(await self._run(documents_of(others, _TELL_SECONDS)))
            if told is None:
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            await self._adopt(told)
            self._service.uninformed = self._asked != asked  # another pause meanwhile: what was told is old

    def _others(self) -> list[str]:
        """Return the other members, those that are not known to be gone."""
        ownership = self._service.ownership
        if ownership is None:
            return []
        me = self._service.identity.node
        return [member.id for member in ownership.topology.members if member.id != me and member.state != "down"]

    async def _finish_syncing(self) -> None:
        """Collect what stand-ins kept meanwhile; then this node is complete."""
        asked = self._asked
        await self._collect_hints()
        if self._asked != asked or self.syncing.left:
            return  # another pause, another round
        self._unsaid = False
        self._service.loaded_all()
        await self._synced()

    async def _collect_hints(self) -> None:
        me = self._service.identity.node
        await asyncio.gather(*(self._collect_from(node, me) for node in self._others()))

    async def _collect_from(self, node: str, me: str) -> None:
        """Have a stand-in hand over what it keeps. Who was away asks again: what it lacks was acknowledged there."""
        patient = self._service.loading
        for _ in range(_COLLECT_TRIES):
            try:
                reply = await self._run(ask(node, [0, Verb.DELIVER, me], _COLLECT_SECONDS))
            except KvCacheError as error:
                if patient and not self._is_down(node):
                    await asyncio.sleep(_RETRY_SECONDS)
                    continue
                journal.say("hints_withheld", source=node, error=error)
                return  # it delivers by itself when it can
            if not reply[2]:
                return

    async def _pull_some(self, loading: Loading) -> None:
        session = loading.session
        groups: dict[tuple[str, str], list[int]] = {}
        for partition in loading.next(_GROUP):
            source = self._giver(partition, session) if loading is self.receiving else self._source(partition)
            if source is None:
                loading.done(session, partition)  # nobody has anything
            else:
                groups.setdefault(source, []).append(partition)
        for (node, scope), partitions in groups.items():
            try:
                await self._pull(loading, session, node, scope, partitions)
            except KvCacheError as error:
                if isinstance(error, ConnectFailed) and self._is_down(node):
                    for partition in partitions:
                        loading.done(session, partition)  # it is gone indeed
                    continue
                journal.say("pull_failed", partitions=len(partitions), source=node, error=error)
                await asyncio.sleep(_RETRY_SECONDS)
            finally:
                for partition in partitions:
                    loading.failed(session, partition)  # those that are done are not affected

    def _is_down(self, node: str) -> bool:
        ownership = self._service.ownership
        member = ownership.topology.member(node) if ownership else None
        return member is None or member.state == "down"

    def _giver(self, partition: int, session: str) -> tuple[str, str] | None:
        """Return the owner that gives a partition away in a move, one that is well first, and the session to name there.

        Only who answers reads has everything: the others that are written to receive it as well.
        """
        ownership = self._service.ownership
        if ownership is None:
            return None
        states = {member.id: member.state for member in ownership.topology.members}
        givers = [node for node in ownership.routes.readers[partition] if node in states and node != ownership.node]
        return (min(givers, key=lambda node: STATES[states[node]]), session) if givers else None

    def _source(self, partition: int) -> tuple[str, str] | None:
        """Return the node to pull a partition from again and the session to name there, or None if there is no other owner."""
        ownership = self._service.ownership
        if ownership is None:
            return None
        me = self._service.identity.node
        routes = ownership.routes
        states = {member.id: member.state for member in ownership.topology.members}
        # After the switch those who gave have everything for certain; before it, who only receives has not.
        whole = (*routes.former[partition], *routes.readers[partition])
        owners = dict.fromkeys((*whole, *routes.writers[partition]))
        living = [node for node in owners if node != me and states.get(node, "down") != "down"]
        if not living:  # one that was taken for down may live all the same, and then nobody else has what it has
            return next(((node, ANYTHING) for node in owners if node != me and node in states), None)
        complete = [node for node in living if states[node] == "up" and node in whole]
        return (complete[0], "") if complete else (living[0], ANYTHING)

    async def _pull(self, loading: Loading, session: str, node: str, scope: str, partitions: list[int]) -> None:
        store = self._service.store
        try:
            theirs = await self._run(digests(node, partitions, session=scope))
        except NotReady:
            if loading is self.receiving:
                raise  # what it still lacks would never come here: it is asked again until it has everything
            # It loads as well, perhaps because the whole machine stood still: put together what both have.
            scope = ANYTHING
            theirs = await self._run(digests(node, partitions, session=scope))
        for partition, digest in zip(partitions, theirs, strict=True):
            if digest != store.digest(partition):
                await self._run(rows(node, partition, self._keeper(loading, session), session=scope))
                await self._slow_down()
            loading.done(session, partition)

    def _keeper(self, loading: Loading, session: str) -> Callable[[list[Row]], None]:
        def keep(piece: list[Row]) -> None:
            if loading.session != session:
                return  # the move was given up: this must not be taken for another's
            for key, record in piece:
                self._service.take(key, record)
            loading.pulled(len(piece), sum(len(key) + len(record) for key, record in piece))

        return keep

    async def _slow_down(self) -> None:
        """Keep to the rate that the move allows."""
        ownership = self._service.ownership
        move = ownership.topology.move if ownership else None
        if move is None or not move.rate:
            return
        loop = asyncio.get_running_loop()
        due = self._free_at + (self.receiving.records - self._counted) / move.rate
        self._counted = self.receiving.records
        self._free_at = max(due, loop.time() - 1.0)
        if self._free_at > loop.time():
            await asyncio.sleep(self._free_at - loop.time())

    def __repr__(self) -> str:
        return f"<Loader syncing={self.syncing!r} receiving={self.receiving!r}>"
