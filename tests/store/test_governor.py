from __future__ import annotations

import pytest

from kvcache.store.governor import GAIN, Advice, MemoryGovernor

MIB = 1 << 20
BUDGET = 256 * MIB
BASE = 30 * MIB
LEAST = MIB


@pytest.fixture
def governor() -> MemoryGovernor:
    return MemoryGovernor(BUDGET, BASE, LEAST)


def resident(budgets: float) -> int:
    return BASE + int(budgets * BUDGET)


@pytest.mark.parametrize("budgets", [0.0, 0.5, 1.0, 1.069])
def test_a_process_within_its_bounds_has_its_whole_budget(governor: MemoryGovernor, budgets: float) -> None:
    assert governor.observe(resident(budgets)) == Advice(BUDGET, trim=False)


def test_a_process_smaller_than_when_it_started_has_its_whole_budget(governor: MemoryGovernor) -> None:
    assert governor.observe(0) == Advice(BUDGET, trim=False)


def test_each_byte_too_many_takes_several_from_the_budget_and_asks_to_trim(governor: MemoryGovernor) -> None:
    edge = governor.observe(resident(1.08))
    beyond = governor.observe(resident(1.08) + MIB)
    assert edge.trim
    assert beyond.trim
    assert edge.budget_bytes - beyond.budget_bytes == GAIN * MIB


def test_at_the_promised_bound_much_of_the_budget_is_given_up(governor: MemoryGovernor) -> None:
    assert governor.observe(resident(1.1)).budget_bytes <= BUDGET * max(1 / 8, 1 - 0.029 * GAIN)


def test_the_budget_falls_steadily_with_the_excess(governor: MemoryGovernor) -> None:
    budgets = [governor.observe(resident(1 + percent / 100)).budget_bytes for percent in range(30)]
    assert budgets == sorted(budgets, reverse=True)


def test_an_eighth_of_the_budget_is_never_taken(governor: MemoryGovernor) -> None:
    assert governor.observe(resident(50)).budget_bytes == BUDGET // 8


def test_the_least_that_a_store_can_work_with_is_never_taken() -> None:
    assert MemoryGovernor(2 * MIB, BASE, LEAST).observe(resident(50)).budget_bytes == LEAST


def test_an_excess_that_stays_costs_no_more_than_it_did_and_one_that_goes_gives_everything_back(
    governor: MemoryGovernor,
) -> None:
    held = {governor.observe(resident(1.08)).budget_bytes for _ in range(1_000)}
    assert len(held) == 1
    assert governor.observe(resident(1.0)) == Advice(BUDGET, trim=False)


def test_a_governor_shows_what_it_holds_to(governor: MemoryGovernor) -> None:
    assert repr(governor) == f"<MemoryGovernor budget={BUDGET} B base={BASE} B>"
