"""Plays: each fault, done to a cluster and undone.

Here lives how. Never here: when (``schedule``), or the cluster's own parts (``cluster``). Every play tells the moment at which it
breaks something, and the moment at which the cluster is whole again.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from kvcache.cluster.admin import Admin
from kvcache_client import AsyncClient, ClientConfig
from kvcache_client.protocol.errors import KvCacheError
from kvcache_client.protocol.verbs import Role
from loadtests.faults.cluster import BreakableCluster
from loadtests.faults.schedule import Fault

__all__ = ["PLAYS", "Happening", "play", "play_all"]

_PATIENCE: Final = 60.0


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that happened to the cluster, at a moment of the wall clock. ``kind`` is fault, healed or problem."""

    at: float
    kind: str
    text: str

    def as_dict(self) -> dict[str, Any]:
        """Return it in a form for another process."""
        return asdict(self)


Tell = Callable[[str, str], None]
"""Takes kind and text of what has just happened."""

Hold = Callable[[float], Awaitable[None]]
"""Returns after so many seconds, or at once when the run is over: then what was broken is to be undone."""


async def play_all(
    faults: list[Fault], cluster: BreakableCluster, tell: Callable[[Happening], None], over: asyncio.Event
) -> None:
    """Play every fault at its time, counted from now; they may overlap. What fails is told, and the others go on.

    When the run is ``over``, no other fault begins, and those that have begun are undone.
    """
    began = time.monotonic()

    async def hold(seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), seconds)

    async def one(fault: Fault) -> None:
        await hold(max(fault.at - (time.monotonic() - began), 0))
        if not over.is_set():
            await play(fault, cluster, tell, hold)

    await asyncio.gather(*(one(fault) for fault in faults))


async def play(fault: Fault, cluster: BreakableCluster, tell: Callable[[Happening], None], hold: Hold) -> None:
    """Play one fault; returns when the cluster is whole again, or at once where it is for good."""

    def say(kind: str, text: str) -> None:
        tell(Happening(time.time(), kind, text))

    if fault.node and fault.node not in cluster.nodes:
        say("problem", f"{fault.text}: there is no such node; there is: {', '.join(cluster.nodes)}")
        return
    try:
        await PLAYS[fault.do](fault, cluster, say, hold)
    except (KvCacheError, OSError, LookupError, RuntimeError, TimeoutError) as error:
        say("problem", f"{fault.text}: {error}")


async def _kill(fault: Fault, cluster: BreakableCluster, say: Tell, hold: Hold) -> None:
    say("fault", fault.text)
    await cluster.kill(fault.node)
    if fault.seconds:
        await hold(fault.seconds)
        await _start(fault.node, cluster, say)


async def _restart(fault: Fault, cluster: BreakableCluster, say: Tell, hold: Hold) -> None:
    say("fault", fault.text)
    await cluster.stop(fault.node)
    await _start(fault.node, cluster, say)


async def _start(node: str, cluster: BreakableCluster, say: Tell) -> None:
    await cluster.restart(node)
    await _whole(cluster)
    say("healed", f"{node} is back")


async def _stop(fault: Fault, cluster: BreakableCluster, say: Tell, hold: Hold) -> None:
    node = cluster.nodes[fault.node]
    say("fault", fault.text)
    node.pause()
    await hold(fault.seconds)
    node.resume()
    await _whole(cluster)
    say("healed", f"{fault.node} goes on")


async def _delay(fault: Fault, cluster: BreakableCluster, say: Tell, hold: Hold) -> None:
    say("fault", f"{fault.text} {fault.by:g} s")
    cluster.proxies[fault.node].delay(fault.by)
    await _heal(fault, cluster, say, hold)


async def _cut(fault: Fault, cluster: BreakableCluster, say: Tell, hold: Hold) -> None:
    say("fault", fault.text)
    cluster.proxies[fault.node].cut()
    await _heal(fault, cluster, say, hold)


async def _heal(fault: Fault, cluster: BreakableCluster, say: Tell, hold: Hold) -> None:
    await hold(fault.seconds)
    cluster.proxies[fault.node].heal()
    await _whole(cluster)
    say("healed", f"{fault.node} in reach")


async def _add(fault: Fault, cluster: BreakableCluster, say: Tell, hold: Hold) -> None:
    say("fault", "add a node")
    node = await cluster.add()
    await _whole(cluster)
    say("healed", f"{node.id} has joined")


async def _drain(fault: Fault, cluster: BreakableCluster, say: Tell, hold: Hold) -> None:
    say("fault", fault.text)
    async with _operator(cluster) as client:
        await Admin(client, patience=10.0).drain(fault.node, wait=_PATIENCE)
    await cluster.stop(fault.node)
    say("healed", f"{fault.node} has left")


async def _redis_down(fault: Fault, cluster: BreakableCluster, say: Tell, hold: Hold) -> None:
    say("fault", "Redis down")
    await cluster.coordinator.kill()
    await hold(fault.seconds)
    await cluster.coordinator.restart_empty()
    await _whole(cluster)
    say("healed", "Redis is back")


async def _whole(cluster: BreakableCluster) -> None:
    async with _operator(cluster) as client:
        await Admin(client).wait_healthy(_PATIENCE)


def _operator(cluster: BreakableCluster) -> AsyncClient:
    return AsyncClient(cluster.seeds, config=ClientConfig(role=Role.ADMIN, timeout=2.0))


PLAYS: Final[Mapping[str, Callable[[Fault, BreakableCluster, Tell, Hold], Awaitable[None]]]] = {
    "kill": _kill,
    "stop": _stop,
    "restart": _restart,
    "delay": _delay,
    "cut": _cut,
    "add": _add,
    "drain": _drain,
    "redis-down": _redis_down,
}
"""``do`` -> how it is done; the same names as ``schedule.KINDS``."""
