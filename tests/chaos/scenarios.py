"""Scenarios: what goes wrong, and when, while the load goes on.

Here live coroutines over ``Run``, each one fault of the table of promises. Never here: load, judges, assertions. Each marks
``run.fault()`` just before things go wrong and ``run.healed()`` when nothing is wrong any more; parameters have the lengths of
the full run, tests of the fast half give shorter ones.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from chaos.cluster import eventually
from chaos.load import key_name
from chaos.runner import Run
from kvcache_client.core.routing import View
from kvcache_client.placement.partitions import PARTITIONS
from kvcache_client.placement.topology import Topology
from kvcache_client.protocol.errors import ControlPlaneUnavailable

__all__ = [
    "ADMIN_SECONDS",
    "MOVED_AT_MOST",
    "controller_dies",
    "coordinator_empty",
    "coordinator_killed",
    "coordinator_rolled_back",
    "coordinator_stopped",
    "flush_while_away",
    "join_then_drain",
    "kill_one",
    "pause_one",
    "purge_while_away",
    "restart_empty",
    "rolling_restart",
    "two_nodes_apart",
]

ADMIN_SECONDS: Final = 1.0
"""How long an admin operation may take to fail without Redis."""

MOVED_AT_MOST: Final = 1.25
"""Partitions that a join may move, as a multiple of the fair share of the one that joins."""

_TOUCHED: Final = 200
"""Keys that a scenario itself changes while a node is away."""


async def kill_one(run: Run, after: float = 5.0) -> None:
    """``kill -9`` one node."""
    run.fault()
    await run.cluster.kill(run.victim())
    await run.hold(after)


async def restart_empty(run: Run, away: float = 5.0, after: float = 5.0) -> None:
    """``kill -9`` one node, and start it again with nothing in its memory."""
    victim = run.victim()
    run.fault()
    await run.cluster.kill(victim)
    await run.hold(away)
    await run.cluster.restart(victim, wait=False)
    await run.operate.wait_healthy()
    run.healed()
    await run.hold(after)


async def pause_one(run: Run, seconds: float = 20.0, after: float = 5.0, *, resume: bool = True) -> None:
    """SIGSTOP one node while keys are deleted and overwritten; then SIGCONT, or leave it to the end of the load."""
    victim = run.cluster.nodes[run.victim()]
    keys = [f"pause:{number}" for number in range(_TOUCHED)]
    await asyncio.gather(*(run.recorder.set(key) for key in keys))
    run.fault()
    victim.pause()
    await run.hold(seconds / 2)
    await asyncio.gather(*(run.recorder.delete(key) for key in keys[::2]))
    await asyncio.gather(*(run.recorder.set(key) for key in keys[1::2]))
    await run.hold(seconds / 2)
    await asyncio.gather(*(run.recorder.get(key) for key in keys))
    if resume:
        victim.resume()
        run.healed()
        async with run.newcomer("after the pause") as reader:
            await asyncio.gather(*(reader.get(key) for key in keys))
        await run.hold(after)
        await asyncio.gather(*(run.recorder.get(key) for key in keys))


async def rolling_restart(run: Run, after: float = 2.0) -> None:
    """Restart all nodes, one after the other, as an operator does."""
    run.fault()
    for id in list(run.cluster.nodes):
        await run.cluster.stop(id)
        await run.cluster.restart(id, wait=False)
        await run.operate.wait_healthy()
    run.healed()
    await run.hold(after)


async def join_then_drain(run: Run, between: float = 2.0, after: float = 2.0) -> None:
    """A node joins under load; then one of the first is drained and leaves."""
    before = await run.cluster.topology()
    leaver = run.victim()
    run.fault()
    newcomer = await run.cluster.add()
    await run.operate.wait_healthy()
    joined = await run.cluster.topology()
    share = moved_share(before, joined, newcomer.id)
    run.require(share <= MOVED_AT_MOST, f"the join of {newcomer.id} moved {share:.2f} x its fair share of partitions")
    await run.hold(between)
    await run.operate.drain(leaver)
    await run.cluster.stop(leaver)
    await run.operate.remove(leaver)
    run.healed()
    await run.hold(after)


async def controller_dies(run: Run, failpoint: str, after: float = 2.0) -> None:
    """A node joins; the controller dies at ``failpoint``, and comes back a little later as an empty node."""
    run.fault()
    run.cluster.arm(failpoint)
    await run.cluster.add(wait=False)
    await eventually(run.cluster.ended, f"somebody dies at {failpoint}")
    (dead,) = await run.cluster.ended()
    await run.cluster.kill(dead)
    await run.hold(1.0)
    await run.cluster.restart(dead, wait=False)
    await run.operate.wait_healthy()
    topology = await run.cluster.topology()
    run.require(topology.move is None, f"the move did not finish: {topology!r}")
    run.require(len(topology.layout.nodes) == len(run.cluster.nodes), f"not everybody owns: {topology!r}")
    run.healed()
    await run.hold(after)


async def flush_while_away(run: Run, away: float = 2.0, after: float = 3.0) -> None:
    """Flush everything while one node is stopped and others hold hints for it."""
    await _erase_while_away(run, "", away, after)


async def purge_while_away(run: Run, away: float = 2.0, after: float = 3.0) -> None:
    """Purge a prefix while one node is stopped and others hold hints for it."""
    await _erase_while_away(run, "old:", away, after)


async def _erase_while_away(run: Run, prefix: str, away: float, after: float) -> None:
    victim = run.cluster.nodes[run.victim()]
    run.fault()
    victim.pause()
    await run.hold(away)
    await run.recorder.erase(prefix, lambda: run.operate.purge(prefix) if prefix else run.operate.flush())
    sample = [key_name(number) for number in range(0, 2 * _TOUCHED, 2)]
    await asyncio.gather(*(run.recorder.get(key) for key in sample))
    victim.resume()
    run.healed()
    async with run.newcomer("after the flush") as reader:
        await asyncio.gather(*(reader.get(key) for key in sample))
    await run.hold(after)


async def two_nodes_apart(run: Run, seconds: float = 5.0, after: float = 5.0) -> None:
    """Two nodes can't reach each other, while everybody else reaches both. Needs a shape with ``proxied``."""
    one, other = run.dice.sample(sorted(run.cluster.nodes), 2)
    run.fault()
    run.cluster.proxies[one].cut(source=other)
    run.cluster.proxies[other].cut(source=one)
    await run.hold(seconds)
    run.cluster.proxies[one].heal()
    run.cluster.proxies[other].heal()
    run.healed()
    await run.hold(after)


async def coordinator_killed(run: Run, seconds: float = 3.0) -> None:
    """``kill -9`` of Redis."""
    before = await run.cluster.topology()
    run.fault()
    await run.cluster.coordinator.kill()
    await _operator_is_told(run)
    await _without_coordinator(run, seconds, before)


async def coordinator_stopped(run: Run, seconds: float = 3.0) -> None:
    """SIGSTOP of Redis, and SIGCONT."""
    before = await run.cluster.topology()
    run.fault()
    run.cluster.coordinator.pause()
    await _operator_is_told(run)
    await _without_coordinator(run, seconds, before)
    run.cluster.coordinator.resume()
    run.healed()
    await _same_ring(run, before)


async def coordinator_empty(run: Run, seconds: float = 3.0) -> None:
    """Redis restarts with nothing in it."""
    before = await run.cluster.topology()
    run.fault()
    await run.cluster.coordinator.restart_empty()
    await _without_coordinator(run, seconds, before)


async def coordinator_rolled_back(run: Run, seconds: float = 3.0) -> None:
    """Redis falls back to what it held before a node joined."""
    saved = await run.cluster.coordinator.save()
    await run.cluster.add()
    await run.cluster.wait_healthy()
    before = await run.cluster.topology()
    run.fault()
    await run.cluster.coordinator.roll_back(saved)
    await _without_coordinator(run, seconds, before)


async def _operator_is_told(run: Run) -> None:
    """What needs Redis must fail, soon and by its name, where this run has an operator."""
    if run.admin is None:
        return
    began = time.monotonic()
    try:
        await run.admin.purge("nothing:")
    except ControlPlaneUnavailable:
        took = time.monotonic() - began
        run.require(took <= ADMIN_SECONDS, f"an admin operation took {took:.2f} s to fail without Redis")
    else:
        run.require(False, "an admin operation succeeded without Redis")


async def _without_coordinator(run: Run, seconds: float, before: Topology) -> None:
    """The data path must not notice; new clients find the cluster; the ring stays what it was."""
    async with run.newcomer("newcomer without a coordinator") as newcomer:
        await asyncio.gather(*(newcomer.set(f"alone:{number}") for number in range(_TOUCHED)))
        await asyncio.gather(*(newcomer.get(f"alone:{number}") for number in range(_TOUCHED)))
    await run.hold(seconds)
    await _same_ring(run, before)


async def _same_ring(run: Run, before: Topology) -> None:
    now = await run.cluster.topology()
    missing = {member.id for member in before.members} - {member.id for member in now.members}
    run.require(not missing, f"the ring lost {sorted(missing)}")
    run.require(now.epoch >= before.epoch, f"the epoch fell from {before.epoch} to {now.epoch}")


def moved_share(before: Topology, after: Topology, newcomer: str) -> float:
    """Return the copies of partitions that have a new home, as a multiple of the newcomer's fair share of all."""
    old, new = View(before), View(after)
    moved = sum(len(set(new.owners[it]) - set(old.owners[it])) for it in range(PARTITIONS))
    copies = sum(len(owners) for owners in new.owners)
    weights = {member.id: member.weight for member in after.members}
    return moved / (copies * weights[newcomer] / sum(weights.values()))
