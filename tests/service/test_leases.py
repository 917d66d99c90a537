"""Leases at one node: who is granted, who waits, what ends it, and the bounds."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from kvcache.service.leases import Asker, LeaseLimits, Leases
from kvcache_client.protocol.errors import KvCacheError, NotOwner, Overloaded
from kvcache_client.protocol.record import NEVER, PayloadType, make_record, tombstone, version_of
from kvcache_client.protocol.verbs import Status
from kvcache_client.protocol.version import HybridClock

START_MS = 1_790_000_000_000
GRANTED, OK, MISS = int(Status.GRANTED), int(Status.OK), int(Status.MISS)


class Table:
    """Leases over a table of records, with a timer that a test runs by hand."""

    def __init__(self, limits: LeaseLimits | None = None) -> None:
        self.now_ms = START_MS
        self.records: dict[bytes, bytes] = {}
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.clock = HybridClock(lambda: self.now_ms, 7)
        self.leases = Leases(lambda partition, key: self.records.get(key), self.clock, limits)
        self.leases.go_by(lambda seconds, work: self.timers.append((self.now_ms + seconds * 1000, work)))
        self.told: dict[int, Any] = {}

    def ask(self, token: int, key: bytes = b"k", *, peer: object = None, seconds: float = 5.0) -> Any:
        """Ask for a lease and return what is answered at once, None for nothing."""
        self.told.pop(token, None)
        self.leases.ask(5, key, Asker(peer, token, seconds, lambda reply: self.tell(token, reply)))
        return self.told.get(token)

    def tell(self, token: int, reply: Any) -> None:
        assert token not in self.told, "answered twice"
        self.told[token] = reply

    def fill(self, token: int, key: bytes = b"k", payload: bytes = b"value") -> bool:
        lease = self.leases.fill(key, token)
        if lease is None:
            return False
        self.records[key] = record = make_record(lease.version, NEVER, PayloadType.BYTES, payload)
        self.leases.settle(lease, record)
        return True

    def later(self, ms: int) -> None:
        self.now_ms += ms
        due = [work for at, work in self.timers if at <= self.now_ms]
        self.timers = [(at, work) for at, work in self.timers if at > self.now_ms]
        for work in due:
            work()


@pytest.fixture
def table() -> Table:
    return Table()


def test_the_first_is_granted_the_others_wait_and_all_get_what_is_filled_in(table: Table) -> None:
    assert table.ask(1) == (GRANTED, None)
    assert [table.ask(token) for token in (2, 3)] == [None, None]
    assert table.leases.waiting == 2
    assert table.fill(1)
    assert table.told[2] == table.told[3] == (OK, table.records[b"k"])
    assert table.ask(4) == (OK, table.records[b"k"])
    assert (table.leases.waiting, table.leases.held) == (0, {})


def test_the_version_of_a_fill_is_that_of_the_grant(table: Table) -> None:
    table.ask(1)
    during = table.clock.stamp()
    table.fill(1)
    assert version_of(table.records[b"k"]) < during


def test_who_was_not_granted_fills_nothing_in(table: Table) -> None:
    assert not table.fill(1)
    table.ask(1)
    table.ask(2)
    assert not table.fill(2)
    assert table.fill(1)
    assert not table.fill(1)


def test_a_lease_ends_with_its_time_and_the_next_is_granted(table: Table) -> None:
    table.ask(1, seconds=1.0)
    table.ask(2, seconds=3.0)
    table.later(999)
    assert 2 not in table.told
    table.later(1)
    assert table.told[2] == (GRANTED, None)
    assert not table.fill(1)
    assert table.fill(2)


def test_nobody_waits_for_more_than_two_holders(table: Table) -> None:
    for token in (1, 2, 3):
        table.ask(token, seconds=1.0)
    table.later(1000)
    assert table.told[2] == (GRANTED, None)
    assert 3 not in table.told
    table.later(1000)
    assert table.told[3] in ((GRANTED, None), (MISS,))


def test_a_lost_connection_ends_its_leases_and_its_waiting(table: Table) -> None:
    gone, here = object(), object()
    table.ask(1, peer=gone)
    table.ask(2, peer=gone)
    table.ask(3, peer=here)
    table.leases.lost(gone)
    assert 2 not in table.told
    assert table.told[3] == (GRANTED, None)
    assert table.leases.waiting == 0


def test_a_lease_that_is_given_back_goes_to_the_next_and_who_waits_may_leave(table: Table) -> None:
    for token in (1, 2, 3):
        table.ask(token)
    assert table.leases.release(b"k", 2)
    assert table.leases.release(b"k", 1)
    assert table.told[3] == (GRANTED, None)
    assert 2 not in table.told
    assert not table.leases.release(b"k", 2)
    assert not table.leases.release(b"other", 3)


def test_the_same_token_is_granted_again_and_waits_only_once(table: Table) -> None:
    table.ask(1)
    assert table.ask(1) == (GRANTED, None)
    table.ask(2)
    table.ask(2)
    assert table.leases.waiting == 1


def test_a_write_answers_all_who_wait_and_a_delete_grants_the_next(table: Table) -> None:
    for token in (1, 2, 3):
        table.ask(token)
    table.records[b"k"] = tombstone(table.clock.stamp(), NEVER)
    table.leases.written(b"k")
    assert table.told[2] == (GRANTED, None)
    assert not table.fill(1)
    table.records[b"k"] = written = make_record(table.clock.stamp(), NEVER, PayloadType.BYTES, b"written")
    table.leases.written(b"k")
    assert table.told[3] == (OK, written)
    assert not table.fill(2)
    table.leases.written(b"other")
    assert table.leases.voided == 2


def test_after_a_change_of_the_topology_who_waits_is_sent_elsewhere(table: Table) -> None:
    table.ask(1)
    table.ask(2)
    table.leases.review(lambda key: -1)
    assert 2 not in table.told
    table.leases.refusal = lambda partition: NotOwner(f"not {partition}")
    table.leases.review(lambda key: -1)
    assert isinstance(table.told[2], NotOwner)
    assert not table.fill(1)


def test_leases_and_waiters_are_bounded() -> None:
    table = Table(LeaseLimits(leases=2, waiters=3, waiters_of_key=2))
    assert table.ask(1, b"a") == table.ask(2, b"b") == (GRANTED, None)
    assert isinstance(table.ask(3, b"c"), Overloaded)
    assert [table.ask(token, b"a") for token in (4, 5)] == [None, None]
    assert isinstance(table.ask(6, b"a"), Overloaded)
    assert table.ask(7, b"b") is None
    assert isinstance(table.ask(8, b"b"), Overloaded)
    assert table.fill(1, b"a")
    assert table.ask(9, b"b") is None


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_everyone_is_answered_and_nobody_counted_twice(seed: int) -> None:
    dice, table = random.Random(seed), Table(LeaseLimits(leases=3, waiters=6, waiters_of_key=3))
    peers, asked = [object() for _ in range(4)], 0
    lost: set[int] = set()
    for _ in range(300):
        key = dice.choice([b"a", b"b", b"c", b"d"])
        held = table.leases.held.get(key)
        match dice.randrange(7):
            case 0 | 1 | 2:
                asked += 1
                table.ask(asked, key, peer=dice.choice(peers), seconds=dice.uniform(0.1, 2.0))
            case 3 if held is not None:
                table.fill(held.holder.token, key)
            case 4 if held is not None:
                table.leases.release(key, held.holder.token)
            case 5:
                peer = dice.choice(peers)
                lost |= {
                    each.token for lease in table.leases.held.values() for each in lease.waiting if each.peer is peer
                }
                table.leases.lost(peer)
            case 6:
                table.records.pop(key, None)
                table.later(dice.randrange(500))
        assert table.leases.waiting == sum(len(lease.waiting) for lease in table.leases.held.values())
        assert len(table.leases.held) <= 3
        assert table.leases.waiting <= 6
    table.later(60_000)
    for _ in range(40):
        table.later(2000)
    assert table.leases.held == {}
    assert set(table.told) == set(range(1, asked + 1)) - lost
    assert all(isinstance(reply, KvCacheError) or reply[0] in (OK, MISS, GRANTED) for reply in table.told.values())
