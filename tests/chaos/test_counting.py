"""Counting while the node that decides is killed, at a fiftieth of the full length (``python -m loadtests.counting``)."""

from __future__ import annotations

import pytest

from loadtests.counting import Account, CountingOptions, run


async def test_nothing_is_lost_and_nothing_counted_twice_when_the_primary_is_killed() -> None:
    account = await run(CountingOptions(increments=20_000))
    assert account.acknowledged > 10_000
    assert account.balanced, account
    assert account.acknowledged + account.in_doubt + account.refused == 156 * 16 * 8


@pytest.mark.parametrize(
    ("account", "balanced"),
    [
        (Account(10, 2, 0, 10, 0, 0), True),
        (Account(10, 2, 5, 12, 0, 0), True),
        (Account(10, 2, 0, 13, 0, 0), False),
        (Account(10, 2, 0, 9, 0, 0), False),
        (Account(10, 2, 0, 11, 0, 1), False),
    ],
)
def test_the_account_tells_lost_and_doubled_increments(account: Account, balanced: bool) -> None:
    assert account.balanced is balanced
