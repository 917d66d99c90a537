"""Faults under load, the fast half: what must hold on any machine is asserted, figures are printed."""

from __future__ import annotations

from functools import partial

from chaos.runner import Run, play
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
    verdict = await play(scenario, "SIGSTOP one node for 3 s", judged=judged, final_reads=False)
    assert not verdict.violations, verdict.describe()
    assert verdict.figures.failed_reads == 0


async def test_the_data_path_does_not_notice_that_redis_is_stopped_and_then_killed() -> None:
    async def stopped_then_killed(run: Run) -> None:
        await coordinator_stopped(run, seconds=1.0)
        await coordinator_killed(run, seconds=1.0)

    verdict = await play(stopped_then_killed, "SIGSTOP, then kill -9 Redis")
    assert not verdict.violations, verdict.describe()
    assert verdict.figures.unharmed
