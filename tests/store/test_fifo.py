from __future__ import annotations

from collections import Counter, deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvcache.store.fifo import Fifo
from kvcache.store.sizes import Ledger

PARTITIONS = 8


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
def queue(ledger: Ledger) -> Fifo:
    return Fifo(PARTITIONS, ledger)


def drain(queue: Fifo) -> list[int]:
    return [queue.pop() for _ in range(queue.records)]


def test_partitions_come_out_in_the_order_they_went_in(queue: Fifo) -> None:
    arrived = [number * 5 % PARTITIONS for number in range(20_000)]
    for partition in arrived:
        queue.push(partition)
    assert drain(queue) == arrived


def test_an_empty_queue_says_so(queue: Fifo) -> None:
    with pytest.raises(IndexError, match="empty"):
        queue.pop()
    queue.push(1)
    queue.spare(1)
    with pytest.raises(IndexError, match="empty"):
        queue.pop()


def test_a_queue_that_ran_empty_goes_on(queue: Fifo) -> None:
    for _ in range(3):
        for partition in range(PARTITIONS):
            queue.push(partition)
        assert drain(queue) == list(range(PARTITIONS))


def test_a_record_that_left_early_is_skipped_in_its_own_partition_only(queue: Fifo) -> None:
    for partition in (1, 2, 1, 3):
        queue.push(partition)
    queue.spare(1)
    assert queue.records == 3
    assert drain(queue) == [2, 1, 3]


def test_a_partition_that_is_thrown_away_whole_leaves_nothing_to_pop(queue: Fifo) -> None:
    for _ in range(1000):
        queue.push(4)
    queue.push(5)
    queue.spare(4, 1000)
    assert drain(queue) == [5]


def test_chunks_are_paid_for_while_they_are_there(queue: Fifo, ledger: Ledger) -> None:
    empty = ledger.used
    assert empty == queue.cost()
    for _ in range(50_000):
        queue.push(0)
    assert ledger.used == queue.cost() > empty + 2 * 50_000
    drain(queue)
    assert ledger.used == queue.cost() < empty + 10_000


def test_records_that_leave_early_do_not_leave_the_queue_long(queue: Fifo, ledger: Ledger) -> None:
    for number in range(500_000):  # every record is deleted before it comes up, and nothing is ever popped
        queue.push(number % PARTITIONS)
        if number >= 100:
            queue.spare((number - 100) % PARTITIONS)
    assert queue.records == 100
    assert ledger.used == queue.cost() < 100_000  # half a million entries would take a million bytes
    assert len(drain(queue)) == 100


steps = st.lists(
    st.tuples(st.sampled_from(["push", "pop", "spare"]), st.integers(0, 3), st.integers(1, 1500)), max_size=25
)


@settings(max_examples=40, deadline=None)
@given(steps)
def test_whatever_is_done_each_partition_keeps_its_count_and_its_bytes(steps: list[tuple[str, int, int]]) -> None:
    ledger = Ledger()
    queue = Fifo(PARTITIONS, ledger)
    counts: Counter[int] = Counter()
    for step, partition, count in steps:
        if step == "push":
            for number in range(count):
                queue.push((partition + number) % 4)
                counts[(partition + number) % 4] += 1
        elif step == "spare":
            count = min(count, counts[partition])
            queue.spare(partition, count)
            counts[partition] -= count
        else:
            for _ in range(min(count, queue.records)):
                counts[queue.pop()] -= 1
        assert queue.records == counts.total()
        assert +queue.recount() == +counts
        assert min(queue.recount().values(), default=0) >= 0
        assert ledger.used == queue.cost()


def test_order_survives_while_only_the_oldest_leave_early(queue: Fifo) -> None:
    expected = deque()
    for number in range(30_000):
        queue.push(number % 3)
        expected.append(number % 3)
        if number % 2:
            queue.spare(expected.popleft())  # the oldest of all is also the oldest of its partition
    assert drain(queue) == list(expected)


def test_the_queue_shows_its_state(queue: Fifo) -> None:
    queue.push(1)
    queue.push(1)
    queue.spare(1)
    assert repr(queue) == "<Fifo records=1 spares=1 chunks=1>"
