"""Which partitions a node has still to pull, and whose word counts."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from kvcache.service.loading import Loading
from kvcache_client.placement.partitions import PARTITIONS
from kvcache_client.protocol.errors import InvalidOption


@pytest.fixture
def loading() -> Loading:
    """Session ``s`` with partitions 5, 3 and 9."""
    loading = Loading()
    loading.begin("s", [5, 3, 9])
    return loading


def test_a_new_node_is_loading_nothing() -> None:
    loading = Loading()
    assert (loading.left, loading.total, loading.next(10)) == (0, 0, [])
    assert loading.flags == bytes(PARTITIONS)


def test_partitions_are_handed_out_once_in_the_order_given(loading: Loading) -> None:
    assert loading.next(2) == [5, 3]
    assert loading.next(2) == [9]
    assert loading.next(2) == []
    assert loading.left == loading.total == 3


def test_a_partition_is_loading_until_it_is_done(loading: Loading) -> None:
    loading.next(3)
    assert [loading.is_loading(partition) for partition in (3, 4, 5)] == [True, False, True]
    assert loading.done("s", 3)
    assert [loading.is_loading(partition) for partition in (3, 4, 5)] == [False, False, True]
    assert (loading.left, loading.total) == (2, 3)


def test_the_flags_stay_the_same_object(loading: Loading) -> None:
    flags = loading.flags
    assert [number for number, flag in enumerate(flags) if flag] == [3, 5, 9]
    loading.begin("t", [7])
    assert loading.flags is flags
    assert [number for number, flag in enumerate(flags) if flag] == [7]


def test_another_session_completes_nothing(loading: Loading) -> None:
    loading.next(1)
    assert not loading.done("r", 5)
    assert not loading.failed("r", 5)
    assert loading.is_loading(5)
    loading.begin("t", [5])
    loading.next(1)
    assert not loading.done("s", 5)
    assert loading.done("t", 5)


def test_done_counts_once_and_only_for_what_was_handed_out(loading: Loading) -> None:
    assert not loading.done("s", 5)
    loading.next(1)
    assert [loading.done("s", 5), loading.done("s", 5)] == [True, False]
    assert not loading.done("s", 4)
    assert loading.left == 2


def test_what_failed_waits_at_the_end(loading: Loading) -> None:
    loading.next(1)
    assert loading.failed("s", 5)
    assert not loading.failed("s", 5)
    assert not loading.failed("s", 3)
    assert loading.next(9) == [3, 9, 5]


def test_a_complete_partition_can_be_loading_again(loading: Loading) -> None:
    loading.next(3)
    loading.done("s", 5)
    loading.again(5)
    assert loading.is_loading(5)
    assert (loading.left, loading.total) == (3, 4)
    assert loading.next(9) == [5]
    assert loading.done("s", 5)


def test_what_was_missed_while_it_was_on_its_way_is_pulled_once_more(loading: Loading) -> None:
    loading.next(1)
    loading.again(5)
    loading.again(5)
    assert not loading.done("s", 5)
    assert loading.is_loading(5)
    assert loading.next(9) == [3, 9, 5]
    assert loading.done("s", 5)
    assert (loading.left, loading.total) == (2, 4)


def test_a_failed_pull_starts_afresh_so_nothing_is_missed(loading: Loading) -> None:
    loading.next(1)
    loading.again(5)
    loading.failed("s", 5)
    loading.next(3)
    assert loading.done("s", 5)


def test_again_changes_nothing_for_one_that_waits(loading: Loading) -> None:
    loading.again(3)
    assert loading.next(9) == [5, 3, 9]
    assert loading.left == loading.total == 3


def test_a_new_session_forgets_the_one_before(loading: Loading) -> None:
    loading.next(2)
    loading.again(5)
    loading.pulled(10, 1_000)
    loading.begin("t", [5, 5, 6])
    assert (loading.left, loading.total, loading.records, loading.bytes) == (2, 2, 0, 0)
    assert loading.next(9) == [5, 6]
    assert loading.done("t", 5)


def test_a_session_without_partitions_ends_the_loading(loading: Loading) -> None:
    loading.begin("", ())
    assert loading.left == 0
    assert not any(loading.flags)


def test_what_was_pulled_is_counted(loading: Loading) -> None:
    loading.pulled(10, 1_000)
    loading.pulled(1, 50)
    assert (loading.records, loading.bytes) == (11, 1_050)


@pytest.mark.parametrize("partition", [-1, PARTITIONS])
def test_a_partition_that_is_none_is_refused_and_nothing_begins(loading: Loading, partition: int) -> None:
    with pytest.raises(InvalidOption, match=str(partition)):
        loading.begin("t", [1, partition])
    with pytest.raises(InvalidOption, match=str(partition)):
        loading.again(partition)
    assert (loading.session, loading.left) == ("s", 3)


def test_loading_shows_its_state(loading: Loading) -> None:
    loading.next(1)
    loading.pulled(10, 1_000)
    assert repr(loading) == "<Loading 's' left=3/3 on their way=1 pulled=10 records, 1000 B>"


class LoadingMachine(RuleBasedStateMachine):
    """A partition is complete only if a whole pull of this session began after the last time that it was made dirty."""

    @initialize()
    def start(self) -> None:
        self.loading = Loading()
        self.session = ""
        self.loaded: set[int] = set(range(8))
        self.pulls: dict[int, bool] = {}
        """Partitions on their way, and whether what they bring is still good."""

    @rule(session=st.sampled_from(["", "s", "t"]), partitions=st.sets(st.integers(0, 7)))
    def begin(self, session: str, partitions: set[int]) -> None:
        self.loading.begin(session, partitions)
        self.session, self.loaded, self.pulls = session, set(range(8)) - partitions, {}

    @rule(count=st.integers(0, 4))
    def pull(self, count: int) -> None:
        handed_out = self.loading.next(count)
        assert len(handed_out) == min(count, 8 - len(self.loaded) - len(self.pulls))
        assert not self.loaded.intersection(handed_out)
        assert not set(self.pulls).intersection(handed_out)
        self.pulls.update(dict.fromkeys(handed_out, True))

    @rule(session=st.sampled_from(["", "s", "t"]), partition=st.integers(0, 7), failed=st.booleans())
    def end(self, session: str, partition: int, failed: bool) -> None:
        known = session == self.session and partition in self.pulls
        good = known and self.pulls.pop(partition)
        if failed:
            assert self.loading.failed(session, partition) is known
        else:
            assert self.loading.done(session, partition) is good
            self.loaded |= {partition} if good else set()

    @rule(partition=st.integers(0, 7))
    def again(self, partition: int) -> None:
        self.loading.again(partition)
        self.loaded.discard(partition)
        if partition in self.pulls:
            self.pulls[partition] = False

    @invariant()
    def flags_and_counts_agree(self) -> None:
        loading = self.loading
        assert {number for number in range(8) if not loading.is_loading(number)} == self.loaded
        assert loading.left == sum(loading.flags) == 8 - len(self.loaded) <= loading.total


LoadingMachine.TestCase.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
TestLoadingAgainstAModel = LoadingMachine.TestCase
