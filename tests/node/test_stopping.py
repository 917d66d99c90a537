"""The end of a node: every step of it is taken, whatever becomes of the others."""

from functools import partial

import pytest

from kvcache.cluster.coordinator import Coordinator
from kvcache.cluster.heartbeat import Heartbeats
from kvcache.node import Node

STEPS = {"listener.stop", "_door.stop", "_client.close", "_operating.close", "_membership.leave", "_registry.close"}


async def alive_in(url, cluster):
    coordinator = Coordinator(url)
    try:
        return set(await Heartbeats(coordinator, cluster).alive())
    finally:
        await coordinator.close()


def watch(node: Node, monkeypatch, broken: str) -> set[str]:
    """Have the step ``broken`` fail once it is done; returns a set that is filled with the steps that are taken."""
    taken = set()

    async def take(step, do, *given):
        await do(*given)
        taken.add(step)
        if step == broken:
            raise ZeroDivisionError(step)

    for step in STEPS:
        part, name = step.split(".")
        owner = getattr(node, part)
        monkeypatch.setattr(owner, name, partial(take, step, getattr(owner, name)))
    return taken


@pytest.mark.parametrize("broken", sorted(STEPS))
def test_a_step_that_fails_keeps_no_other_from_being_taken(start_node, loop_thread, coordinator, monkeypatch, broken):
    cluster = f"stopping-{broken}".replace(".", "-")
    serving = start_node(id="one", cluster=cluster, coordinator=coordinator)
    assert loop_thread.run(alive_in(coordinator, cluster)) == {"one"}
    taken = watch(serving.node, monkeypatch, broken)
    with pytest.raises(ZeroDivisionError, match=broken):
        serving.stop()
    assert taken == STEPS
    assert loop_thread.run(alive_in(coordinator, cluster)) == set()
