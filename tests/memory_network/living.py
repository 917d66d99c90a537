"""Living nodes: what nodes do unasked, on virtual time as well: they load, hand over, repair, and follow the document.

Here live the real parts of a node (loader, handover, repairer, janitor) around the services of the simulated network, and in
place of a coordinator the document itself and what the controller makes of it. Never here: what goes wrong, or a judgement.

Those parts are coroutines, so here the queue of events is an asyncio loop whose clock jumps from one event to the next. A node
that is stopped (SIGSTOP) does nothing and notices when it goes on; what had reached it is waiting there.
"""

from __future__ import annotations

import asyncio
import heapq
import selectors
from collections.abc import Callable, Coroutine
from typing import Any

from kvcache.cluster.changes import marked, purge, registered
from kvcache.cluster.control import NodeControl
from kvcache.cluster.controller import Timings
from kvcache.cluster.decisions import Report, Sight, decide
from kvcache.cluster.handover import Handover
from kvcache.cluster.loader import Loader
from kvcache.cluster.reach import Reach
from kvcache.cluster.repairer import Repairer
from kvcache.janitor import Janitor
from kvcache.node import _copies_may_differ
from kvcache.service.deputy import Deputy
from kvcache.service.peers import PeerVerbs
from kvcache_client.core.config import ClientConfig
from kvcache_client.core.effects import Plan
from kvcache_client.core.retry import Backoff
from kvcache_client.placement.topology import Member, Topology
from kvcache_client.protocol.record import TOMBSTONE_MS
from kvcache_client.protocol.verbs import Role
from kvcache_client.protocol.version import MAX_CLOCK_OFFSET_MS, version_at
from memory_network.network import MemoryNetwork
from memory_network.nodes import MemoryNode
from memory_network.sessions import MemorySession
from memory_network.world import placed

__all__ = ["LivingNetwork", "LivingNode"]

_NEVER = float("inf")


class _Jumping(selectors.SelectSelector):
    """Waits for nothing: time jumps to when the loop has something to do."""

    def __init__(self, jump: Callable[[float | None], None]) -> None:
        super().__init__()
        self._jump = jump

    def select(self, timeout: float | None = None) -> list[Any]:
        self._jump(timeout)
        return []


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self, network: LivingNetwork) -> None:
        self._network = network
        super().__init__(_Jumping(network.jump))

    def time(self) -> float:
        return self._network.now


class _Housekeeping(Janitor):
    """The janitor of a node that may stand still, in a process whose memory says nothing of one node."""

    def __init__(self, node: LivingNode) -> None:
        super().__init__(node.service, 1 << 24)
        self._node = node

    def _tick(self) -> None:
        if self._node.silent or not self._node.reachable:
            self._timer = asyncio.get_running_loop().call_later(0.2, self._tick)
        else:
            super()._tick()

    def _govern(self) -> None:
        pass


class LivingNode(MemoryNode):
    """A node with all that it does by itself. ``lives`` counts its processes."""

    network: LivingNetwork

    def __init__(self, network: LivingNetwork, id: str) -> None:
        self.network = network
        self.lives = 0
        self.timings = Timings()
        self._tasks: list[asyncio.Task[None]] = []
        super().__init__(network, id)

    def _deputy(self) -> Deputy | None:
        return Reach(self.run, self._unreachable, lambda: self.network.now)

    def _start(self) -> None:
        self.lives += 1
        self.incarnation = f"{self.id}-{self.lives}" if self.lives > 1 else ""
        self.awake = asyncio.Event()
        self.awake.set()
        self.silent = False
        self._adopting = asyncio.Lock()
        self.session: MemorySession | None = None
        super()._start()
        self.control = NodeControl(self.service, self.incarnation, self.go_by, None, None)
        self.control.loader = self.loader = Loader(self.service, self.run, self._complete, self.go_by)
        self.repairer = Repairer(self.service, self.run)
        self.control.repairing = self.repairer.repair
        self.control.handover = Handover(self.service, self.run, self._unreachable)
        self.service.forward = self.control.handover.forward
        self.service.add(PeerVerbs(self.service, self.control, self.service.fences).handlers)
        self._janitor = _Housekeeping(self)

    def live(self) -> None:
        """Begin to do what a node does by itself, knowing the network's document."""
        topology = self.network.topology
        config = ClientConfig(role=Role.NODE, name=self.id, timeout=1.0, backoff=Backoff(longest=0.25))
        self.session = MemorySession(self.network, self.id, config, topology)
        self._go_by(topology)
        self.service.watch_for_pauses(int(self.timings.stumble * 1000), self._paused)
        loop = self.network.loop
        works = (self.loader.run, self.control.handover.run, self.repairer.run, self._keep_in_touch)
        self._tasks = [loop.create_task(work()) for work in works]
        loop.call_soon(self._janitor.start)

    async def _keep_in_touch(self) -> None:
        while True:
            await asyncio.sleep(0.02)
            if not self.silent and self.session is not None:
                self.session._upkeep()

    async def run(self, plan: Plan[Any]) -> Any:
        """Drive a plan through this node's own client, whenever it is not stopped."""
        await self.awake.wait()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        assert self.session is not None
        call = self.session.start(plan, lambda call: None if done.done() else done.set_result(None))
        if not call.done:
            await done
        await self.awake.wait()
        return call.result()

    def _unreachable(self) -> set[str]:
        return set(self.session.brain.down) if self.session is not None else set()

    async def go_by(self, topology: Topology) -> None:
        """Adopt a document, if it is newer, after the time that it takes to compute what follows."""
        async with self._adopting:
            await asyncio.sleep(self.network.random.uniform(0.01, 0.06))
            await self.awake.wait()
            self._go_by(topology)

    def _go_by(self, topology: Topology) -> None:
        before = self.service.ownership
        if before is not None and topology.epoch <= before.epoch:
            return
        self.adopt(topology)
        now = self.service.ownership
        assert now is not None
        assert self.session is not None
        self.session.brain.adopt(placed(topology))
        self.network.push_epoch(self, topology.epoch)
        self._janitor.follow(before, now)
        self.loader.follow(now)
        if before is not None and _copies_may_differ(before.topology, topology):
            self.repairer.suspect_all()
        mine = topology.member(self.id)
        if before is not None and mine is not None and mine.state == "down":
            self.loader.sync(f"{self.incarnation}-{topology.epoch}")
            self.network.commit(lambda known: marked(known, [self.id], "syncing"))

    def _paused(self, ms: int) -> None:
        if ms <= self.timings.pause * 1000:
            self.service.hesitating = True
            self.loader.collect()
        else:
            self.loader.sync(f"{self.incarnation}-{self.network.random.random()}")

    async def _complete(self) -> None:
        mine = self.network.topology.member(self.id)
        if mine is not None and mine.state in ("syncing", "down"):
            self.network.after(0.01, lambda: self.network.commit(lambda known: marked(known, [self.id], "up")))

    def pause(self) -> None:
        super().pause()
        self.awake.clear()

    def resume(self) -> None:
        super().resume()
        self.awake.set()

    def kill(self) -> None:
        self._end()
        super().kill()

    def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._janitor.stop()

    def restart(self) -> None:
        """Come back after ``kill``, as another process and empty."""
        before = self.network.topology.member(self.id)
        assert before is not None
        again = Member(self.id, before.address, before.zone, incarnation=self.incarnation)
        self.network.commit(lambda known: registered(known, again))
        self.heal()
        self.live()
        self.loader.sync(self.incarnation)


class LivingNetwork(MemoryNetwork):
    """A cluster whose nodes live. ``topology`` is the coordinator's document.

    ``told`` says whether nodes that go on after a stop hear of it from there.
    """

    nodes: dict[str, LivingNode]  # type: ignore[assignment]

    def __init__(self, nodes: int = 3, replication_factor: int = 2, *, seed: int = 1) -> None:
        self.now = 0.0
        self._until: Callable[[], bool] | None = None
        self._end = _NEVER
        self.told = True
        self.down_after = 5.0
        self._seen: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.loop = _VirtualLoop(self)
        super().__init__(nodes, replication_factor, seed=seed)
        for node in self.nodes.values():
            node.service.ownership = None
        for node in self.nodes.values():
            node.live()
        self.after(0.1, self._control)

    def make_node(self, id: str) -> LivingNode:
        return LivingNode(self, id)

    # Time

    def after(self, seconds: float, work: Callable[[], None]) -> None:
        super().after(seconds, work)
        self.loop.call_at(self.now + max(seconds, 0.0), self._pump)

    def _pump(self) -> None:
        while self._events and self._events[0][0] <= self.now + 1e-9:
            _, _, work = heapq.heappop(self._events)
            work()

    def jump(self, timeout: float | None) -> None:
        """Let time pass until the loop has something to do, or what is waited for is there."""
        if self._until is not None and self._until():
            self.loop.stop()
        elif timeout is None or self.now + timeout > self._end:
            self.now = self._end if self._end < _NEVER else self.now
            self.loop.stop()
        else:
            self.now += timeout

    def run(self, *, until: Callable[[], bool] | None = None, seconds: float | None = None) -> None:
        self._until, self._end = until, _NEVER if seconds is None else self.now + seconds
        self.loop.run_forever()
        self._until, self._end = None, _NEVER

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """End all that goes on."""
        for node in self.nodes.values():
            node._end()
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self.loop.close()

    # The document

    def commit(self, change: Callable[[Topology], Topology]) -> Topology:
        """Change the document; nodes hear of it one after the other, those that stand still when they go on, or never."""
        document = change(self.topology)
        if document is not self.topology:
            self.topology = document
            for node in self.nodes.values():
                self.after(self.random.uniform(0.001, 0.04), lambda node=node: self._tell(node))  # type: ignore[misc]
        return document

    def _tell(self, node: LivingNode) -> None:
        if node.silent:
            node.when_awake(lambda: self.after(self.random.uniform(0.0, 1.2), lambda: self._tell_woken(node)))
        elif node.reachable and node.session is not None:
            self.spawn(node.go_by(self.topology))

    def _tell_woken(self, node: LivingNode) -> None:
        if self.told:
            self._tell(node)

    def push_epoch(self, node: LivingNode, epoch: int) -> None:
        """Tell those that are connected to a node that there is a newer document."""
        for session in self.sessions:
            wire = session.wires.get(node.id)
            if wire is not None and wire.open:
                self.after(self.random.uniform(0.0, 0.2), lambda session=session: session.heard_of_epoch(epoch))  # type: ignore[misc]

    def _control(self) -> None:
        """Do what the controller does, who lives in this world as long as the coordinator."""
        awake = [node for node in self.nodes.values() if node.reachable and not node.silent]
        for node in awake:
            self._seen[node.id] = self.now
        missing = {member.id: self.now - self._seen.get(member.id, 0.0) for member in self.topology.members}
        reports = {node.id: Report.from_fields(node.control.report()) for node in awake}
        number = self.topology.epoch
        self.commit(
            lambda known: decide(
                known,
                Sight(missing, reports),
                now_ms=self.wall_ms(),
                new_id=f"move-{number}",
                down_after=self.down_after,
            )
        )
        self.after(self.random.uniform(0.03, 0.25), self._control)

    async def purge(self, prefix: str) -> None:
        """Forget everything under a prefix, as an operator does: returns when all who are not away go by it."""
        by = self.random.choice([node for node in self.nodes.values() if node.reachable and not node.silent])
        version = version_at(by.service.clock.now_ms() + MAX_CLOCK_OFFSET_MS // 2)
        keep_after = version_at(self.wall_ms() - TOMBSTONE_MS)
        epoch = self.commit(lambda known: purge(known, prefix, version, keep_after)).epoch
        await by.go_by(self.topology)
        deadline = self.now + 3.0
        while self.now < deadline:
            down = {member.id for member in self.topology.members if member.state == "down"}
            late = {id for id, node in self.nodes.items() if node.service.epoch < epoch or node.silent}
            if not late - down:
                return
            await asyncio.sleep(0.05)
