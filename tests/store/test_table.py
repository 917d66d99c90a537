from __future__ import annotations

import pytest

from kvcache.store.sizes import Ledger
from kvcache.store.table import EMPTY_TABLE, TABLE_BYTES, Table, close_if_empty, open_table
from kvcache_client.protocol.record import NEVER, make_record


def slots(count: int = 4) -> list[Table]:
    return [EMPTY_TABLE] * count


def test_a_table_is_made_when_a_partition_is_first_written_to() -> None:
    tables, ledger = slots(), Ledger()
    table = open_table(tables, 2, ledger)
    assert (table.number, tables[2] is table, tables[1] is EMPTY_TABLE) == (2, True, True)
    assert open_table(tables, 2, ledger) is table
    assert ledger.used == TABLE_BYTES


def test_a_table_that_holds_nothing_is_closed_and_costs_nothing() -> None:
    tables, ledger = slots(), Ledger()
    close_if_empty(tables, open_table(tables, 0, ledger), ledger)
    assert tables == slots()
    assert ledger.used == 0


def test_a_table_stays_open_for_a_value_or_a_tombstone() -> None:
    for home in ("small", "main", "graves"):
        tables, ledger = slots(), Ledger()
        table = open_table(tables, 0, ledger)
        getattr(table, home)[b"key"] = b"record"
        close_if_empty(tables, table, ledger)
        assert tables[0] is table


def test_closing_an_old_table_leaves_its_successor_alone() -> None:
    tables, ledger = slots(), Ledger()
    old = open_table(tables, 0, ledger)
    close_if_empty(tables, old, ledger)
    new = open_table(tables, 0, ledger)
    close_if_empty(tables, old, ledger)
    assert tables[0] is new
    assert ledger.used == TABLE_BYTES


def test_find_sees_values_and_not_tombstones() -> None:
    table = Table(0)
    table.small[b"s"], table.main[b"m"], table.graves[b"g"] = b"1", b"2", b"3"
    assert [table.find(key) for key in (b"s", b"m", b"g", b"x")] == [b"1", b"2", None, None]


def timed_table() -> Table:
    table = Table(0)
    for number, expiry_ms in enumerate([1_000, 1_000, 256, 255, NEVER, NEVER - 1]):
        table.small[b"small %d" % number] = make_record(1, expiry_ms, 1, b"")
        table.main[b"main %d" % number] = make_record(1, expiry_ms + 5 if expiry_ms < NEVER - 1 else NEVER, 1, b"")
    table.graves[b"grave"] = make_record(1, 7, 1, b"")
    return table


@pytest.mark.parametrize(
    ("now_ms", "expected"),
    [
        (254, []),
        (255, [b"small 3"]),
        (260, [b"small 2", b"small 3", b"main 3"]),
        (1_000, [b"small 0", b"small 1", b"small 2", b"small 3", b"main 2", b"main 3"]),
        (NEVER - 2, [b"%b %d" % (home, number) for home in (b"small", b"main") for number in range(4)]),
    ],
)
def test_due_are_the_records_whose_time_is_over_and_no_tombstones(now_ms: int, expected: list[bytes]) -> None:
    table = timed_table()
    assert sorted(table.due(now_ms.to_bytes(6, "big"), 100)) == sorted(expected)


@pytest.mark.parametrize("most", [0, 1, 3, 8, 9])
def test_no_more_are_due_than_were_asked_for(most: int) -> None:
    table = timed_table()
    found = table.due((5_000).to_bytes(6, "big"), most)
    assert len(set(found)) == len(found) == min(most, 8)
    assert all(table.find(key) for key in found)


@pytest.mark.parametrize(
    ("first_ms", "end_ms", "expected"),
    [
        (0, NEVER, [255, 256, 260, 261, 1_000, 1_005, NEVER - 1]),
        (0, NEVER + 1, [255, 256, 260, 261, 1_000, 1_005, NEVER - 1]),
        (256, 1_000, [256, 260, 261]),
        (257, 1_001, [260, 261, 1_000]),
        (2_000, NEVER - 1, []),
    ],
)
def test_the_times_of_a_range_are_told_once_each_and_never_is_none(
    first_ms: int, end_ms: int, expected: list[int]
) -> None:
    assert sorted(timed_table().times(first_ms, end_ms)) == expected


def test_nothing_is_due_in_a_table_that_is_empty() -> None:
    assert EMPTY_TABLE.due(bytes([255]) * 5 + bytes([254]), 10) == []
    assert EMPTY_TABLE.times(0, NEVER) == []


def test_growth_is_measured_once_and_apart_for_values_and_tombstones() -> None:
    table = Table(0)
    empty, empty_graves = table.small.__sizeof__(), {}.__sizeof__()
    for number in range(100):
        table.small[b"%d" % number] = table.graves[b"%d" % number] = b""
    assert table.measure() == table.small.__sizeof__() - empty
    assert table.measure_graves() == table.graves.__sizeof__() - empty_graves
    assert table.measure() == table.measure_graves() == 0


def test_a_dict_that_lost_most_of_its_entries_gives_its_room_back_and_keeps_their_order() -> None:
    table = Table(0)
    for number in range(1000):
        table.main[b"%d" % number] = table.graves[b"%d" % number] = b""
    grown = table.measure(), table.measure_graves()
    for number in range(990):
        del table.main[b"%d" % number], table.graves[b"%d" % number]
    assert -grown[0] < table.shrink() < -grown[0] * 0.9
    assert -grown[1] < table.shrink_graves() < -grown[1] * 0.9
    assert list(table.main) == list(table.graves) == [b"%d" % number for number in range(990, 1000)]


def test_a_dict_in_good_use_is_left_as_it_is() -> None:
    table = Table(0)
    for number in range(1000):
        table.small[b"%d" % number] = b""
    before = table.small
    table.measure()
    assert table.shrink() == 0
    assert table.small is before


def test_the_table_that_stands_for_empty_partitions_says_so() -> None:
    assert repr(EMPTY_TABLE) == "<Table -1 small=0 main=0 graves=0>"


@pytest.mark.parametrize("left", [1, 2, 3, 4, 5, 8, 100])
def test_giving_room_back_never_takes_more(left: int) -> None:
    table = Table(0)
    for number in range(2 * left + 1):
        table.small[b"%d" % number] = table.graves[b"%d" % number] = b""
    table.measure(), table.measure_graves()
    for number in range(left + 1):
        del table.small[b"%d" % number], table.graves[b"%d" % number]
        assert table.shrink() <= 0
        assert table.shrink_graves() <= 0


def test_a_table_whose_records_come_and_go_stays_more_than_half_full_and_keeps_their_order() -> None:
    table = Table(0)
    used = 0
    for number in range(5_000):
        table.main[b"%d" % number] = b""
        if table.main.__sizeof__() != table.main_size:
            used += table.tighten()
        if len(table.main) > 100:
            del table.main[next(iter(table.main))]
    assert list(table.main) == [b"%d" % number for number in range(4_900, 5_000)]
    assert used == table.main.__sizeof__() - Table(0).main.__sizeof__()
    assert used <= 50 * len(table.main)
