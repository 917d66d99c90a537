"""Both clients, each on a single node and on three."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from client_faces import CLIENTS, Face

TIMEOUT = 5.0
"""Seconds: a loaded machine must not turn a contract into a race."""


@pytest.fixture(params=["one_node", "three_nodes"])
def cluster(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


@pytest.fixture(params=list(CLIENTS))
def make(request: pytest.FixtureRequest) -> type[Any]:
    return CLIENTS[request.param]


@pytest.fixture
async def open_client(make: type[Any]) -> AsyncIterator[Callable[..., Face]]:
    """Make clients of the kind under test; they are closed at the end."""
    faces: list[Face] = []

    def create(*arguments: Any, **options: Any) -> Face:
        faces.append(Face(make(*arguments, **{"timeout": TIMEOUT, "connect_timeout": TIMEOUT} | options)))
        return faces[-1]

    yield create
    for face in faces:
        await face.close()


@pytest.fixture
def cache(open_client: Callable[..., Face], cluster: Any, request: pytest.FixtureRequest) -> Face:
    """A client in a key space of the test's own."""
    return open_client(cluster.seeds).namespace(f"{request.node.name}:")
