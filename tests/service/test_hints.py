"""What a stand-in owes to owners out of reach: bounded, and nothing lost in silence."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from kvcache.service.hints import OVERHEAD_BYTES, Hints
from kvcache_client.protocol.errors import InvalidOption

NOW = 1_800_000_000_000
HOUR = 3_600_000
PLENTY = 1 << 30
ONE = OVERHEAD_BYTES + 100
"""What a pair with a key of two bytes and a record of 98 takes."""


@pytest.fixture
def hints() -> Hints:
    return Hints(1 << 20, HOUR)


def note(hints: Hints, owner: str, *keys: bytes, version: int = 1, now_ms: int = NOW) -> None:
    for key in keys:
        hints.note(owner, key[-1], key, 98, version, now_ms)


def test_what_is_noted_waits_for_its_owner(hints: Hints) -> None:
    note(hints, "n1", b"k1", b"k2")
    note(hints, "n2", b"k1")
    assert hints.owners() == {"n1": 2, "n2": 1}
    assert hints.batch("n1", PLENTY, 100) == [(ord("1"), b"k1", 1), (ord("2"), b"k2", 1)]
    assert hints.batch("n3", PLENTY, 100) == []
    assert (len(hints), hints.noted_count, hints.used_bytes) == (3, 3, 3 * ONE)


def test_a_batch_is_bounded_by_count_and_bytes_but_never_empty(hints: Hints) -> None:
    note(hints, "n1", *(b"k%d" % number for number in range(9)))
    assert len(hints.batch("n1", PLENTY, 4)) == 4
    assert len(hints.batch("n1", 200, 100)) == 2
    assert len(hints.batch("n1", 201, 100)) == 3
    assert len(hints.batch("n1", 0, 0)) == 1


def test_a_batch_stays_until_it_is_delivered(hints: Hints) -> None:
    note(hints, "n1", b"k1", b"k2")
    batch = hints.batch("n1", PLENTY, 100)
    assert hints.batch("n1", PLENTY, 100) == batch
    assert all(hints.delivered("n1", key, version) for _, key, version in batch)
    assert (len(hints), hints.delivered_count, hints.used_bytes) == (0, 2, 0)
    assert hints.owners() == {}
    assert not hints.dirty


def test_what_was_noted_anew_while_it_was_on_its_way_still_waits(hints: Hints) -> None:
    note(hints, "n1", b"k1", version=1)
    note(hints, "n1", b"k1", version=2)
    assert not hints.delivered("n1", b"k1", 1)
    assert hints.batch("n1", PLENTY, 1) == [(ord("1"), b"k1", 2)]
    assert hints.delivered("n1", b"k1", 2)
    assert not hints.delivered("n1", b"k1", 2)
    assert hints.noted_count == 1


def test_an_older_version_changes_nothing(hints: Hints) -> None:
    note(hints, "n1", b"k1", version=2)
    note(hints, "n1", b"k1", version=1, now_ms=NOW + 1)
    assert hints.batch("n1", PLENTY, 1) == [(ord("1"), b"k1", 2)]
    assert hints.used_bytes == ONE


def test_over_the_budget_the_oldest_of_all_owners_go_and_make_their_partition_dirty() -> None:
    hints = Hints(3 * ONE, HOUR)
    note(hints, "n1", b"k1", now_ms=NOW)
    note(hints, "n2", b"k2", now_ms=NOW + 1)
    note(hints, "n1", b"k3", now_ms=NOW + 2)
    note(hints, "n1", b"k4", b"k5", now_ms=NOW + 3)
    assert hints.owners() == {"n1": 3}
    assert hints.dirty == {"n1": {ord("1")}, "n2": {ord("2")}}
    assert (hints.dropped_count, hints.used_bytes) == (2, 3 * ONE)


def test_a_renewed_pair_is_as_young_as_its_newest_version() -> None:
    hints = Hints(2 * ONE, HOUR)
    note(hints, "n1", b"k1", b"k2")
    note(hints, "n1", b"k1", version=2)
    note(hints, "n1", b"k3")
    assert [key for _, key, _ in hints.batch("n1", PLENTY, 9)] == [b"k1", b"k3"]


def test_one_that_is_larger_than_the_budget_costs_no_other_its_place() -> None:
    hints = Hints(2 * ONE, HOUR)
    note(hints, "n1", b"k1", b"k2")
    hints.note("n1", 7, b"large", 2 * ONE, 1, NOW)
    assert hints.owners() == {"n1": 2}
    assert hints.dirty == {"n1": {7}}
    hints.note("n1", ord("1"), b"k1", 2 * ONE, 2, NOW)
    assert hints.owners() == {"n1": 1}
    assert hints.dirty == {"n1": {7, ord("1")}}
    assert hints.used_bytes == ONE


def test_without_a_budget_everything_is_dirty_at_once() -> None:
    hints = Hints(0, HOUR)
    note(hints, "n1", b"k1")
    assert (len(hints), hints.dirty) == (0, {"n1": {ord("1")}})


def test_what_is_too_old_is_given_up_and_counted(hints: Hints) -> None:
    note(hints, "n1", b"k1", now_ms=NOW)
    note(hints, "n2", b"k2", now_ms=NOW + 1)
    assert hints.expire(NOW + HOUR) == 0
    assert hints.expire(NOW + HOUR + 1) == 1
    assert hints.owners() == {"n2": 1}
    assert hints.dirty == {"n1": {ord("1")}}


def test_a_clock_that_runs_back_does_not_put_the_order_of_age_out(hints: Hints) -> None:
    note(hints, "n1", b"k1", now_ms=NOW)
    note(hints, "n1", b"k2", now_ms=NOW - 10_000)
    assert hints.expire(NOW + HOUR) == 0
    assert hints.expire(NOW + HOUR + 1) == 2


def test_what_the_store_has_lost_makes_its_partition_dirty(hints: Hints) -> None:
    note(hints, "n1", b"k1", version=2)
    assert not hints.lost("n1", b"k1", 1)
    assert hints.lost("n1", b"k1", 2)
    assert not hints.lost("n1", b"k1", 2)
    assert hints.dirty == {"n1": {ord("1")}}


def test_partitions_are_cleaned_and_made_dirty_anew() -> None:
    hints = Hints(0, HOUR)
    note(hints, "n1", b"k1", b"k2")
    hints.clean("n1", {ord("1"), 99})
    assert hints.dirty == {"n1": {ord("2")}}
    hints.clean("n1", [ord("2")])
    hints.clean("n2", [1])
    assert hints.dirty == {}
    note(hints, "n1", b"k2", version=2)
    assert hints.dirty == {"n1": {ord("2")}}


def test_nothing_is_kept_for_an_owner_that_is_one_no_longer() -> None:
    hints = Hints(2 * ONE, HOUR)
    note(hints, "n1", b"k1", b"k2", b"k3")
    note(hints, "n2", b"k4")
    assert hints.forget_owner("n1") == 1
    assert hints.forget_owner("n9") == 0
    assert (hints.owners(), hints.dirty, hints.used_bytes) == ({"n2": 1}, {}, ONE)
    assert len(hints) == hints.noted_count - hints.delivered_count - hints.dropped_count - hints.forgotten_count


def test_a_key_is_held_while_any_owner_waits_for_it(hints: Hints) -> None:
    note(hints, "n1", b"k1")
    note(hints, "n2", b"k1")
    hints.delivered("n1", b"k1", 1)
    assert hints.is_held(b"k1")
    hints.delivered("n2", b"k1", 1)
    assert not hints.is_held(b"k1")


def test_what_is_dirty_cannot_be_changed_from_outside(hints: Hints) -> None:
    with pytest.raises(TypeError):
        hints.dirty["n1"] = {1}  # type: ignore[index]


@pytest.mark.parametrize(("budget", "age"), [(-1, HOUR), (0, 0), (0, -5)])
def test_limits_that_make_no_sense_are_refused(budget: int, age: int) -> None:
    with pytest.raises(InvalidOption, match=str(min(budget, age))):
        Hints(budget, age)


def test_hints_show_their_state() -> None:
    hints = Hints(ONE, HOUR)
    note(hints, "n1", b"k1", b"k2")
    assert repr(hints) == f"<Hints 1 for 1 owners, {ONE}/{ONE} B, dirty=1>"


names = st.sampled_from(["n1", "n2", "n3"])
keys = st.sampled_from([b"%c" % letter * length for letter in b"abcdef" for length in (1, 30)])
versions = st.integers(1, 4)


def partition_of(key: bytes) -> int:
    return key[0] % 4


class HintMachine(RuleBasedStateMachine):
    """Every pair that was ever noted, at its newest version, is held, delivered, or its partition is dirty."""

    @initialize(budget=st.sampled_from([0, 1_500, 4_000, 1 << 20]), age=st.sampled_from([1, 100, 1_000]))
    def start(self, budget: int, age: int) -> None:
        self.hints = Hints(budget, age)
        self.now_ms = NOW
        self.owed: dict[tuple[str, bytes], tuple[int, int]] = {}
        """What each owner still lacks, by version and the time it was noted; until its partition is cleaned."""

    @rule(owner=names, key=keys, version=versions, length=st.sampled_from([15, 115, 700, 3_000]))
    def note(self, owner: str, key: bytes, version: int, length: int) -> None:
        held = self.hints._holds(owner, key, self.owed.get((owner, key), (0, 0))[0])
        self.hints.note(owner, partition_of(key), key, length, version, self.now_ms)
        if not held or version > self.owed[owner, key][0]:
            self.owed[owner, key] = version, self.now_ms

    @rule(owner=names, limit=st.sampled_from([1, 500, 1 << 20]), count=st.integers(1, 5), data=st.data())
    def deliver(self, owner: str, limit: int, count: int, data: st.DataObject) -> None:
        batch = self.hints.batch(owner, limit, count)
        assert len(batch) <= count
        assert bool(batch) is (owner in self.hints.owners())
        for partition, key, version in batch:
            assert partition == partition_of(key)
            assert version == self.owed[owner, key][0]
            if data.draw(st.booleans()):
                assert self.hints.delivered(owner, key, version)
                del self.owed[owner, key]

    @rule(owner=names, key=keys, version=versions)
    def deliver_late(self, owner: str, key: bytes, version: int) -> None:
        if self.hints.delivered(owner, key, version):
            assert self.owed.pop((owner, key))[0] == version

    @rule(owner=names, key=keys, version=versions)
    def lose(self, owner: str, key: bytes, version: int) -> None:
        self.hints.lost(owner, key, version)

    @rule(owner=names, partitions=st.sets(st.integers(0, 3)))
    def repair(self, owner: str, partitions: set[int]) -> None:
        self.hints.clean(owner, partitions)
        for name, key in list(self.owed):
            waits = self.hints._holds(name, key, self.owed[name, key][0])
            if name == owner and partition_of(key) in partitions and not waits:
                del self.owed[name, key]

    @rule(owner=names)
    def remove_a_node(self, owner: str) -> None:
        self.hints.forget_owner(owner)
        self.owed = {pair: at for pair, at in self.owed.items() if pair[0] != owner}

    @rule(ms=st.sampled_from([0, 1, 50, 1_000]))
    def expire(self, ms: int) -> None:
        self.now_ms += ms
        self.hints.expire(self.now_ms)
        for owner in self.hints.owners():
            for _, key, _ in self.hints.batch(owner, PLENTY, 100):
                assert self.now_ms - self.owed[owner, key][1] <= self.hints.max_age_ms

    @invariant()
    def nothing_is_lost_in_silence(self) -> None:
        dirty = self.hints.dirty
        for (owner, key), (version, _) in self.owed.items():
            assert self.hints._holds(owner, key, version) or partition_of(key) in dirty.get(owner, set())

    @invariant()
    def the_budget_holds_and_the_books_agree(self) -> None:
        hints = self.hints
        assert 0 <= hints.used_bytes <= hints.budget_bytes
        assert hints.used_bytes == sum(hint.cost for pairs in hints._pairs.values() for hint in pairs.values())
        assert len(hints) == hints.noted_count - hints.delivered_count - hints.dropped_count - hints.forgotten_count
        assert all(hints._pairs.values())
        assert all(hints.dirty.values())
        held = {pair for pair, (version, _) in self.owed.items() if hints._holds(*pair, version)}
        assert len(held) == len(hints)
        assert {key for _, key in held} == {key for _, key in self.owed if hints.is_held(key)}


HintMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestHintsAgainstAModel = HintMachine.TestCase
