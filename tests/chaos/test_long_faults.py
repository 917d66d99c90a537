"""Faults under load, at full length: ``make chaos`` runs them, the everyday suite does not."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from chaos.cluster import ChaosCluster, ClusterShape
from chaos.runner import Operate, Scenario, play
from chaos.scenarios import (
    coordinator_empty,
    coordinator_killed,
    coordinator_rolled_back,
    coordinator_stopped,
    kill_one,
    pause_one,
    two_nodes_apart,
)

pytestmark = pytest.mark.chaos

Operator = Callable[[ChaosCluster], Operate]


async def test_kill_9_of_one_node() -> None:
    verdict = await play(partial(kill_one, after=10.0), "kill -9 one node, long", steady=5.0)
    assert not verdict.violations, verdict.describe()
    assert verdict.figures.failed_reads == 0
    assert verdict.figures.recovered is not None


async def test_a_node_that_is_stopped_for_20_s() -> None:
    judged = ("lost", "stale", "false_miss", "phantom")  # as in the fast half
    scenario = partial(pause_one, seconds=20.0, resume=False)
    verdict = await play(scenario, "SIGSTOP one node for 20 s", judged=judged, final_reads=False, steady=5.0)
    assert not verdict.violations, verdict.describe()
    assert verdict.figures.failed_reads == 0


@pytest.mark.parametrize("scenario", [coordinator_killed, coordinator_stopped, coordinator_empty])
async def test_what_happens_to_redis_does_not_reach_the_data_path(scenario: Scenario, operate: Operator) -> None:
    verdict = await play(partial(scenario, seconds=10.0), scenario.__name__, operate=operate)  # type: ignore[attr-defined]
    assert not verdict.violations, verdict.describe()
    assert verdict.figures.unharmed


async def test_redis_that_falls_back_to_an_older_document_does_not_shrink_the_ring(operate: Operator) -> None:
    # The node that joins before the fault brings nothing along yet, so reads are not judged.
    scenario = partial(coordinator_rolled_back, seconds=10.0)
    verdict = await play(scenario, "Redis rolled back", judged=("lost", "phantom"), final_reads=False, operate=operate)
    assert not verdict.violations, verdict.describe()
    assert verdict.figures.failed_reads == 0


async def test_two_nodes_that_cannot_reach_each_other_while_all_others_can() -> None:
    verdict = await play(two_nodes_apart, "two nodes apart", shape=ClusterShape(proxied=True))
    assert not verdict.violations, verdict.describe()
    assert verdict.figures.failed_reads == 0
