"""Simulated networks for the tests of the brain; their stores are recounted after every test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from memory_network import MemoryNetwork


@pytest.fixture
def make_network() -> Iterator[Callable[..., MemoryNetwork]]:
    made: list[MemoryNetwork] = []

    def make(*shape: int, **options: Any) -> MemoryNetwork:
        made.append(MemoryNetwork(*shape, **options))
        return made[-1]

    yield make
    for network in made:
        network.check()


@pytest.fixture
def network(make_network: Callable[..., MemoryNetwork]) -> MemoryNetwork:
    """Four nodes, two copies: every partition has two owners and two stand-ins."""
    return make_network(4, 2)
