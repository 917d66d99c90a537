"""Service: one function for each verb.

Here lives what a node does with a request; HTTP reaches the same functions through the embedded client. Never here: bytes
on a socket, or how records are kept (``store``). The path of a request through a node::

    socket -> Listener (first byte) -> StreamConnection.data_received
        -> FrameReader.feed           bytes to messages, limits checked
        -> Service.tick               one reading of the clock for all of them
        -> Service.handlers[verb]     check, own?, store, reply
        -> Packer.pack -> one write for all replies

A handler takes the whole message and returns the whole reply; what is wrong it raises, as one of the errors that have a
wire code. It never awaits, so each is atomic.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from mmh3 import mmh3_x64_128_utupledigest

from kvcache.service.checks import bad_key, check_expiry, check_int64, check_record, check_version, integer_in, shown
from kvcache.service.ownership import Ownership
from kvcache.store.outcome import Put
from kvcache.store.store import Store
from kvcache.store.uses import MAX_USES, TAG_MASK, TAG_SHIFT
from kvcache_client.placement.partitions import PARTITION_SHIFT, PARTITIONS, partition_of
from kvcache_client.protocol.codec import INT64_MAX, INT64_MIN
from kvcache_client.protocol.errors import (
    ClockSkew,
    CounterOverflow,
    InvalidRecord,
    KvCacheError,
    MalformedFrame,
    NotOwner,
    NotReady,
    ReplyFull,
    StaleEpoch,
    VersionMismatch,
    WrongCluster,
)
from kvcache_client.protocol.limits import KEY_BYTES, REPLY_BYTES
from kvcache_client.protocol.record import (
    HEADER_BYTES,
    PayloadType,
    expiry_of,
    is_tombstone,
    make_record,
    restamp,
    version_of,
    with_expiry,
)
from kvcache_client.protocol.verbs import ABSENT, PRESENT, PROTOCOL_VERSION, Message, Status, Verb
from kvcache_client.protocol.version import MAX_CLOCK_OFFSET_MS, HybridClock, version_at

__all__ = ["Handler", "Identity", "Reply", "Service"]

Reply: TypeAlias = tuple[Any, ...]
Handler: TypeAlias = Callable[[Message], Reply]

# Plain ints: packing an IntEnum member takes twice as long.
_OK: Final = int(Status.OK)
_MISS: Final = int(Status.MISS)
_SUPERSEDED: Final = int(Status.SUPERSEDED)
_MISMATCH: Final = int(Status.MISMATCH)
_REPLY_FULL: Final = ReplyFull.code
_OLDER, _REPLACED = Put.OLDER, Put.REPLACED


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this node is and what it takes; sizes in bytes."""

    node: str
    cluster: str
    value_limit: int


class Service:
    """The verbs of one node. ``statistics`` is called for STATS and must return plain data."""

    def __init__(
        self, identity: Identity, store: Store, clock: HybridClock, statistics: Callable[[], dict[str, Any]]
    ) -> None:
        self.identity = identity
        self.store = store
        self.ownership: Ownership | None = None
        self.hinted = 0
        """Records held for owners that a client could not reach."""
        self._clock = clock
        self._statistics = statistics
        self._now_ms = 0
        self._horizon = b""
        self._owned = bytes(PARTITIONS)
        self._seed = 0
        self.handlers: dict[int, Handler] = {
            Verb.HELLO: self._hello,
            Verb.PING: self._ping,
            Verb.TOPOLOGY: self._topology,
            Verb.STATS: self._stats,
            Verb.GET: self._get,
            Verb.GET_MANY: self._get_many,
            Verb.HEAD: self._head,
            Verb.PEEK: self._peek,
            Verb.PUT: self._put,
            Verb.PUT_MANY: self._put_many,
            Verb.HINT: self._hint,
            Verb.SWAP: self._swap,
            Verb.INCR: self._incr,
            Verb.TOUCH: self._touch,
        }
        self.tick()

    def tick(self) -> bool:
        """Read the clock once for all that follows in this turn; expire some of what is due. Returns whether more is."""
        now = self._clock.now_ms()
        if now == self._now_ms:
            return False
        self._now_ms = now
        self._horizon = version_at(now + MAX_CLOCK_OFFSET_MS + 1).to_bytes(8, "big")  # the first that is too far ahead
        return self.store.advance(now)

    def adopt(self, ownership: Ownership) -> bool:
        """Answer by ``ownership`` from now on; an older one than the present is refused. Returns whether it was taken."""
        if self.ownership is not None and ownership.epoch <= self.ownership.epoch:
            return False
        self.ownership = ownership
        self._owned = ownership.owned
        self._seed = ownership.seed
        return True

    @property
    def epoch(self) -> int:
        """The epoch of the topology in use, 0 before the first."""
        return self.ownership.epoch if self.ownership else 0

    # The connection and the node

    def _hello(self, message: Message) -> Reply:
        number, _, protocol, cluster, role, credential, name = message
        kinds = (int, str, int, bytes, str)
        fields = (protocol, cluster, role, credential, name)
        if not all(isinstance(field, kind) for field, kind in zip(fields, kinds, strict=True)):
            raise MalformedFrame("HELLO carries protocol, cluster, role, credential, name")
        if protocol < PROTOCOL_VERSION:
            raise VersionMismatch(f"the client speaks protocol {protocol}, this node {PROTOCOL_VERSION}")
        mine = self.identity
        if cluster and cluster != mine.cluster:
            raise WrongCluster(f"this node belongs to cluster {mine.cluster!r}, not {cluster!r:.80}")
        return number, _OK, PROTOCOL_VERSION, mine.cluster, mine.node, self.epoch, self._now_ms, mine.value_limit

    def _ping(self, message: Message) -> Reply:
        number, _ = message
        return number, _OK, self.epoch, self._now_ms

    def _topology(self, message: Message) -> Reply:
        number, _ = message
        if self.ownership is None:
            raise NotReady("the node has not joined its cluster yet")
        return number, _OK, self.ownership.epoch, self.ownership.document

    def _stats(self, message: Message) -> Reply:
        number, _ = message
        return number, _OK, json.dumps(self._statistics()).encode()

    # Reading

    def _get(self, message: Message) -> Reply:
        number, _, key = message
        if key.__class__ is not bytes or not 0 < len(key) <= KEY_BYTES:
            raise bad_key(key)
        # The hottest lines of a node: partition_of and Store.get without the calls.
        partition = mmh3_x64_128_utupledigest(key, self._seed)[0] >> PARTITION_SHIFT
        if not self._owned[partition]:
            raise self._not_mine(partition)
        store = self.store
        table = store.tables[partition]
        record = table.main.get(key) or table.small.get(key)
        if record is None or record[8:14] <= store.now6:
            store.misses += 1
            return number, _MISS
        uses = store.uses
        digest = hash(key)
        place, full = digest & uses.mask, (digest >> TAG_SHIFT & TAG_MASK) + MAX_USES
        if uses.slots[place] != full and uses.slots[place ^ 1] != full:
            uses.count(digest)
        store.hits += 1
        return number, _OK, record

    def _get_many(self, message: Message) -> Reply:
        fields: list[bytes | int | None] = []
        room = REPLY_BYTES
        for key in message[2:]:
            if room <= 0:
                fields.append(_REPLY_FULL)
                continue
            try:
                record = self.store.get(self._readable(key), key)
            except KvCacheError as error:
                fields.append(error.code)
                continue
            fields.append(record)
            room -= len(record) if record else 0
        return message[0], _OK, *fields

    def _head(self, message: Message) -> Reply:
        number, _, key = message
        record = self.store.get(self._readable(key), key)
        return (number, _MISS) if record is None else (number, _OK, record[:HEADER_BYTES])

    def _peek(self, message: Message) -> Reply:
        number, _, key = message
        self._require_ready()
        record = self.store.peek(self._partition(key), key)
        return (number, _MISS) if record is None else (number, _OK, record)

    # Writing

    def _put(self, message: Message) -> Reply:
        number, _, epoch, key, record = message
        return number, *self._keep(self._writable(epoch, key), key, record)

    def _put_many(self, message: Message) -> Reply:
        number, _, epoch, *fields = message
        if epoch.__class__ is not int or len(fields) % 2:
            raise MalformedFrame("PUT_MANY carries an epoch, then pairs of key and record")
        statuses: list[int | None] = []
        for key, record in zip(fields[::2], fields[1::2], strict=True):
            try:
                statuses.append(self._keep(self._writable(epoch, key), key, record)[0])
            except KvCacheError as error:
                statuses.append(error.code)
        return number, _OK, *statuses

    def _hint(self, message: Message) -> Reply:
        number, _, owner, key, record = message
        if not isinstance(owner, str):
            raise MalformedFrame(f"the owner of a hint is a node id, not {shown(owner)}")
        self._require_ready()
        reply = number, *self._keep(self._partition(key), key, record)
        self.hinted += 1
        return reply

    def _keep(self, partition: int, key: bytes, record: Any) -> tuple[int, ...]:
        """Put a record that comes from outside; returns status and, if it was superseded, by which version."""
        check_record(record, self.identity.value_limit)
        if record >= self._horizon:  # eight bytes, so this compares versions
            ahead = f"more than {MAX_CLOCK_OFFSET_MS} ms ahead of this node's time"
            raise ClockSkew(f"the version is {ahead}", detail=self._now_ms)
        outcome = self.store.put(partition, key, record)
        if outcome is _OLDER:
            newer = self.store.peek(partition, key)
            return _SUPERSEDED, version_of(newer or record)
        if outcome is not _REPLACED and is_tombstone(record):
            return (_MISS,)
        return (_OK,)

    # Deciding

    def _swap(self, message: Message) -> Reply:
        number, _, epoch, key, condition, record = message
        partition = self._writable(epoch, key)
        check_version("condition", condition)
        if is_tombstone(check_record(record, self.identity.value_limit)):
            raise InvalidRecord("a tombstone cannot be swapped in")
        current = self.store.get(partition, key)
        version = version_of(current) if current else 0
        met = (current is None) if condition == ABSENT else (version > 0 and condition in (PRESENT, version))
        if not met:
            return number, _MISMATCH, version
        kept = self._decide(partition, key, lambda stamp: restamp(record, stamp))
        return number, _OK, version_of(kept)

    def _incr(self, message: Message) -> Reply:
        number, _, epoch, key, delta, initial, expiry_ms = message
        partition = self._writable(epoch, key)
        check_int64("delta", delta)
        if initial is not None:
            check_int64("initial", initial)
            check_expiry(expiry_ms)
        current = self.store.get(partition, key)
        if current is None:
            if initial is None:
                return number, _MISS
            before, expiry = initial, expiry_ms
        else:
            before, expiry = integer_in(current), expiry_of(current)
        total = before + delta
        if not INT64_MIN <= total <= INT64_MAX:
            raise CounterOverflow(f"{before} + {delta} leaves the range of a signed 64-bit integer")
        payload = b"%d" % total
        kept = self._decide(partition, key, lambda stamp: make_record(stamp, expiry, PayloadType.INTEGER, payload))
        return number, _OK, kept

    def _touch(self, message: Message) -> Reply:
        number, _, epoch, key, expiry_ms = message
        partition = self._writable(epoch, key)
        expiry = check_expiry(expiry_ms)
        current = self.store.get(partition, key)
        if current is None:
            return number, _MISS
        return number, _OK, self._decide(partition, key, lambda stamp: with_expiry(current, stamp, expiry))

    def _decide(self, partition: int, key: bytes, make: Callable[[int], bytes]) -> bytes:
        """Keep the record that ``make`` gives for a version above everything that was ever here; returns it."""
        standing = self.store.peek(partition, key)
        if standing is not None:
            self._clock.observe(version_of(standing))
        record = make(self._clock.stamp())
        self.store.put(partition, key, record)
        return record

    # Who may ask for what

    def _partition(self, key: Any) -> int:
        if key.__class__ is not bytes or not 0 < len(key) <= KEY_BYTES:
            raise bad_key(key)
        return partition_of(key, self._seed)

    def _readable(self, key: Any) -> int:
        # What _partition does, without two calls for each key of a batch and each write.
        if key.__class__ is not bytes or not 0 < len(key) <= KEY_BYTES:
            raise bad_key(key)
        partition = mmh3_x64_128_utupledigest(key, self._seed)[0] >> PARTITION_SHIFT
        if not self._owned[partition]:
            raise self._not_mine(partition)
        return partition

    def _writable(self, epoch: Any, key: Any) -> int:
        partition = self._readable(key)
        if epoch.__class__ is not int:
            raise MalformedFrame(f"an epoch is an integer, not {shown(epoch)}")
        if self.ownership is not None and epoch < self.ownership.changed_at[partition]:
            raise StaleEpoch(f"partition {partition} has other owners since epoch {self.epoch}", detail=self.epoch)
        return partition

    def _require_ready(self) -> None:
        if self.ownership is None:
            raise NotReady("the node has not joined its cluster yet")

    def _not_mine(self, partition: int) -> KvCacheError:
        if self.ownership is None:
            return NotReady("the node has not joined its cluster yet")
        return NotOwner(f"{self.identity.node} does not own partition {partition}", detail=self.epoch)

    def __repr__(self) -> str:
        return f"<Service {self.identity.node} {self.ownership!r} {self.store!r}>"
