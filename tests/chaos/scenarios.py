"""Scenarios: what goes wrong, and when, while the load goes on.

Here live coroutines over ``Run``, each one fault of the table of promises. Never here: load, judges, assertions. Each marks
``run.fault()`` just before things go wrong and ``run.healed()`` when nothing is wrong any more; parameters have the lengths of
the full run, tests of the fast half give shorter ones.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from chaos.cluster import eventually
from chaos.load import key_name
from chaos.runner import Run
from kvcache.cluster.snapshots import SnapshotReader
from kvcache_client import AsyncClient
from kvcache_client.core.routing import View
from kvcache_client.placement.partitions import PARTITIONS
from kvcache_client.placement.topology import Topology
from kvcache_client.protocol.errors import ControlPlaneUnavailable
from kvcache_client.protocol.verbs import Verb
from loadtests.wire import Wire

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
    "pulled_back",
    "purge_while_away",
    "replaced",
    "restart_during_snapshot",
    "restart_empty",
    "rolling_restart",
    "throttled_join",
    "two_nodes_apart",
]

ADMIN_SECONDS: Final = 1.0
"""How long an admin operation may take to fail without Redis."""

MOVED_AT_MOST: Final = 1.25
"""Partitions that a join may move, as a multiple of the fair share of the one that joins."""

_CRAWL: Final = 50
"""Records a second of a throttled move: a few percent of what it is to receive."""

_PULLED: Final = 200_000
"""Records of 100 bytes, besides those of the load, in a cluster of which one node comes back empty."""

_LONG_MOVE: Final = 60_000
"""Records in a cluster of which a move must not be over before an operator has throttled it."""

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


async def pulled_back(run: Run, away: float = 5.0) -> None:
    """``kill -9`` a node of a full cluster, start it again empty, and print how fast it pulls what the others hold."""
    await fill(run, _PULLED)
    await run.hold(1.0)
    victim = run.victim()
    run.fault()
    await run.cluster.kill(victim)
    await run.hold(away)
    await run.cluster.restart(victim, wait=False)
    await eventually(lambda: is_in_state(run, victim, "syncing"), f"{victim} is syncing")
    began = time.monotonic()
    await eventually(lambda: is_in_state(run, victim, "up"), f"{victim} is up")
    seconds = time.monotonic() - began
    run.healed()
    async with Wire(run.cluster.nodes[victim].direct) as wire:
        records = json.loads((await wire.ask(int(Verb.STATS)))[1])["store"]["records"]
    run.require(records > _PULLED / 2, f"{victim} holds only {records} records after it has pulled")
    print(f"pulled {records} records of 100 bytes in {seconds:.2f} s: {records / seconds:,.0f} records/s")


async def fill(run: Run, records: int) -> None:
    """Store so many records of 100 bytes, which nobody asks for."""
    async with AsyncClient(run.cluster.seeds, timeout=5.0) as cache:
        for start in range(0, records, 1000):
            batch = range(start, min(start + 1000, records))
            result = await cache.set_many({f"pulled:{number:09}": b"x" * 100 for number in batch})
            run.require(not result.failed, f"{len(result.failed)} records were not stored before the fault")


async def is_in_state(run: Run, node: str, state: str) -> bool:
    """Say whether the newest document has a node in this state."""
    member = (await run.cluster.topology()).member(node)
    return member is not None and member.state == state


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
    run.require((await run.cluster.topology()).member(leaver) is None, f"{leaver} was drained and is a member still")
    await run.cluster.stop(leaver)
    run.healed()
    await run.hold(after)


async def replaced(run: Run, away: float = 1.0, after: float = 2.0) -> None:
    """``kill -9`` one node for good; another takes its place under an id of its own, and the dead one is removed."""
    victim = run.victim()
    run.fault()
    await run.cluster.kill(victim)
    await run.hold(away)
    newcomer = await run.cluster.add(wait=False)
    await run.cluster.wait_for_members([newcomer.id])
    await run.operate.remove(victim)
    await run.operate.wait_healthy()
    topology = await run.cluster.topology()
    run.require(topology.member(victim) is None, f"{victim} was removed and is a member still")
    run.require(newcomer.id in topology.layout.ids, f"{newcomer.id} owns nothing")
    run.healed()
    await run.hold(after)


async def throttled_join(run: Run, seconds: float = 3.0, after: float = 2.0) -> None:
    """A node joins at a crawl: its move is throttled, stands nearly still under load, and is let go again."""
    await fill(run, _LONG_MOVE)
    run.fault()
    newcomer = await run.cluster.add(wait=False)
    await eventually(run.operate.progress, "the move begins")
    await run.operate.throttle(_CRAWL)
    await run.hold(seconds)
    move = await run.operate.progress()
    run.require(move is not None and move["rate"] == _CRAWL, f"the move does not keep to its bound: {move}")
    run.require(move is not None and move["stage"] == "stream" and move["left"] > 0, f"it was not held up: {move}")
    await run.operate.throttle(0)
    await run.operate.wait_healthy()
    run.require(newcomer.id in (await run.cluster.topology()).layout.ids, f"{newcomer.id} owns nothing")
    run.healed()
    await run.hold(after)


async def restart_during_snapshot(run: Run, folder: Path, after: float = 2.0) -> None:
    """``kill -9`` one node while a snapshot is taken, and start it again: what was there before is in it, each key once."""
    keys = [f"kept:{number}" for number in range(_TOUCHED)]
    await asyncio.gather(*(run.recorder.set(key) for key in keys))
    victim = run.victim()
    run.fault()
    taking = asyncio.create_task(run.operate.snapshot(folder / "during"))
    await eventually(_begun(folder), "the snapshot begins")
    await run.cluster.kill(victim)
    await run.cluster.restart(victim, wait=False)
    records = await taking
    await run.operate.wait_healthy()
    run.healed()
    found = await asyncio.to_thread(lambda: [key for block in SnapshotReader(folder / "during") for key, _ in block])
    run.require(
        len(found) == records == len(set(found)), f"{records} records, {len(found)} found, {len(set(found))} keys"
    )
    missing = {key.encode() for key in keys} - set(found)
    run.require(not missing, f"the snapshot lacks {len(missing)} keys that were there before: {sorted(missing)[:3]}")
    await run.hold(after)


def _begun(folder: Path) -> Callable[[], Awaitable[bool]]:
    async def begun() -> bool:
        return any(folder.iterdir())

    return begun


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
