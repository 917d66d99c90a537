"""Faults: the file, and the cluster that is broken by it."""

from __future__ import annotations

import time

import pytest
from polling import wait_until

from loadtests import CannotRun
from loadtests.faults.host import ClusterHost, ClusterOrder
from loadtests.faults.plays import PLAYS, Happening
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
