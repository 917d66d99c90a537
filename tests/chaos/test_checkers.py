"""The checkers one by one, over small histories made by hand: what each must find, and what it must let pass."""

from __future__ import annotations

from typing import Any

import pytest

from chaos.checkers import CHECKERS, FinalState, check
from chaos.history import FOREVER, History, Operation, Outcome, Verb, unique_value
from kvcache_client.protocol.codec import encode_value
from kvcache_client.protocol.record import NEVER, make_record, tombstone

K = "k"


class Story:
    """Builds a history; times are seconds, each operation lasts from ``at`` to ``at + lasts``."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []

    def add(
        self, verb: Verb, at: float, *, lasts: float = 0.5, outcome: Outcome = Outcome.OK, **more: Any
    ) -> Operation:
        fields = {"id": len(self.operations), "client": "c", "key": K, "value": None, "due": at, "version": None}
        ended = FOREVER if outcome is Outcome.PENDING else at + lasts
        operation = Operation(**{**fields, **more}, verb=verb, invoked=at, returned=ended, outcome=outcome)
        self.operations.append(operation)
        return operation

    def set(self, at: float, version: int | None, **more: Any) -> Operation:
        return self.add(Verb.SET, at, value=value(len(self.operations)), version=version, **more)

    def delete(self, at: float, version: int | None, **more: Any) -> Operation:
        return self.add(Verb.DELETE, at, version=version, **more)

    def hit(self, at: float, write: Operation, version: int | None = None, **more: Any) -> Operation:
        seen = {"value": write.value, "version": version or write.version} | more
        return self.add(Verb.GET, at, outcome=Outcome.HIT, **seen)

    def miss(self, at: float, **more: Any) -> Operation:
        return self.add(Verb.GET, at, outcome=Outcome.MISS, **more)

    def incr(self, at: float, outcome: Outcome = Outcome.OK) -> Operation:
        return self.add(Verb.INCR, at, value=1, outcome=outcome)

    def found(self, final: FinalState | None = None) -> list[str]:
        return [it.checker for it in check(History(self.operations), final or FinalState())]


@pytest.fixture
def story() -> Story:
    return Story()


def value(sequence: int, key: str = K) -> str:
    return unique_value(key, "c", sequence)


def record_of(write: Operation, version: int | None = None) -> bytes:
    flags, payload = encode_value(write.value)
    return make_record(version or write.version or 0, NEVER, flags, payload)


def number_record(number: int) -> bytes:
    flags, payload = encode_value(number)
    return make_record(9, NEVER, flags, payload)


def holding(*records: bytes | None, owners: int | None = None) -> FinalState:
    """Nodes n0, n1, ... that hold these records of the key; the first ``owners`` own it, by default all."""
    held = {f"n{number}": {K: record} for number, record in enumerate(records)}
    return FinalState(held, {K: tuple(held)[: len(records) if owners is None else owners]}, 1000.0)


def test_a_clean_history_is_acquitted_by_all(story: Story) -> None:
    story.miss(0)
    first = story.set(1, 10)
    story.hit(2, first)
    story.delete(3, 20)
    story.miss(4)
    second = story.set(5, 30)
    story.hit(6, second)
    assert story.found(holding(record_of(second), record_of(second), tombstone(20, NEVER), owners=2)) == []


def test_operations_that_ran_side_by_side_may_be_seen_in_any_order(story: Story) -> None:
    first = story.set(0, 10, lasts=5)
    second = story.set(1, 20, lasts=5)
    story.miss(2)
    story.hit(3, first)
    story.hit(4, second)
    story.hit(5, first)
    assert story.found() == []


# Lost


def test_an_acknowledged_write_that_no_replica_holds_is_lost(story: Story) -> None:
    old, new = story.set(0, 10), story.set(1, 20)
    assert "lost" in story.found(holding(record_of(old), None))
    assert "lost" in story.found(holding(None, None))
    assert story.found(holding(record_of(new), record_of(new))) == []


def test_a_write_is_not_lost_while_any_node_holds_it(story: Story) -> None:
    write = story.set(0, 10)
    assert "lost" not in story.found(holding(None, record_of(write), owners=1))


@pytest.mark.parametrize("outcome", [Outcome.OK, Outcome.IN_DOUBT, Outcome.PENDING])
def test_a_delete_that_may_have_come_later_explains_that_a_write_is_gone(story: Story, outcome: Outcome) -> None:
    story.set(0, 10)
    story.delete(1, 20 if outcome is Outcome.OK else None, outcome=outcome)
    assert story.found(holding(None, None)) == []


def test_an_earlier_or_refused_delete_explains_nothing(story: Story) -> None:
    story.delete(0, 5)
    story.delete(0, None, outcome=Outcome.IN_DOUBT)
    story.set(1, 10)
    story.delete(2, None, outcome=Outcome.FAILED)
    assert story.found(holding(None, None)) == ["lost"]


def test_a_write_in_doubt_may_be_there_or_not(story: Story) -> None:
    write = story.set(0, None, outcome=Outcome.IN_DOUBT)
    assert story.found(holding(None, None)) == []
    assert story.found(holding(record_of(write, 10), record_of(write, 10))) == []


def test_a_value_whose_time_is_over_is_not_lost(story: Story) -> None:
    story.set(0, 10, ttl=5.0)
    story.miss(6)
    assert story.found(holding(None, None)) == []
    story.miss(3)
    assert story.found(holding(None, None)) == ["false_miss"]


def test_a_write_below_one_that_was_acknowledged_before_it_began_can_never_be_seen(story: Story) -> None:
    new = story.set(0, 20)
    story.set(1, 10)
    assert story.found(holding(record_of(new), record_of(new))) == ["lost"]


# Resurrected


def test_a_value_that_is_read_after_its_delete_is_resurrected(story: Story) -> None:
    write = story.set(0, 10)
    story.delete(1, 20)
    story.hit(2, write)
    assert story.found() == ["resurrected"]


def test_a_value_that_an_owner_holds_after_its_delete_is_resurrected(story: Story) -> None:
    write = story.set(0, 10)
    story.delete(1, 20)
    assert "resurrected" in story.found(holding(record_of(write), tombstone(20, NEVER)))
    assert story.found(holding(tombstone(20, NEVER), tombstone(20, NEVER), record_of(write), owners=2)) == []


@pytest.mark.parametrize(("prefix", "found"), [("", ["resurrected"]), ("k", ["resurrected"]), ("other", [])])
def test_a_value_that_is_read_after_a_flush_of_its_prefix_is_resurrected(
    story: Story, prefix: str, found: list[str]
) -> None:
    write = story.set(0, 10)
    story.add(Verb.FLUSH, 1, key=prefix)
    story.hit(2, write)
    assert story.found() == found


def test_what_is_written_while_a_flush_runs_may_stay_or_go(story: Story) -> None:
    story.add(Verb.FLUSH, 0, key="", lasts=5)
    write = story.set(1, 10)
    story.hit(6, write)
    story.miss(7)
    assert story.found(holding(record_of(write))) == []


def test_what_is_written_after_a_flush_must_stay(story: Story) -> None:
    story.add(Verb.FLUSH, 0, key="")
    story.set(1, 10)
    story.miss(2)
    assert sorted(story.found(holding(None))) == ["false_miss", "lost"]


# Stale, false misses


def test_a_read_of_an_older_value_than_was_acknowledged_is_stale(story: Story) -> None:
    old = story.set(0, 10)
    story.set(1, 20)
    story.hit(2, old)
    assert story.found() == ["stale"]


def test_a_read_that_began_before_the_acknowledgement_is_not_stale(story: Story) -> None:
    old = story.set(0, 10)
    story.set(1, 20)
    story.hit(1.2, old)
    assert story.found() == []


def test_a_miss_after_an_acknowledged_write_is_false(story: Story) -> None:
    story.set(0, 10)
    story.miss(1)
    assert story.found() == ["false_miss"]


def test_a_miss_is_explained_by_a_delete_that_ran_beside_it_and_not_by_one_that_came_later(story: Story) -> None:
    story.set(0, 10)
    story.miss(1, lasts=2)
    story.delete(2, 20)
    assert story.found() == []
    story.miss(1, lasts=0.5)
    assert story.found() == ["false_miss"]


# Phantoms


def test_values_of_other_keys_damaged_values_and_values_that_nobody_wrote_are_phantoms(story: Story) -> None:
    write = story.set(0, 10)
    for wrong in (value(1, "other"), value(77), write.value[:-1] + "x", "nonsense", None, 7):
        story.hit(1, write, value=wrong)
    assert story.found() == ["phantom"] * 6


def test_a_value_of_a_write_that_was_said_not_to_be_applied_is_a_phantom(story: Story) -> None:
    refused = story.set(0, None, outcome=Outcome.FAILED)
    story.hit(1, refused, version=10)
    assert story.found() == ["phantom"]
    assert story.found(holding(record_of(refused, 10))) == ["phantom", "phantom"]


def test_a_value_that_is_read_before_it_was_written_is_a_phantom(story: Story) -> None:
    write = story.set(5, 10)
    story.hit(1, write)
    assert story.found() == ["phantom"]


# Replicas, counters, fences


def test_owners_that_hold_different_versions_have_diverged(story: Story) -> None:
    old, new = story.set(0, 10), story.set(1, 20)
    assert story.found(holding(record_of(new), record_of(old))) == ["diverged"]
    assert story.found(holding(record_of(new), None)) == ["diverged"]
    assert story.found(holding(record_of(new), record_of(new), record_of(old), owners=2)) == []


def test_a_tombstone_and_nothing_are_the_same_answer(story: Story) -> None:
    story.set(0, 10)
    story.delete(1, 20)
    assert story.found(holding(tombstone(20, NEVER), None)) == []


@pytest.mark.parametrize(("held", "found"), [(1, True), (2, False), (3, False), (4, True)])
def test_a_counter_holds_what_was_acknowledged_and_at_most_what_is_in_doubt(
    story: Story, held: int, found: bool
) -> None:
    for outcome in (Outcome.OK, Outcome.OK, Outcome.IN_DOUBT, Outcome.FAILED):
        story.incr(0, outcome)
    assert story.found(holding(number_record(held))) == (["counter_bounds"] if found else [])


def test_a_counter_that_is_gone_is_out_of_bounds(story: Story) -> None:
    story.incr(0)
    assert story.found(holding(None)) == ["counter_bounds"]


def test_a_write_under_a_fence_that_another_holder_has_passed_is_an_effect(story: Story) -> None:
    newer = story.set(0, 10, fence=2)
    older = story.set(1, 20, fence=1)
    assert story.found(holding(record_of(older))) == ["fence_effects", "fence_effects"]
    assert newer.fence == 2


def test_a_stale_holder_that_was_refused_or_was_there_first_is_no_effect(story: Story) -> None:
    story.set(0, 10, fence=1)
    newer = story.set(1, 20, fence=2)
    story.set(2, None, fence=1, outcome=Outcome.FAILED)
    assert story.found(holding(record_of(newer))) == []


def test_a_violation_names_the_key_and_the_operations(story: Story) -> None:
    story.set(0, 10)
    story.miss(1)
    (violation,) = check(History(story.operations), FinalState(), "false_miss")
    assert violation.key == K
    assert violation.operations == tuple(story.operations)
    assert all(str(operation) in str(violation) for operation in story.operations)


def test_only_the_checkers_that_are_named_are_asked(story: Story) -> None:
    story.set(0, 10)
    story.miss(1)
    history = History(story.operations)
    assert check(history, holding(None), "stale") == []
    assert {it.checker for it in check(history, holding(None))} == {"lost", "false_miss"}
    assert set(CHECKERS) >= {"lost", "stale"}
