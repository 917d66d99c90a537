from __future__ import annotations

import sys

import pytest

from kvcache.store.sizes import DICT_BYTES, Ledger, bytes_cost, dict_cost, entry_cost


@pytest.mark.parametrize(
    ("length", "cost"),
    [(0, 48), (7, 48), (8, 64), (23, 64), (24, 80), (471, 512), (472, 528), (487, 528), (488, 544), (100_000, 100_048)],
)
def test_bytes_cost_what_the_allocator_rounds_them_up_to(length: int, cost: int) -> None:
    assert bytes_cost(length) == cost


@pytest.mark.parametrize("length", [0, 1, 30, 31, 32, 470, 479, 480, 481, 1000, 4096, 65_536])
def test_the_cost_is_never_less_than_the_object_and_never_32_bytes_more(length: int) -> None:
    size = sys.getsizeof(bytes(length))
    assert size <= bytes_cost(length) < size + 32


@pytest.mark.parametrize(("key", "record"), [(1, 15), (16, 115), (479, 480), (480, 479), (1024, 1_000_000)])
def test_an_entry_costs_its_key_and_its_record(key: int, record: int) -> None:
    assert entry_cost(bytes(key), bytes(record)) == bytes_cost(key) + bytes_cost(record)


def test_a_dict_costs_its_size_and_what_the_collector_adds() -> None:
    table = dict.fromkeys(range(1000))
    assert sys.getsizeof(table) <= dict_cost(table) == table.__sizeof__() + DICT_BYTES


def test_a_ledger_starts_empty_and_shows_what_is_in_use() -> None:
    ledger = Ledger()
    assert ledger.used == 0
    ledger.used += 7
    assert repr(ledger) == "<Ledger used=7 B>"
