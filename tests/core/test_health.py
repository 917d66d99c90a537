"""Whom a client avoids, and the arithmetic of when it tries again."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvcache_client.core.health import Health
from kvcache_client.core.retry import Backoff
from kvcache_client.protocol.errors import ConnectFailed, NoAnswer

GONE = ConnectFailed("gone")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(clock: Clock) -> Health:
    return Health(clock, lambda: 1.0, Backoff(first=1.0, longest=8.0))


def test_nobody_is_avoided_in_the_beginning(health: Health) -> None:
    assert health.down == {}
    assert health.due() == []


def test_a_failed_node_is_avoided_until_it_has_answered(health: Health, clock: Clock) -> None:
    assert health.failed("a", GONE) == 1.0
    assert set(health.down) == {"a"}
    assert (health.down["a"].reason, health.down["a"].since, health.down["a"].failures) == (GONE, 100.0, 1)
    clock.now += 50
    assert set(health.down) == {"a"}
    health.answered("a")
    assert health.down == {}
    health.answered("a")  # news of a node that is well is no error


def test_the_wait_doubles_up_to_its_longest_and_starts_over_after_an_answer(health: Health) -> None:
    assert [health.failed("a", GONE) for _ in range(6)] == [1.0, 2.0, 4.0, 8.0, 8.0, 8.0]
    health.answered("a")
    assert health.failed("a", GONE) == 1.0


def test_the_newest_reason_counts_and_the_first_time_stays(health: Health, clock: Clock) -> None:
    health.failed("a", GONE)
    clock.now += 3
    silent = NoAnswer("silent")
    health.failed("a", silent)
    assert (health.down["a"].reason, health.down["a"].since) == (silent, 100.0)
    assert "a: silent" in repr(health)


def test_a_node_is_due_once_per_wait(health: Health, clock: Clock) -> None:
    health.failed("a", GONE)
    clock.now += 0.99
    assert health.due() == []
    clock.now += 0.01
    assert health.due() == ["a"]
    assert health.due() == []  # somebody is trying it
    clock.now += 1.0
    assert health.due() == ["a"]
    assert set(health.down) == {"a"}


def test_waits_of_nodes_are_their_own(health: Health, clock: Clock) -> None:
    for _ in range(3):
        health.failed("slow", GONE)
    health.failed("quick", GONE)
    clock.now += 1.0
    assert health.due() == ["quick"]
    clock.now += 3.0
    assert sorted(health.due()) == ["quick", "slow"]


def test_who_left_the_cluster_is_forgotten(health: Health) -> None:
    health.failed("a", GONE)
    health.failed("b", GONE)
    health.forget({"b", "c"})
    assert set(health.down) == {"b"}


@settings(max_examples=60)
@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_a_wait_is_never_longer_than_the_longest_nor_a_busy_loop(failures: int, draw: float) -> None:
    backoff = Backoff(first=0.05, longest=2.0)
    delay = backoff.delay(failures, lambda: draw)
    ceiling = min(2.0, 0.05 * 2 ** min(failures - 1, 30))
    assert ceiling / 10 <= delay <= ceiling


def test_waits_are_spread_over_the_interval() -> None:
    dice = random.Random(1)
    delays = [Backoff().delay(10, dice.random) for _ in range(1000)]
    assert min(delays) < 0.3
    assert max(delays) > 1.9
    assert 1.0 < sum(delays) / 1000 < 1.2


def test_threads_may_report_while_others_look(clock: Clock) -> None:
    """A blocking client is shared by threads, and has no lock on its way."""
    health = Health(clock, lambda: 0.5, Backoff(first=0.0, longest=0.0))
    stop = threading.Event()
    wrong: list[BaseException] = []

    def repeat(work: Callable[[], object]) -> None:
        try:
            while not stop.is_set():
                work()
        except BaseException as error:
            wrong.append(error)

    nodes = [f"n{number}" for number in range(50)]
    works = (
        lambda: [health.failed(node, GONE) for node in nodes],
        lambda: [health.answered(node) for node in nodes],
        lambda: health.forget({"n1"}),
        health.due,
        lambda: repr(health),
    )
    threads = [threading.Thread(target=repeat, args=(work,)) for work in works]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        threads[0].join(0.5)
    finally:
        stop.set()
        sys.setswitchinterval(interval)
        for thread in threads:
            thread.join()
    assert not wrong
