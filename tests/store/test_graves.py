from __future__ import annotations

from collections.abc import Iterator

import pytest

from kvcache.store.graves import Graves
from kvcache.store.sizes import Ledger
from kvcache.store.table import EMPTY_TABLE, TABLE_BYTES, Table
from kvcache_client.protocol.record import tombstone

NOW = 1_800_000_000_000
HOUR = 3_600_000


class Cemetery:
    """Tombstones with the tables that they lie in."""

    def __init__(self, budget_bytes: int) -> None:
        self.tables: list[Table] = [EMPTY_TABLE] * 4
        self.tables_ledger = Ledger()
        self.graves = Graves(self.tables, self.tables_ledger, NOW, budget_bytes)

    def keep(self, number: int, forget_ms: int = NOW + HOUR) -> bytes:
        key = b"key %d" % number
        self.graves.keep(number % 4, key, tombstone(number + 1, forget_ms))
        return key

    def keys(self) -> set[bytes]:
        return {key for table in self.tables for key in table.graves}

    def recount(self) -> None:
        graves = self.graves
        assert len(graves) == len(self.keys()) == len(graves.wheel)
        assert len(graves) == graves.made - graves.superseded - graves.forgotten - graves.dropped
        assert graves.ledger.used <= graves.budget_bytes or not len(graves)
        assert {key for key, _, _ in graves.wheel.entries()} == self.keys()
        assert self.tables_ledger.used == TABLE_BYTES * sum(table is not EMPTY_TABLE for table in self.tables)


@pytest.fixture
def cemetery() -> Iterator[Cemetery]:
    made = Cemetery(budget_bytes=1 << 20)
    yield made
    made.recount()


def test_a_tombstone_is_kept_in_its_partition(cemetery: Cemetery) -> None:
    key = cemetery.keep(6)
    assert cemetery.tables[2].graves == {key: tombstone(7, NOW + HOUR)}


def test_tombstones_are_forgotten_in_their_own_time_a_bounded_number_at_once(cemetery: Cemetery) -> None:
    for number in range(10):
        cemetery.keep(number, NOW + 1_000)
    late = cemetery.keep(99, NOW + HOUR)
    assert cemetery.graves.forget_due(NOW + 999, 100) == 0
    assert [cemetery.graves.forget_due(NOW + 2_000, 6) for _ in range(3)] == [6, 4, 0]
    assert cemetery.keys() == {late}
    assert cemetery.graves.forgotten == 10


def test_a_newer_version_takes_the_place_of_a_tombstone(cemetery: Cemetery) -> None:
    key = cemetery.keep(1)
    cemetery.graves.supersede(cemetery.tables[1], key)
    assert cemetery.keys() == set()
    assert cemetery.graves.superseded == 1


def test_over_the_budget_those_go_first_that_would_be_forgotten_soonest(cemetery: Cemetery) -> None:
    late = [cemetery.keep(number, NOW + HOUR) for number in range(200)]
    soon = [cemetery.keep(number, NOW + HOUR // 2) for number in range(200, 400)]
    cemetery.graves.budget_bytes = cemetery.graves.ledger.used - 4_000
    cemetery.graves.hold_budget()
    assert cemetery.keys() >= set(late)
    assert 0 < len(cemetery.keys() & set(soon)) < 200
    assert cemetery.graves.dropped == 400 - len(cemetery.graves)


def test_within_one_bucket_the_oldest_go_first() -> None:
    cemetery = Cemetery(budget_bytes=40_000)
    keys = [cemetery.keep(4 * number, NOW + HOUR) for number in range(1_000)]
    left = cemetery.keys()
    assert left == set(keys[-len(left) :])
    assert 100 < len(left) < 400
    cemetery.recount()


def test_the_budget_holds_after_every_tombstone_however_many_come() -> None:
    cemetery = Cemetery(budget_bytes=20_000)
    for number in range(3_000):
        cemetery.keep(number, NOW + number * 1_000)
        assert cemetery.graves.ledger.used <= 20_000
    cemetery.recount()
    assert cemetery.graves.dropped > 2_500


def test_without_a_budget_nothing_is_kept_and_every_loss_is_counted() -> None:
    cemetery = Cemetery(budget_bytes=0)
    for number in range(10):
        cemetery.keep(number)
    assert cemetery.keys() == set()
    assert cemetery.graves.dropped == 10
    assert cemetery.graves.ledger.used == 0


def test_a_partition_is_cleared_of_its_tombstones_and_of_no_other_ones(cemetery: Cemetery) -> None:
    for number in range(100):
        cemetery.keep(number, NOW + number * 100_000)
    cemetery.graves.clear(cemetery.tables[1])
    assert cemetery.tables[1] is EMPTY_TABLE
    assert cemetery.keys() == {b"key %d" % number for number in range(100) if number % 4 != 1}


def test_no_bytes_are_left_when_the_last_tombstone_has_gone(cemetery: Cemetery) -> None:
    for number in range(1_000):
        cemetery.keep(number, NOW + number * 100_000)
    assert cemetery.graves.forget_due(NOW + 200_000_000, 5_000) == 1_000
    assert cemetery.graves.ledger.used == 0
    assert cemetery.tables == [EMPTY_TABLE] * 4


def test_tombstones_show_their_state(cemetery: Cemetery) -> None:
    cemetery.keep(1)
    assert repr(cemetery.graves).startswith("<Graves 1 using ")
    assert repr(cemetery.graves).endswith("/1048576 B dropped=0>")
