"""Evicted or lost: what the nodes' counters can explain, and what they can't."""

from __future__ import annotations

from collections.abc import Mapping

from loadtests.users.evictions import Evictions
from loadtests.users.ledger import Reason


class _Run:
    """Looks at moments 0, 1, 2, ... and what came of them."""

    def __init__(self, *looks: Mapping[str, int]) -> None:
        self.evictions = Evictions()
        self._moment = -1.0
        for counts in looks:
            self.look(counts)

    def look(self, counts: Mapping[str, int]) -> None:
        self._moment += 1
        self.evictions.look(self._moment, counts)

    def reasons(self, keys: int, began: float, *, first: int = 0) -> list[Reason]:
        return [self.evictions.reason(f"k{number}", 1, began) for number in range(first, first + keys)]


def test_where_no_counter_rises_all_is_lost_and_what_was_evicted_before_the_run_explains_nothing() -> None:
    assert _Run({"n1": 900, "n2": 0}, {"n1": 900, "n2": 0}).reasons(1, began=0.5) == [Reason.LOST]
    assert _Run().reasons(1, began=0.5) == [Reason.LOST]


def test_a_value_may_have_been_evicted_long_before_it_is_missed_but_not_before_it_was_written() -> None:
    run = _Run({"n1": 0}, {"n1": 7}, *[{"n1": 7}] * 60)
    assert run.reasons(1, began=1.5) == [Reason.LOST]
    assert run.reasons(1, began=0.5, first=1) == [Reason.EVICTED]


def test_more_values_than_were_evicted_are_lost() -> None:
    run = _Run({"n1": 0, "n2": 5}, {"n1": 2, "n2": 5}, {"n1": 2, "n2": 6})
    assert run.reasons(1000, began=0.5).count(Reason.EVICTED) == 3
    run.look({"n1": 2, "n2": 8})
    assert run.reasons(1000, began=0.5, first=1000).count(Reason.EVICTED) == 2


def test_the_oldest_eviction_that_will_do_is_taken_so_that_it_does_not_matter_who_is_asked_first() -> None:
    run = _Run({"n1": 0}, {"n1": 1}, {"n1": 2})
    assert run.reasons(1, began=0.5) == [Reason.EVICTED]
    assert run.reasons(1, began=1.5, first=1) == [Reason.EVICTED]
    assert run.reasons(1, began=0.5, first=2) == [Reason.LOST]


def test_a_value_that_is_missed_again_needs_no_second_eviction_but_the_next_value_of_the_key_does() -> None:
    run = _Run({"n1": 0}, {"n1": 1})
    assert [run.evictions.reason("k", 1, 0.5) for _ in range(3)] == [Reason.EVICTED] * 3
    assert run.evictions.reason("k", 2, 0.6) is Reason.LOST
    run.look({"n1": 50})
    assert run.evictions.reason("k", 2, 0.6) is Reason.LOST  # nothing had evicted it when it was missed first
    assert run.evictions.reason("k", 3, 1.5) is Reason.EVICTED


def test_a_node_that_counts_from_0_again_has_evicted_what_it_counts() -> None:
    run = _Run({"n1": 0}, {"n1": 500}, {"n1": 3})
    assert run.reasons(5, began=1.5) == [Reason.EVICTED] * 3 + [Reason.UNEXPLAINED] * 2
    assert run.reasons(1, began=2.5, first=5) == [Reason.LOST]


def test_a_node_that_evicts_and_tells_nothing_for_a_while_leaves_open_what_happened_until_then() -> None:
    run = _Run({"n1": 0, "n2": 0}, {"n1": 1, "n2": 0}, {"n2": 0})
    assert run.reasons(2, began=0.5) == [Reason.EVICTED, Reason.UNEXPLAINED]
    run.look({"n1": 3, "n2": 0})
    assert run.reasons(3, began=1.5, first=2) == [Reason.EVICTED] * 2 + [Reason.UNEXPLAINED]
    assert run.reasons(1, began=2.5, first=5) == [Reason.LOST]


def test_a_killed_node_that_has_never_evicted_explains_nothing() -> None:
    run = _Run({"n1": 900, "n2": 0}, {"n1": 900})
    assert run.reasons(1, began=0.5) == [Reason.LOST]
    run.look({"n1": 900, "n2": 0})
    assert run.reasons(1, began=0.5, first=1) == [Reason.LOST]


def test_what_a_node_that_has_joined_since_has_evicted_counts() -> None:
    assert _Run({"n1": 0}, {"n1": 0, "n2": 2}).reasons(3, began=0.5).count(Reason.EVICTED) == 2
