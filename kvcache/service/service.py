"""Service: one function for each verb.

Here lives what a node does with a request; HTTP reaches the same functions through the embedded client. Never here: bytes
on a socket, or how records are kept (``store``). The path of a request through a node::

    socket -> Listener (first byte) -> StreamConnection.data_received
        -> FrameReader.feed           bytes to messages, limits checked
        -> Service.tick               one reading of the clock for all of them
        -> Runs.answer                plain gets and sets that follow each other, in C (``runs``) | anything else:
        -> Service.handlers[verb]     check, own?, store, reply
        -> Packer.pack -> a write for every 16 replies

A handler takes the whole message and returns the whole reply; what is wrong it raises, as one of the errors that have a
wire code. It never awaits, so each is atomic.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from mmh3 import mmh3_x64_128_utupledigest

from kvcache.service.checks import bad_key, check_record, shown
from kvcache.service.fences import Fences
from kvcache.service.generations import NO_GENERATIONS, Generations, sweep
from kvcache.service.hints import Hints
from kvcache.service.later import Later
from kvcache.service.leases import Leases
from kvcache.service.marks import check_mark
from kvcache.service.misses import miss
from kvcache.service.operations import Operations
from kvcache.service.ownership import Ownership
from kvcache.service.runs import Runs
from kvcache.store.outcome import Put
from kvcache.store.store import Store
from kvcache_client.placement.partitions import PARTITION_SHIFT, PARTITIONS, partition_of
from kvcache_client.protocol.errors import (
    ClockSkew,
    KvCacheError,
    MalformedFrame,
    NotOwner,
    NotReady,
    StaleEpoch,
)
from kvcache_client.protocol.limits import KEY_BYTES
from kvcache_client.protocol.record import FLAGS, HEADER_BYTES, MARKED, TOMBSTONE, is_tombstone, version_of
from kvcache_client.protocol.verbs import VERBS, Message, Role, Status, Verb
from kvcache_client.protocol.version import MAX_CLOCK_OFFSET_MS, MAX_VERSION, HybridClock, version_at, version_ms

__all__ = ["Handler", "Identity", "Reply", "Service"]

Reply: TypeAlias = tuple[Any, ...]
Handler: TypeAlias = Callable[[Message], Reply]

# Plain ints: packing an IntEnum member takes twice as long.
_OK: Final = int(Status.OK)
_MISS: Final = int(Status.MISS)
_SUPERSEDED: Final = int(Status.SUPERSEDED)
_MISMATCH: Final = int(Status.MISMATCH)

_HINT_BYTES: Final = 64 << 20
"""Of records that a node holds for others; what is over that is made good by comparing whole partitions."""

_HINT_MS: Final = 10 * 60 * 1000
_OLDER, _REPLACED, _SAME = Put.OLDER, Put.REPLACED, Put.SAME


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this node is and what it takes; sizes in bytes."""

    node: str
    cluster: str
    value_limit: int


class Service:
    """The data of one node and the verbs that read and write it; other groups of verbs are added."""

    def __init__(self, identity: Identity, store: Store, clock: HybridClock) -> None:
        self.identity = identity
        self._record_limit = identity.value_limit + HEADER_BYTES
        self.store = store
        self.ownership: Ownership | None = None
        self.hints = Hints(_HINT_BYTES, _HINT_MS)
        self.forward: Callable[[str], Awaitable[None] | None] = lambda owner: None
        """Brings what is held for an owner to it; None if it can't be reached from here either."""
        self.fences = Fences()
        self.operations = Operations()
        self.leases = Leases(self.standing, clock)
        self.generations = NO_GENERATIONS
        self._unswept = PARTITIONS
        """The first partition from which what the newest generations hide has not been removed yet."""
        self.clock = clock
        self._now_ms = 0
        self.hesitating = False
        """Whether this node decides nothing for the moment, because it may have missed what others decided."""
        self.uninformed = False
        """Whether this node was away and has not heard yet by which document the others go: it may not know of a flush."""
        self._pause_ms = MAX_VERSION
        self._on_pause: Callable[[int], None] = lambda ms: None
        self._horizon = b""
        self.readable = bytearray(PARTITIONS)
        self.runs = Runs(store, self._record_limit, self.leases)
        self._incomplete = bytearray(PARTITIONS)
        self.seed = 0
        self._by_role: dict[int, dict[int, Handler]] = {role: {} for role in Role}
        self.add(
            {
                Verb.GET: self._get,
                Verb.HEAD: self._head,
                Verb.PEEK: self._peek,
                Verb.PUT: self._put,
                Verb.HINT: self._hint,
            }
        )
        self.tick()

    def tick(self) -> bool:
        """Read the clock once for all that follows in this turn; expire some of what is due. Returns whether more is."""
        now = self.clock.now_ms()
        if now == self._now_ms:
            return False
        if now - self._now_ms > self._pause_ms:
            self._on_pause(now - self._now_ms)
        self._now_ms = now
        self._horizon = version_at(now + MAX_CLOCK_OFFSET_MS + 1).to_bytes(8, "big")  # the first that is too far ahead
        self.runs.horizon = self._horizon
        return self.store.advance(now)

    def watch_for_pauses(self, ms: int, on_pause: Callable[[int], None]) -> None:
        """Call ``on_pause`` when more than ``ms`` go by between two ticks, before anything is answered after it."""
        self.tick()
        self._pause_ms, self._on_pause = ms, on_pause

    def adopt(self, ownership: Ownership) -> bool:
        """Answer by ``ownership`` from now on; an older one than the present is refused. Returns whether it was taken."""
        if self.ownership is not None and ownership.epoch <= self.ownership.epoch:
            return False
        self.ownership = ownership
        self.seed = ownership.seed
        self._show()
        generations = Generations(ownership.topology.generations)
        if generations.newer_than(self.generations):
            self._unswept = 0
            self.add({Verb.GET: self._get_swept})
            self.runs.read_by_handlers(hidden=True)
        self.generations = generations
        self.runs.floor = max((version for _, version in generations.pairs), default=0).to_bytes(8, "big")
        for _, version in generations.pairs:
            self.clock.observe(version)  # what this node decides from now on is later than that
        self.leases.review(generations.hidden_to)
        return True

    def sweep(self, partitions: int) -> bool:
        """Remove what generations hide from so many partitions more; returns whether some are left."""
        end = min(self._unswept + partitions, PARTITIONS)
        for partition in range(self._unswept, end):
            sweep(self.store, self.generations, partition)
        self._unswept = end
        if end == PARTITIONS:
            self.add({Verb.GET: self._get})  # nothing that is hidden is in the store, and none gets in any more
            self.runs.read_by_handlers(hidden=False)
        return end < PARTITIONS

    def _show(self) -> None:
        """Work out which partitions this node answers reads for: those that are its own, and whole."""
        if self.ownership is not None:
            mine = zip(self.ownership.readable, self._incomplete, strict=True)
            self.readable = bytearray(reads and not incomplete for reads, incomplete in mine)
            self.runs.answer_for(self.readable, self.ownership)

    def begin_loading(self, partitions: Iterable[int]) -> None:
        """Answer no reads of ``partitions`` until all is said to be loaded: others may hold what this node has missed."""
        for partition in partitions:
            self._incomplete[partition] = 1
        self._show()

    def is_complete(self, partition: int) -> bool:
        """Say whether this node holds all that it should of a partition."""
        return not self._incomplete[partition]

    @property
    def loading(self) -> bool:
        """Whether some partition is not complete."""
        return any(self._incomplete)

    def add(self, handlers: Mapping[int, Handler]) -> None:
        """Answer more verbs."""
        for role, mine in self._by_role.items():
            mine.update({verb: handler for verb, handler in handlers.items() if role in VERBS[Verb(verb)].roles})

    def handlers_of(self, role: int) -> dict[int, Handler]:
        """Return the verbs that a connection of that role may ask for; a role that is not known may what a client may."""
        return self._by_role.get(role) or self._by_role[Role.CLIENT]

    @property
    def handlers(self) -> dict[int, Handler]:
        """All verbs."""
        return self._by_role[Role.ADMIN]

    def loaded_all(self) -> None:
        """Answer for everything that is this node's own: it holds it completely."""
        self._incomplete = bytearray(PARTITIONS)
        self.hesitating = self.uninformed = False
        self._show()

    @property
    def now_ms(self) -> int:
        """The time that requests are answered by, ms since 1970."""
        return self._now_ms

    @property
    def epoch(self) -> int:
        """The epoch of the topology in use, 0 before the first."""
        return self.ownership.epoch if self.ownership else 0

    # Reading

    def _get(self, message: Message) -> Reply:
        number, _, key = message
        if key.__class__ is not bytes or not 0 < len(key) <= KEY_BYTES:
            raise bad_key(key)
        # The hottest lines of a node that is not compiled (``reads``): partition_of without the call.
        partition = mmh3_x64_128_utupledigest(key, self.seed)[0] >> PARTITION_SHIFT
        if not self.readable[partition]:
            raise self.not_mine(partition)
        store = self.store
        table = store.tables[partition]
        record = table.main.read(key) or table.small.read(key)
        if record is None or record[8:14] <= store.now6:
            return miss(number, store.missed(partition, key))
        store.hits += 1
        return number, _OK, record

    def _get_swept(self, message: Message) -> Reply:
        """Answer GET while what a flush has hidden may still lie in the store."""
        number, _, key = message
        partition = self.to_read(key)
        record = self.live(partition, key)
        return miss(number, self.store.why_missing(partition, key)) if record is None else (number, _OK, record)

    @property
    def reader(self) -> Callable[[int, bytes], bytes | None]:
        """What ``live`` comes down to at this moment: the store's own ``get``, unless something hidden may still lie there."""
        return self.store.get if self._unswept == PARTITIONS else self.live

    def live(self, partition: int, key: bytes) -> bytes | None:
        """Return the live record of a key."""
        if self._unswept <= partition:
            sweep(self.store, self.generations, partition)
        return self.store.get(partition, key)

    def standing(self, partition: int, key: bytes) -> bytes | None:
        """Return the record or tombstone of a key."""
        if self._unswept <= partition:
            sweep(self.store, self.generations, partition)
        return self.store.peek(partition, key)

    def _head(self, message: Message) -> Reply:
        number, _, key = message
        partition = self.to_read(key)
        record = self.live(partition, key)
        if record is None:
            return miss(number, self.store.why_missing(partition, key))
        return number, _OK, record[:HEADER_BYTES]

    def _peek(self, message: Message) -> Reply:
        number, _, key = message
        self._require_ready()
        if self.uninformed:
            raise NotReady("this node was away and does not know yet what is true now", detail=self.epoch)
        record = self.standing(self._partition(key), key)
        return (number, _MISS) if record is None else (number, _OK, record, *self.hints.owners_of(key))

    # Writing

    def _put(self, message: Message) -> Reply:
        number, _, epoch, key, record = message
        return number, *self.keep(self.to_write(epoch, key), key, record)

    def _hint(self, message: Message) -> Reply:
        number, _, owner, key, record = message
        if not isinstance(owner, str):
            raise MalformedFrame(f"the owner of a hint is a node id, not {shown(owner)}")
        self._require_ready()
        partition = self._partition(key)
        reply = number, *self.keep(partition, key, record)
        if self.ownership is not None:
            if self.ownership.topology.member(owner) is None:  # it has left meanwhile
                owner = self.ownership.routes.readers[partition][0]
            if owner != self.identity.node:
                self.hints.note(owner, partition, key, len(record), version_of(record), self._now_ms)
                delivery = self.forward(owner)
                if delivery is not None:
                    raise Later(delivery, lambda _: reply[1:])  # once it is there, nobody reads what is older there
        return reply

    def take(self, key: Any, record: Any) -> int:
        """Keep a record that another node holds, unless a newer one is here; returns the status."""
        self._require_ready()
        return self.keep(self._partition(key), key, record)[0]

    def restore(self, epoch: int, key: Any, record: Any) -> int:
        """Keep a record of a snapshot that was routed by ``epoch``, unless a newer one is here; returns the status."""
        return self.keep(self.to_write(epoch, key), key, record)[0]

    def keep(self, partition: int, key: bytes, record: Any) -> tuple[int, ...]:
        """Put a record that comes from outside; returns status and, if it was superseded, by which version."""
        # Nearly every record is a plain one, for which a call would cost more than the look.
        if (
            record.__class__ is not bytes
            or not HEADER_BYTES <= len(record) <= self._record_limit
            or record[FLAGS] >= TOMBSTONE
        ):
            check_record(record, self.identity.value_limit)
        if record >= self._horizon:  # eight bytes, so this compares versions
            written = version_ms(version_of(record))
            raise ClockSkew(
                f"the version is of {written}, more than {MAX_CLOCK_OFFSET_MS} ms ahead of this node's time {self._now_ms}",
                detail=self._now_ms,
            )
        if self.generations.pairs and self.generations.hides(key, record):
            # What was written since then may be newer still, and whoever stamps again must get above that, too.
            standing = self.standing(partition, key)
            return _SUPERSEDED, max(self.generations.hidden_to(key), version_of(standing) if standing else 0)
        if record[FLAGS] in MARKED:
            standing = self.standing(partition, key)  # looking also removes what a flush hides, which may be newer
            check_mark(record, standing, self._horizon, self.fences)
        outcome = self.store.put(partition, key, record)
        if outcome is _OLDER:
            newer = self.standing(partition, key)
            return _SUPERSEDED, version_of(newer or record)
        if self.leases.held and outcome is not _SAME:
            self.leases.written(key)
        if outcome is not _REPLACED and is_tombstone(record):
            return (_MISS,)
        return (_OK,)

    # Who may ask for what

    def _partition(self, key: Any) -> int:
        if key.__class__ is not bytes or not 0 < len(key) <= KEY_BYTES:
            raise bad_key(key)
        return partition_of(key, self.seed)

    def to_read(self, key: Any) -> int:
        """Return the partition of a key that this node answers reads for."""
        # What _partition does, without two calls for each key of a batch.
        if key.__class__ is not bytes or not 0 < len(key) <= KEY_BYTES:
            raise bad_key(key)
        partition = mmh3_x64_128_utupledigest(key, self.seed)[0] >> PARTITION_SHIFT
        if not self.readable[partition]:
            raise self.not_mine(partition)
        return partition

    def to_write(self, epoch: Any, key: Any) -> int:
        """Return the partition of a key that this node takes writes for, if the request was routed by what is true now."""
        if key.__class__ is not bytes or not 0 < len(key) <= KEY_BYTES:
            raise bad_key(key)
        partition = mmh3_x64_128_utupledigest(key, self.seed)[0] >> PARTITION_SHIFT
        ownership = self.ownership
        if ownership is None or not ownership.writable[partition]:
            raise self.not_mine(partition)
        if epoch.__class__ is not int:
            raise MalformedFrame(f"an epoch is an integer, not {shown(epoch)}")
        if epoch < ownership.changed_at[partition]:
            raise StaleEpoch(f"partition {partition} has other owners since epoch {self.epoch}", detail=self.epoch)
        return partition

    def _require_ready(self) -> None:
        if self.ownership is None:
            raise NotReady("the node has not joined its cluster yet")

    def not_mine(self, partition: int) -> KvCacheError:
        """Return the error for a partition that this node does not answer for, or not yet."""
        if self.ownership is None:
            return NotReady("the node has not joined its cluster yet")
        if self.ownership.readable[partition]:
            return NotReady(f"{self.identity.node} has not loaded partition {partition} yet", detail=self.epoch)
        return NotOwner(f"{self.identity.node} does not own partition {partition}", detail=self.epoch)

    def __repr__(self) -> str:
        return f"<Service {self.identity.node} {self.ownership!r} {self.store!r}>"
