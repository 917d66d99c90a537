"""Faults that need an operator or a node that comes back.

``operate`` turns a ``ChaosCluster`` into an ``Operate``, and judges everything: these promises have no exception.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from chaos.checkers import CHECKERS
from chaos.cluster import ChaosCluster, ClusterShape
from chaos.runner import Operate, Scenario, play
from chaos.scenarios import (
    controller_dies,
    flush_while_away,
    join_then_drain,
    pause_one,
    pulled_back,
    purge_while_away,
    replaced,
    restart_during_snapshot,
    restart_empty,
    rolling_restart,
    throttled_join,
)

Operator = Callable[[ChaosCluster], Operate]

Erasing = Callable[..., Coroutine[Any, Any, None]]

# A flush sets counters back to nothing, which their judge could not tell from a loss.
_BUT_COUNTERS = tuple(name for name in CHECKERS if name != "counter_bounds")


async def _holds(scenario: Scenario, name: str, operate: Operator, **options: Any) -> None:
    verdict = await play(scenario, name, operate=operate, **options)
    assert not verdict.violations, verdict.describe()
    assert verdict.figures.failed_reads == 0


async def test_a_node_that_was_killed_and_comes_back_empty(operate: Operator) -> None:
    await _holds(partial(restart_empty, away=1.0, after=2.0), "restart empty", operate)


async def test_a_stopped_node_that_wakes_up_tells_nothing_old(operate: Operator) -> None:
    await _holds(partial(pause_one, seconds=3.0, after=2.0), "SIGSTOP and SIGCONT", operate)


@pytest.mark.parametrize("scenario", [flush_while_away, purge_while_away])
async def test_nothing_old_comes_back_after_a_flush_with_one_node_away(scenario: Erasing, operate: Operator) -> None:
    await _holds(partial(scenario, away=1.2, after=1.0), scenario.__name__, operate, judged=_BUT_COUNTERS)


@pytest.mark.chaos
@pytest.mark.parametrize("scenario", [flush_while_away, purge_while_away])
async def test_nothing_old_comes_back_long_after_a_flush(scenario: Erasing, operate: Operator) -> None:
    await _holds(scenario, f"{scenario.__name__}, long", operate, judged=_BUT_COUNTERS)


async def test_a_move_that_is_throttled_is_held_up_and_harms_nobody(operate: Operator) -> None:
    await _holds(partial(throttled_join, seconds=1.5, after=1.0), "throttled join", operate)


@pytest.mark.chaos
async def test_a_dead_node_is_replaced_under_a_new_id(operate: Operator) -> None:
    await _holds(replaced, "replaced node", operate)


@pytest.mark.chaos
async def test_a_node_restarts_while_a_snapshot_is_taken(operate: Operator, tmp_path: Path) -> None:
    await _holds(partial(restart_during_snapshot, folder=tmp_path), "restart during a snapshot", operate)


@pytest.mark.chaos
async def test_a_node_that_was_killed_and_comes_back_empty_after_5_s(operate: Operator) -> None:
    await _holds(restart_empty, "restart empty, long", operate, steady=5.0)


@pytest.mark.chaos
async def test_a_node_of_a_full_cluster_comes_back_empty(operate: Operator) -> None:
    await _holds(pulled_back, "pulled back", operate, shape=ClusterShape(memory="256MiB"))


@pytest.mark.chaos
async def test_a_node_that_was_stopped_for_20_s(operate: Operator) -> None:
    await _holds(pause_one, "SIGSTOP 20 s and SIGCONT", operate, steady=5.0)


@pytest.mark.chaos
async def test_a_fourth_node_joins_and_one_is_drained(operate: Operator) -> None:
    await _holds(join_then_drain, "join, then drain", operate)


@pytest.mark.chaos
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("stage", ["prepare", "stream", "switch", "done"])
async def test_the_controller_dies_in_the_middle_of_a_join(stage: str, when: str, operate: Operator) -> None:
    failpoint = f"controller-{when}-{stage}"
    await _holds(partial(controller_dies, failpoint=failpoint), f"controller killed {when} {stage}", operate)


@pytest.mark.chaos
async def test_a_rolling_restart(operate: Operator) -> None:
    await _holds(rolling_restart, "rolling restart", operate)
