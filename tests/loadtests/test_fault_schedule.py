"""Faults: the file, and the cluster that is broken by it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from polling import wait_until

from loadtests import CannotRun
from loadtests.faults import plays
from loadtests.faults.host import ClusterHost, ClusterOrder
from loadtests.faults.plays import PLAYS, Happening, play_all
from loadtests.faults.schedule import KINDS, Fault, parse_faults


def test_every_kind_of_fault_has_a_play() -> None:
    assert set(KINDS) == set(PLAYS)


def test_faults_come_in_the_order_of_their_times_and_a_share_is_of_the_run() -> None:
    text = """
    [[fault]]
    at = "50%"
    do = "kill"
    node = "n2"
    for = 5
    [[fault]]
    at = 3
    do = "delay"
    node = "n1"
    for = 2
    by = 0.05
    """
    assert parse_faults(text, 30.0) == [Fault(3, "delay", "n1", 2, 0.05), Fault(15, "kill", "n2", 5)]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("nonsense", "is not TOML"),
        ("x = 1", "must hold tables"),
        ("fault = 3", "must hold tables"),
        ('[[fault]]\nat = 1\ndo = "explode"', "there is no fault 'explode'; there is: kill, stop"),
        ("[[fault]]\nat = 1", "there is no fault None"),
        ('[[fault]]\nat = 1\ndo = "kill"', "kill needs node"),
        ('[[fault]]\nat = 1\ndo = "stop"\nnode = "n1"', "stop needs for"),
        ('[[fault]]\nat = 1\ndo = "add"\nnode = "n1"', "add takes no node"),
        ('[[fault]]\nat = -1\ndo = "add"', "at -1 is not a number of seconds"),
        ('[[fault]]\ndo = "add"', "at None is not"),
        ('[[fault]]\nat = true\ndo = "add"', "at True is not"),
        ('[[fault]]\nat = "120%"\ndo = "add"', "is not a share of the run"),
        ('[[fault]]\nat = "x%"\ndo = "add"', "is not a share of the run"),
        ('[[fault]]\nat = 31\ndo = "add"', "after the end of the run"),
        ('[[fault]]\nat = 1\ndo = "kill"\nnode = 2', "node 2 is not the id"),
        ('[[fault]]\nat = 1\ndo = "stop"\nnode = "n1"\nfor = "long"', "for 'long' is not"),
    ],
)
def test_a_flaw_in_the_file_is_named(text: str, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        parse_faults(text, 30.0)


def test_a_share_needs_to_know_how_long_the_run_is() -> None:
    with pytest.raises(ValueError, match="needs --run-time"):
        parse_faults('[[fault]]\nat = "50%"\ndo = "add"', 0.0)


def test_a_cluster_in_a_process_of_its_own_is_broken_and_healed_on_schedule() -> None:
    heard: list[Happening] = []
    faults = [
        Fault(0.0, "kill", "n2", seconds=0.2),
        Fault(0.1, "cut", "n1", seconds=0.2),
        Fault(0.2, "restart", "n9"),
    ]
    with ClusterHost(ClusterOrder(nodes=3, memory="32MiB", proxied=True), heard.append) as host:
        assert host.seeds.count(":") == 4
        began = time.time()
        host.play(faults)
        wait_until(lambda: sum(it.kind == "healed" for it in heard) == 2, seconds=30)
    kinds = {it.text: it.kind for it in heard}
    assert kinds["kill n2"] == kinds["cut n1"] == "fault"
    assert kinds["n2 is back"] == kinds["n1 in reach"] == "healed"
    assert any(it.kind == "problem" and "no such node" in it.text for it in heard)
    assert all(began <= it.at <= time.time() for it in heard)


def test_a_cluster_that_does_not_start_says_why() -> None:
    with (
        pytest.raises(CannotRun, match=r"does not start: RuntimeError: n1 ended by itself: .*memory"),
        ClusterHost(ClusterOrder(nodes=1, memory="1B"), print),
    ):
        pass


class _Nodes:
    """A cluster as far as a play asks for it: notes what is done to it, and is whole at once."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.nodes = {"n1": self}
        self.proxies = self.nodes
        self.coordinator = self

    async def kill(self, node: str = "Redis") -> None:
        self.done.append(f"kill {node}")

    async def restart(self, node: str) -> None:
        self.done.append(f"restart {node}")

    async def restart_empty(self) -> None:
        await self.restart("Redis")

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: self.done.append(name)


@pytest.mark.parametrize(
    ("do", "broken", "undone"),
    [
        ("kill", "kill n1", "restart n1"),
        ("stop", "pause", "resume"),
        ("delay", "delay", "heal"),
        ("cut", "cut", "heal"),
        ("redis-down", "kill Redis", "restart Redis"),
    ],
)
async def test_when_the_run_is_over_what_was_broken_is_undone_and_nothing_else_is_broken(
    monkeypatch: pytest.MonkeyPatch, do: str, broken: str, undone: str
) -> None:
    async def whole(cluster: object) -> None:
        return None

    monkeypatch.setattr(plays, "_whole", whole)
    cluster: Any = _Nodes()
    told: list[Happening] = []
    over = asyncio.Event()
    faults = [Fault(0.0, do, "n1", seconds=3600.0, by=1.0), Fault(1800.0, "kill", "n1", seconds=0.0, by=0.0)]
    playing = asyncio.create_task(play_all(faults, cluster, told.append, over))
    while cluster.done != [broken]:
        await asyncio.sleep(0)
    over.set()
    await asyncio.wait_for(playing, 10)
    assert cluster.done == [broken, undone]
    assert [it.kind for it in told] == ["fault", "healed"]
