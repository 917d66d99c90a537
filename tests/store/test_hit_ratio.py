"""How many requests of a real trace the store can answer, against a plain LRU and against S3-FIFO by the book.

All values have the same size, and a cache that starts empty has room for 1 % or 10 % of the keys.
"""

from __future__ import annotations

import csv
import gzip
import os
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path

import pytest

from kvcache.store import Store
from kvcache.store.rows import cost_of
from kvcache_client.protocol.record import NEVER, make_record

FOLDER = Path(os.environ.get("KVCACHE_TRACES") or Path(__file__).parents[2].parent / "shared" / "data")
TRACE = FOLDER / "twitter-cluster52.csv.gz"
REQUESTS = 100_000
RECORD = make_record(1, NEVER, 1, bytes(1 << 20))
"""The record of every key: one object, so that a budget of gigabytes costs the test nothing."""


@pytest.fixture(scope="module")
def requests() -> list[int]:
    if not TRACE.exists():
        pytest.skip(f"no trace at {TRACE}; set KVCACHE_TRACES to the folder of traces")
    with gzip.open(TRACE, "rt", newline="") as file:
        return [int(key) for key, _ in islice(csv.reader(file), 1, REQUESTS + 1)]


def ratio_of(hits: Iterable[bool]) -> float:
    return sum(hits) / REQUESTS


def lru(requests: list[int], room: int) -> Iterable[bool]:
    held: OrderedDict[int, None] = OrderedDict()
    for key in requests:
        hit = key in held
        held[key] = None
        held.move_to_end(key)
        if len(held) > room:
            held.popitem(last=False)
        yield hit


class BookS3Fifo:
    """Yang et al. (SOSP 2023), with exact counters and keys; a ghost twice as long as the main queue, promotion on two uses."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.small: deque[int] = deque()
        self.main: deque[int] = deque()
        self.uses: dict[int, int] = {}
        self.ghost: OrderedDict[int, None] = OrderedDict()

    def read(self, key: int) -> bool:
        if key in self.uses:
            self.uses[key] = min(3, self.uses[key] + 1)
            return True
        while len(self.uses) >= self.room:
            self.evict()
        queue = self.main if key in self.ghost else self.small
        self.ghost.pop(key, None)
        self.uses[key] = 0
        queue.append(key)
        return False

    def evict(self) -> None:
        if len(self.small) * 10 >= self.room or not self.main:
            key = self.small.popleft()
            if self.uses[key] >= 2:
                self.uses[key] = 0
                self.main.append(key)
                return
            self.ghost[key] = None
            while len(self.ghost) > 2 * self.room * 9 // 10:
                self.ghost.popitem(last=False)
        else:
            key = self.main.popleft()
            if self.uses[key]:
                self.uses[key] -= 1
                self.main.append(key)
                return
        del self.uses[key]


def book(requests: list[int], room: int) -> Iterable[bool]:
    cache = BookS3Fifo(room)
    return (cache.read(key) for key in requests)


def through(store: Store, requests: list[int], room: int) -> Iterable[bool]:
    for number in requests:
        key = b"%08d" % number
        hit = store.get(number % 16, key) is not None
        if not hit:
            store.put(number % 16, key, RECORD)
            assert len(store) <= room
        yield hit


@pytest.mark.parametrize("percent", [1, 10])
def test_the_store_hits_as_often_as_the_book_says_and_not_less_than_an_lru(
    make_store: Callable[..., Store], requests: list[int], percent: int
) -> None:
    room = len(set(requests)) * percent // 100
    store = make_store(room * cost_of(bytes(8), RECORD) + (1 << 20) - 1)
    ours = ratio_of(through(store, requests, room))
    assert len(store) == room
    by_the_book, plain = ratio_of(book(requests, room)), ratio_of(lru(requests, room))
    assert ours >= plain
    assert ours >= by_the_book - 0.005
