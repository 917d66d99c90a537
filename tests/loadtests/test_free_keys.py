"""Free keys: a write never takes a key that is being written, however few are left."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from loadtests.users.free_keys import FreeKeys
from loadtests.users.keys import ZipfKeys
from loadtests.users.ledger import Ledger


def _free(count: int, zipf: float, busy: int) -> FreeKeys:
    """Return free keys of which the ``busy`` most popular are being written."""
    keys, ledger = ZipfKeys("k", count, zipf, Random(1)), Ledger("run")
    for number in range(busy):
        ledger.known(keys.name(number)).begin(0.0, None)
    return FreeKeys(keys, ledger, Random(2))


@pytest.mark.parametrize("zipf", [0.0, 0.99, 3.0, 10.0])
@pytest.mark.parametrize(("count", "busy"), [(1, 0), (2, 1), (9, 8), (1000, 200), (1000, 999)])
def test_a_free_key_is_found_and_it_is_free(zipf: float, count: int, busy: int) -> None:
    free = _free(count, zipf, busy)
    for _ in range(50):
        key, known = free.one()
        assert int(key[1:]) >= busy
        assert not known.busy


def test_where_the_popular_keys_are_busy_the_next_popular_are_taken() -> None:
    free = _free(100_000, 3.0, 30)
    taken = Counter(int(free.one()[0][1:]) for _ in range(1000))
    assert sum(count for number, count in taken.items() if number < 256) > 900


def test_several_are_different_and_free_and_at_least_one() -> None:
    assert len(_free(1000, 0.0, 0).several(20)) > 15
    found = _free(1000, 10.0, 990).several(20)
    assert found
    assert all(int(key[1:]) >= 990 and not known.busy for key, known in found.items())
    assert list(_free(1, 0.0, 0).several(20)) == ["k0"]
