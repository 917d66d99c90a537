"""Asking for a lock: any node will do, and a lost answer is asked for again under the same token."""

from __future__ import annotations

from typing import Any

import pytest
from memory_network import cluster_of, placed

from kvcache_client.core import locking
from kvcache_client.core.brain import Brain, Surroundings
from kvcache_client.core.config import ClientConfig
from kvcache_client.core.effects import Plan, Within
from kvcache_client.protocol.errors import (
    AdminBusy,
    ConnectFailed,
    ConnectionLost,
    ControlPlaneUnavailable,
    InvalidOption,
    NoAnswer,
    Unavailable,
)
from kvcache_client.protocol.verbs import Status, Verb

OK = (1, int(Status.OK))


@pytest.fixture
def brain() -> Brain:
    made = Brain(ClientConfig(), Surroundings(lambda: 1.0, lambda: 1_790_000_000_000, lambda: 0.5))
    made.adopt(placed(cluster_of(3, 2)))
    return made


def drive(plan: Plan[Any], *outcomes: Any) -> tuple[Any, list[tuple[str, list[Any]]]]:
    """Answer what a plan asks, one outcome after the other; return its result and what it asked."""
    asked = []
    effect = plan.send(None)
    for outcome in outcomes:
        assert isinstance(effect, Within)
        asked += effect.round
        try:
            effect = plan.send([outcome])
        except StopIteration as done:
            return done.value, asked
    pytest.fail("the plan asks for more")


def test_the_first_node_that_answers_settles_it(brain: Brain) -> None:
    fence, asked = drive(locking.acquire(brain, "user:x", "token", 1000, "ann: tests"), (*OK, 7))
    assert fence == 7
    assert [request[1:] for _, request in asked] == [[Verb.LOCK, "user:x", "token", 1000, "ann: tests"]]


@pytest.mark.parametrize(
    "failure", [ConnectFailed("refused"), ConnectionLost("broke"), NoAnswer("silent"), (1, 51, "not ready")]
)
def test_another_node_is_asked_with_the_same_token(brain: Brain, failure: Any) -> None:
    fence, asked = drive(locking.acquire(brain, "job", "token", 1000, ""), failure, failure, (*OK, 8))
    assert fence == 8
    assert len({node for node, _ in asked}) == 3
    assert {request[3] for _, request in asked} == {"token"}


def test_what_every_node_would_say_is_raised_at_once(brain: Brain) -> None:
    with pytest.raises(AdminBusy, match="held by bob"):
        drive(locking.acquire(brain, "job", "token", 1000, ""), (1, AdminBusy.code, "held by bob"))


def test_a_node_that_is_cut_off_from_the_coordinator_is_not_the_last_word(brain: Brain) -> None:
    away = (1, ControlPlaneUnavailable.code, "refused")
    fence, _ = drive(locking.acquire(brain, "job", "token", 1000, ""), away, (*OK, 7))
    assert fence == 7
    with pytest.raises(ControlPlaneUnavailable, match="refused"):
        drive(locking.acquire(brain, "job", "token", 1000, ""), away, NoAnswer("silent"), away)


def test_when_the_coordinator_is_silent_nobody_waits_for_it_at_the_next_node(brain: Brain) -> None:
    plan = locking.acquire(brain, "job", "token", 1000, "")
    next(plan)
    brain.clock = lambda: 1.6
    with pytest.raises(ControlPlaneUnavailable):
        plan.send([(1, ControlPlaneUnavailable.code, "silent")])


def test_when_no_node_answers_each_is_named(brain: Brain) -> None:
    failures = [ConnectFailed(f"refused {number}") for number in range(3)]
    with pytest.raises(Unavailable, match=r"refused 0.*refused 1.*refused 2"):
        drive(locking.release(brain, "job", "token"), *failures)


@pytest.mark.parametrize(("status", "held"), [(Status.OK, True), (Status.MISS, False)])
@pytest.mark.parametrize(
    "plan", [lambda b: locking.renew(b, "job", "t", 1000), lambda b: locking.release(b, "job", "t")]
)
def test_renewing_and_giving_back_tell_whether_it_was_held(brain: Brain, plan: Any, status: Status, held: bool) -> None:
    assert drive(plan(brain), (1, int(status)))[0] is held


def test_a_node_that_is_avoided_is_asked_last(brain: Brain) -> None:
    brain.health.failed("n1", ConnectFailed("down"))
    failures = [ConnectFailed("refused")] * 2
    _, asked = drive(locking.held_locks(brain), *failures, (*OK, b"[]"))
    assert asked[-1][0] == "n1"


@pytest.mark.parametrize("name", ["", "x" * 181, "tab\t", None, 5, b"x"])
def test_a_name_is_short_printable_text(name: Any) -> None:
    with pytest.raises(InvalidOption, match="printable"):
        locking.check_name(name)
    assert locking.check_name("ночь 1") == "ночь 1"
