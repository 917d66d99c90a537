"""The memory of a node: versioned records that expire, within a byte budget.

Here lives the rule which record a key holds, and when one goes. Never here: the wire, an await, a clock (the time is told by
``advance`` and stands still in between), or which partitions a node should hold.

A key is always passed with its partition, which must follow from the key alone. In a small store neighbouring partitions share
a table, so that the tables do not take what the records need; what is done to one partition then looks at its keys.

The last writer wins: of two records the one with the higher version stays, and on a tie a tombstone, then the larger bytes; so
puts may be repeated and reordered at will. A record is invisible from its expiry on, and then acts as the tombstone of its own
version, whether its memory is reclaimed yet or not. A tombstone is over at a time of its own, which ``hold_tombstones`` makes
stand still.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from kvcache.store.audit import audit
from kvcache.store.config import StoreConfig, check_budget
from kvcache.store.contents import digest_of, records_of, scan_table
from kvcache.store.graves import Graves
from kvcache.store.live import LiveRecords
from kvcache.store.outcome import Missing, Put
from kvcache.store.rows import cost_of
from kvcache.store.sharers import Sharers
from kvcache.store.sizes import Ledger, entry_cost
from kvcache.store.statistics import StoreStatistics
from kvcache.store.table import EMPTY_TABLE, Table
from kvcache_client.protocol.record import FLAGS, NEVER, TOMBSTONE, TOMBSTONE_MS, expiry_of, tombstone, version_of
from kvcache_client.protocol.version import version_ms

__all__ = ["Store"]

_REPLACED, _CREATED, _SAME, _OLDER = Put.REPLACED, Put.CREATED, Put.SAME, Put.OLDER
_SLOT_BYTES: Final = 8
_PAY_BYTES: Final = 16 * 1024


class Store:
    """All records of one node, in tables by partition.

    ``tables`` and ``now6`` (the time as six big-endian bytes, to be compared with a record's expiry) are public for a caller that
    reads inline; ``get`` is the definition of it.
    """

    __slots__ = (
        "_config", "_created", "_deletions", "_dropped", "_evictions", "_expirations", "_forget6", "_forget_ms", "_held",
        "_ledger", "_wake_ms", "budget_bytes", "graves", "hits", "live", "missing", "now6", "now_ms", "policy",
        "sharers", "sharing", "tables", "thin_graves",
    )  # fmt: skip

    def __init__(self, config: StoreConfig, now_ms: int, partition_of: Callable[[bytes], int] | None = None) -> None:
        # Without partition_of, which tells the partition of a key, no two share a table.
        self._config = config
        self.sharing = config.partitions_per_table() if partition_of else 1
        self.sharers = Sharers(self.sharing, partition_of)
        self._ledger = ledger = Ledger()
        ledger.used = _SLOT_BYTES * config.partitions
        self.budget_bytes = config.budget_bytes
        self.now_ms = now_ms
        self.now6 = now_ms.to_bytes(6, "big")
        self._held = False
        self._forget_ms, self._forget6 = now_ms, self.now6  # the time for tombstones: now, or when they were held
        self.tables: list[Table] = [EMPTY_TABLE] * config.partitions
        self.live = LiveRecords(self.tables, ledger, now_ms, self.sharing)
        self.policy = self.live.policy
        tombstones = config.tombstone_budget(config.budget_bytes)
        self.graves = Graves(self.tables, ledger, now_ms, tombstones, self.sharing, partition_of, self.policy.shared)
        self.thin_graves = self.graves.thin
        """Partitions that gave tombstones up before their time: deletes may come undone there until they are repaired.

        Who repairs a partition takes it out first; it comes back if more is given up meanwhile.
        """
        self._wake_ms = 0
        self.hits = 0
        self.missing = dict.fromkeys(Missing, 0)
        """Why -> gets that found nothing live."""
        self._created = self._deletions = self._expirations = self._evictions = self._dropped = 0

    def get(self, partition: int, key: bytes) -> bytes | None:
        """Return the live record of ``key``, and count a use of it."""
        table = self.tables[partition]
        record = table.main.read(key) or table.small.read(key)
        if record is not None and record[8:14] > self.now6:
            self.hits += 1
            return record
        self.missed(partition, key)
        return None

    def missed(self, partition: int, key: bytes) -> Missing:
        """Count a get that found nothing live, and say why; for callers that read inline."""
        reason = self.why_missing(partition, key)
        self.missing[reason] += 1
        return reason

    def why_missing(self, partition: int, key: bytes) -> Missing:
        """Return why ``key`` has no live record; counts nothing.

        A tombstone does not tell whether it came of a delete or of an expired value. But a delete is stamped at the moment
        from which its own time runs, and a value before the one at which it expires. So a value that lived shorter than its
        writer's versions ran ahead of the clock passes for deleted: for statistics, that will do.
        """
        table = self.tables[partition]
        if table.find(key) is not None:
            return Missing.EXPIRED
        grave = table.graves.get(key)
        if grave is not None:
            gone_ms = expiry_of(grave) - TOMBSTONE_MS
            return Missing.EXPIRED if gone_ms > version_ms(version_of(grave)) else Missing.DELETED
        return Missing.EVICTED if self.policy.remembers(key) else Missing.ABSENT

    def peek(self, partition: int, key: bytes) -> bytes | None:
        """Return the live record or the tombstone of ``key``; counts nothing."""
        table = self.tables[partition]
        return self._visible(table.find(key) or table.graves.get(key))

    def put(self, partition: int, key: bytes, record: bytes) -> Put:
        """Keep ``record`` unless the key holds a newer one. A tombstone deletes; so does a value that is already expired."""
        table = self.tables[partition]
        home = table.main
        old = home.get(key)
        if old is None:
            home = table.small
            old = home.get(key)
            if old is None:
                return self._put_new(partition, key, record)
        expiry = record[8:14]
        if expiry != old[8:14] or expiry <= self.now6 or record[FLAGS] >= TOMBSTONE:
            return self._put_over(table, key, old, record)
        if record > old:  # of two values, comparing the bytes is the whole rule
            home[key] = record
            if len(record) != len(old):
                self._ledger.used += cost_of(key, record) - cost_of(key, old)
                if self._ledger.used + self.graves.ledger.used > self.budget_bytes:
                    self._fit(partition, key, cost_of(key, record))
            return _REPLACED
        return _SAME if record[:8] == old[:8] else _OLDER

    def drop(self, partition: int) -> None:
        """Forget a whole partition, tombstones included."""
        self.thin_graves.discard(partition)
        table = self.tables[partition]
        if table is not EMPTY_TABLE and self.sharing == 1:
            self.graves.clear(table)
            self._dropped += self.live.clear(table)
        elif table is not EMPTY_TABLE:
            self._dropped += self.sharers.drop(partition, table, self.live, self.graves)

    def forget(self, partition: int, key: bytes, version: int) -> bool:
        """Forget the record or tombstone of ``key`` without a trace, if it still has exactly this version; returns whether.

        An older version may come back afterwards. For what was kept on behalf of others, or is hidden for good.
        """
        standing = self.peek(partition, key)
        if standing is None or version_of(standing) != version:
            return False
        table = self.tables[partition]
        if key in table.graves:
            self.graves.supersede(table, key)
        else:
            self.live.take(table, key)
            self._dropped += 1
        return True

    def scan(
        self, partition: int, after: bytes, limit_bytes: int, with_payload: bool
    ) -> tuple[list[tuple[bytes, bytes]], bool]:
        """Return the next records of keys above ``after``, in byte order of their keys, and whether there are more.

        Records are as ``records`` gives them; without payload only the header of each. They stop after the one with which
        keys and records reach ``limit_bytes``; there is at least one if any is left. Begin with ``b""``.
        """
        return scan_table(
            self.tables[partition], after, limit_bytes, with_payload, self._visible, self.sharers.belongs(partition)
        )

    def digest(self, partition: int) -> int:
        """Return 64 bits that are equal in stores which hold the same versions of the same keys, 0 if there are none.

        Tombstones count, and an expired record does as its tombstone. See ``contents.digest_of`` for what may be missed.
        """
        return digest_of(self.tables[partition], self._forget_ms, self.sharers.belongs(partition))

    def hold_tombstones(self, held: bool) -> None:
        """Keep tombstones whose time comes to be over from now on, and let them act, until they are let go of again.

        For as long as older versions may still arrive from another node. Their budget holds all the same: see ``thin_graves``.
        """
        self._held = held
        if not held:
            self._forget_ms, self._forget6 = self.now_ms, self.now6
            self._wake_ms = 0

    def records(self, partition: int) -> Iterator[tuple[bytes, bytes]]:
        """Yield each key of a partition with its record, tombstones included, as they are now; later changes do not show."""
        table = self.tables[partition]
        return iter(records_of(table, self._visible, self.sharers.belongs(partition)))

    def advance(self, now_ms: int, work: int = 1000) -> bool:
        """Move the time on, never back, and reclaim what is due or over the budget, at most about ``work`` records.

        Returns whether more is waiting, so that an idle node can come back at once. Nearly free when nothing is due.
        """
        if now_ms > self.now_ms:
            self.now_ms = now_ms
            self.now6 = now_ms.to_bytes(6, "big")
            if not self._held:
                self._forget_ms, self._forget6 = now_ms, self.now6
        return now_ms >= self._wake_ms and self._reclaim(work)

    def resize(self, budget_bytes: int) -> None:
        """Change the budget. What no longer fits is evicted bit by bit, by ``advance`` and by puts."""
        check_budget(budget_bytes)
        self.budget_bytes = budget_bytes
        self.graves.budget_bytes = self._config.tombstone_budget(budget_bytes)
        self.graves.hold_budget()
        self._wake_ms = 0

    @property
    def misses(self) -> int:
        """Gets that found nothing live."""
        return sum(self.missing.values())

    @property
    def forget_ms(self) -> int:
        """The time up to which tombstones are over: now, or the moment since which they are held."""
        return self._forget_ms

    @property
    def holds_tombstones(self) -> bool:
        """Whether tombstones are kept beyond their time."""
        return self._held

    @property
    def room(self) -> int:
        """By how many bytes records may grow before something has to go; negative if it has to already."""
        return self.budget_bytes - self.used_bytes

    @property
    def used_bytes(self) -> int:
        """Real memory of everything in the store, in bytes."""
        return self._ledger.used + self.graves.ledger.used

    def statistics(self) -> StoreStatistics:
        """Return counters and figures of this moment."""
        graves = self.graves
        return StoreStatistics(
            records=len(self.policy),
            tombstones=len(graves),
            used_bytes=self.used_bytes,
            budget_bytes=self.budget_bytes,
            tombstone_bytes=graves.ledger.used,
            tombstone_budget_bytes=graves.budget_bytes,
            hits=self.hits,
            misses=self.misses,
            misses_by_reason={reason.name.lower(): count for reason, count in self.missing.items()},
            created=self._created,
            deletions=self._deletions,
            expirations=self._expirations,
            evictions=self._evictions,
            dropped=self._dropped,
            tombstones_made=graves.made,
            tombstones_superseded=graves.superseded,
            tombstones_forgotten=graves.forgotten,
            tombstones_dropped=graves.dropped,
        )

    def check(self) -> None:
        """Recount everything. Raises ``StoreCorrupted`` that names what is off. Takes time in proportion to the store."""
        audit(self)

    def _put_new(self, partition: int, key: bytes, record: bytes) -> Put:
        # No value of this key is stored.
        now6 = self.now6
        if record[FLAGS] >= TOMBSTONE or record[8:14] <= now6:
            return self._put_tombstone(partition, key, _as_tombstone(record))
        graves = self.tables[partition].graves
        grave = graves.get(key) if graves else None
        if grave is not None:
            if grave[8:14] > self._forget6 and record[:8] <= grave[:8]:
                return _SAME if record[:8] == grave[:8] else _OLDER
            self.graves.supersede(self.tables[partition], key)
        self._created += 1
        cost = self.live.insert(partition, key, record)
        if self._ledger.used + self.graves.ledger.used > self.budget_bytes:
            self._fit(partition, key, cost)
        return _CREATED

    def _put_over(self, table: Table, key: bytes, old: bytes, record: bytes) -> Put:
        # A value of this key is stored, perhaps expired; and the record is a tombstone or has another expiry.
        now6 = self.now6
        if old[8:14] <= now6:
            self.live.take(table, key)
            self._expired(table.number, key, old)
            return self._put_new(table.number, key, record)
        if record[FLAGS] >= TOMBSTONE or record[8:14] <= now6:
            return self._put_tombstone(table.number, key, _as_tombstone(record))
        if record <= old:
            return _SAME if record[:8] == old[:8] else _OLDER
        self.live.replace(table, key, old, record)
        if self._ledger.used + self.graves.ledger.used > self.budget_bytes:
            self._fit(table.number, key, cost_of(key, record))
        return _REPLACED

    def _put_tombstone(self, partition: int, key: bytes, grave: bytes) -> Put:
        table = self.tables[partition]
        value, older = table.find(key), table.graves.get(key)
        if value is not None:
            if grave[:8] < value[:8]:
                return _OLDER
            self.live.take(table, key)
            self._deletions += 1
        elif older is not None and older[8:14] > self._forget6 and grave <= older:
            return _SAME if grave[:8] == older[:8] else _OLDER
        if grave[8:14] > self._forget6:
            if older is not None:
                self.graves.supersede(table, key)
            self.graves.keep(partition, key, grave)
            if self.used_bytes > self.budget_bytes:
                self._make_room(entry_cost(key, grave))
        return _CREATED if value is None else _REPLACED

    def _visible(self, record: bytes | None) -> bytes | None:
        # What a record is at this moment: itself, a tombstone once it has expired, then nothing (unless those are held).
        if record is None or record[8:14] > self.now6:
            return record
        grave = _as_tombstone(record)
        return grave if grave[8:14] > self._forget6 else None

    def _expired(self, partition: int, key: bytes, record: bytes) -> None:
        self._expirations += 1
        grave = _as_tombstone(record)
        if grave[8:14] > self._forget6:
            self.graves.keep(partition, key, grave)

    def _fit(self, partition: int, key: bytes, cost: int) -> None:
        if cost > self.budget_bytes:  # no reason to throw out everything else first
            self.live.take(self.tables[partition], key)
            self._evictions += 1
        else:
            self._make_room(cost)

    def _make_room(self, cost: int) -> None:
        # Each put pays for twice what it brought and some more, for structures that have grown: an exceeded budget is soon
        # held again, and no put takes long.
        ledger = self._ledger
        budget = self.budget_bytes - self.graves.ledger.used
        enough = max(budget, ledger.used - 2 * cost - _PAY_BYTES)
        while ledger.used > enough and self._evict():
            pass
        if ledger.used > budget:
            self._wake_ms = 0  # the rest is for advance

    def _evict(self) -> bool:
        victim = self.live.evict()
        if victim is None:
            return False
        partition, key, record = victim
        if record[8:14] > self.now6:
            self._evictions += 1
        else:
            self._expired(partition, key, record)
        return True

    def _reclaim(self, work: int) -> bool:
        now_ms = self.now_ms
        due = self.live.take_due(now_ms, work)
        for partition, key, record in due:
            self._expired(partition, key, record)
        work -= len(due)
        work -= self.graves.forget_due(self._forget_ms, work)
        over = self.used_bytes > self.budget_bytes
        while over and work > 0:
            over = self._evict() and self.used_bytes > self.budget_bytes
            work -= 1
        wake_ms, graves_ms = self.live.deadlines.wake_ms, self.graves.wheel.wake_ms
        if self._held and graves_ms:  # nothing of theirs comes due while their time stands still
            graves_ms = wake_ms
        self._wake_ms = 0 if over else min(wake_ms, graves_ms)
        return self._wake_ms == 0

    def __len__(self) -> int:
        """Return the number of live records, expired ones included until they are reclaimed."""
        return len(self.policy)

    def __repr__(self) -> str:
        used = f"{self.used_bytes}/{self.budget_bytes} B"
        held = " (held)" if self._held else ""
        return f"<Store records={len(self)} tombstones={len(self.graves)}{held} used={used} now={self.now_ms} ms>"


def _as_tombstone(record: bytes) -> bytes:
    if record[FLAGS] >= TOMBSTONE:
        return record
    return tombstone(version_of(record), min(expiry_of(record) + TOMBSTONE_MS, NEVER))
