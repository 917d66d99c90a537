"""Running many plans as one: what they ask for joins into one round, and each gets its own back."""

from __future__ import annotations

from typing import Any

import pytest

from kvcache_client.core.effects import REFRESH, Pause, Plan, Within
from kvcache_client.core.together import together
from kvcache_client.protocol.errors import InDoubt, NotApplied

PING = [0, 1]


def asking(*names: str) -> Plan[list[Any]]:
    got = []
    for name in names:
        got.append((yield name, [0, 4, name]))  # noqa: PERF401  # a comprehension cannot yield
    return got


def drive(plan: Plan[Any], answer: Any = None) -> tuple[Any, list[Any]]:
    """Answer each request with (node, key); returns the result and the effects."""
    effects = []
    try:
        effect = plan.send(None)
        while True:
            effects.append(effect)
            asks = effect.round if isinstance(effect, Within) else effect
            outcome = None if isinstance(effect, Pause) or effect == REFRESH else [(node, r[2:]) for node, r in asks]
            effect = plan.send(outcome)
    except StopIteration as done:
        return done.value, effects


def test_plans_share_each_round_and_get_their_own_outcomes() -> None:
    result, effects = drive(together([asking("a", "b"), asking("c"), asking("d", "e", "f")]))
    assert [[node for node, _ in effect] for effect in effects] == [["a", "c", "d"], ["b", "e"], ["f"]]
    assert [[node for node, _ in got] for got in result] == [["a", "b"], ["c"], ["d", "e", "f"]]


def test_a_plan_that_asks_for_a_round_gets_a_list() -> None:
    def plan() -> Plan[Any]:
        return (yield [("a", PING), ("b", PING)])

    result, effects = drive(together([plan(), asking("c")]))
    assert len(effects) == 1
    assert [node for node, _ in result[0]] == ["a", "b"]
    assert result[1][0][0] == "c"


def test_the_joint_round_gets_the_least_time_that_any_plan_allows() -> None:
    def within(seconds: float) -> Plan[Any]:
        return (yield Within([("a", PING)], seconds))

    _, effects = drive(together([within(0.5), within(0.2), asking("b")]))
    assert len(effects) == 1
    assert effects[0].seconds == 0.2
    assert len(effects[0].round) == 3


def test_one_refresh_and_the_longest_pause_serve_all() -> None:
    def waiting(seconds: float) -> Plan[str]:
        yield REFRESH
        yield Pause(seconds)
        return "done"

    result, effects = drive(together([waiting(0.1), waiting(0.3)]))
    assert result == ["done", "done"]
    assert effects == [REFRESH, Pause(0.3)]


def test_who_asks_does_not_wait_for_who_looks_at_the_topology() -> None:
    def looking() -> Plan[str]:
        yield REFRESH
        yield "c", PING
        yield REFRESH
        return "done"

    result, effects = drive(together([looking(), asking("a", "b")]))
    assert result[0] == "done"
    assert [len(effect) if isinstance(effect, list) else effect for effect in effects] == [1, 2, REFRESH]


def test_an_error_of_one_plan_is_its_result_and_the_others_go_on() -> None:
    def failing() -> Plan[Any]:
        yield "a", PING
        raise InDoubt("lost")

    def refusing() -> Plan[Any]:
        raise NotApplied("no")
        yield

    result, _ = drive(together([failing(), asking("b", "c"), refusing()]))
    assert isinstance(result[0], InDoubt)
    assert len(result[1]) == 2
    assert isinstance(result[2], NotApplied)


def test_a_bug_in_a_plan_is_not_swallowed() -> None:
    def broken() -> Plan[Any]:
        raise ZeroDivisionError
        yield

    with pytest.raises(ZeroDivisionError):
        drive(together([asking("a"), broken()]))


def test_nothing_to_do_asks_for_nothing() -> None:
    def at_once() -> Plan[int]:
        return 7
        yield

    assert drive(together([])) == ([], [])
    assert drive(together([at_once(), at_once()])) == ([7, 7], [])
