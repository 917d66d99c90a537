"""Busy polling is tried, kept where it pays, and left alone where it does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvcache_client import InvalidOption
from kvcache_client.core.busy_polling import BusyPolling
from kvcache_client.core.config import ClientConfig


def tried_awake(polling: BusyPolling, waits: int, paid: bool) -> int:
    tried = 0
    for _ in range(waits):
        if polling.begins():
            tried += 1
            polling.ended(paid)
    return tried


def test_where_it_pays_every_wait_begins_awake() -> None:
    assert tried_awake(BusyPolling(50e-6), 1000, paid=True) == 1000


def test_where_it_does_not_pay_nearly_every_wait_sleeps_at_once() -> None:
    polling = BusyPolling(50e-6)
    assert tried_awake(polling, 512, paid=False) == 8 + 1
    assert tried_awake(polling, 256 * 10, paid=False) == 10


def test_one_answer_in_time_and_it_is_used_again() -> None:
    polling = BusyPolling(50e-6)
    tried_awake(polling, 5000, paid=False)
    while not polling.begins():
        pass
    polling.ended(paid=True)
    assert tried_awake(polling, 100, paid=True) == 100


@given(st.lists(st.booleans(), max_size=2000))
def test_losses_are_never_worse_than_one_more_than_the_wins_and_a_few(answers: list[bool]) -> None:
    """What it wastes is bounded by what it gains, whatever comes: a loss doubles the rest, only a win takes it back."""
    polling = BusyPolling(50e-6)
    won = lost = 0
    for in_time in answers:
        if polling.begins():
            polling.ended(in_time)
            won, lost = won + in_time, lost + (not in_time)
    assert lost <= 9 * (won + 1) + len(answers) // 256


def test_turned_off_no_wait_begins_awake() -> None:
    assert tried_awake(BusyPolling(0.0), 1000, paid=True) == 0


def test_it_shows_what_it_has_learned() -> None:
    polling = BusyPolling(50e-6)
    tried_awake(polling, 2, paid=False)
    assert repr(polling) == "<BusyPolling 50 us, losses in a row: 1, waits to sleep: 0>"


@pytest.mark.parametrize("seconds", [-0.00001, 0.0011, float("nan"), float("inf")])
def test_nobody_may_keep_a_core_busy_for_long(seconds: float) -> None:
    with pytest.raises(InvalidOption, match=r"busy_polling=.*must be 0 to 0.001 seconds"):
        ClientConfig(busy_polling=seconds)
