"""Faults under load, the fast half: what must hold on any machine is asserted, figures are printed."""

from __future__ import annotations

from functools import partial

import pytest

from chaos.runner import Scenario, Verdict, play
from chaos.scenarios import coordinator_killed, coordinator_stopped, kill_one, pause_one


async def test_kill_9_of_one_node_loses_nothing_and_fails_no_read() -> None:
    verdict = await play(partial(kill_one, after=2.5), "kill -9 one node")
    assert not verdict.violations, verdict.describe()
    assert verdict.figures.failed_reads == 0
    assert verdict.figures.recovered is not None


async def test_a_stopped_node_costs_no_write_and_no_right_answer() -> None:
    scenario = partial(pause_one, seconds=3.0, resume=False)
    # What it holds when it wakes up is old, and nobody has told it yet: only what was read before that is judged.
    judged = ("lost", "stale", "false_miss", "phantom")
    verdict = await play(scenario, "SIGSTOP one node", judged=judged, final_reads=False)
    assert not verdict.violations, verdict.describe()
    assert verdict.figures.failed_reads == 0


@pytest.mark.parametrize("scenario", [coordinator_killed, coordinator_stopped])
async def test_the_data_path_does_not_notice_that_redis_is_away(scenario: Scenario) -> None:
    verdict = await play(partial(scenario, seconds=1.5), scenario.__name__)  # type: ignore[attr-defined]
    assert not verdict.violations, verdict.describe()
    assert unharmed(verdict)


def unharmed(verdict: Verdict) -> bool:
    """Say whether not one operation failed."""
    cost = verdict.figures
    return cost.failed_reads == cost.failed_writes == cost.in_doubt == 0
