"""Stores for the tests of the store; every one of them is recounted after its test."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from kvcache.store import Store, StoreConfig

START_MS = 1_800_000_000_000


@pytest.fixture
def make_store() -> Iterator[Callable[..., Store]]:
    """Make small stores; partitions are few, so that the room is for records."""
    made: list[Store] = []

    def make(
        budget_bytes: int = 1 << 20, *, now_ms: int = START_MS, partitions: int = 16, tombstones: int | None = None
    ) -> Store:
        made.append(Store(StoreConfig(budget_bytes, tombstones, partitions), now_ms))
        return made[-1]

    yield make
    for store in made:
        store.check()


@pytest.fixture
def store(make_store: Callable[..., Store]) -> Store:
    """One MiB, 16 partitions."""
    return make_store()
