"""Operations by name: arguments that come from outside are checked before anything is done."""

from __future__ import annotations

from typing import Any

import pytest

from kvcache.cluster.operator import Operator
from kvcache_client.protocol.errors import InvalidOption


class FakeAdmin:
    """Whatever is called returns its name and arguments."""

    def __getattr__(self, name: str) -> Any:
        async def operation(**arguments: Any) -> Any:
            return name, arguments

        return operation


@pytest.fixture
def operator() -> Operator:
    return Operator(FakeAdmin())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "arguments", "called"),
    [
        ("flush", {"confirm": True}, ("flush", {})),
        ("purge", {"prefix": "a"}, ("purge", {"prefix": "a"})),
        ("drain", {"id": "n1"}, ("drain", {"id": "n1"})),
        ("remove", {"id": "n1"}, ("remove", {"id": "n1", "force": False})),
        ("remove", {"id": "n1", "force": True}, ("remove", {"id": "n1", "force": True})),
        ("reweight", {"id": "n1", "weight": 2}, ("reweight", {"id": "n1", "weight": 2})),
        ("replicas", {"count": 3}, ("replicas", {"count": 3})),
        ("throttle", {"rate": 0}, ("throttle", {"rate": 0})),
        ("cancel", {}, ("cancel", {})),
        ("repair", {}, ("repair", {"partitions": None})),
        ("repair", {"partitions": [1]}, ("repair", {"partitions": [1]})),
        ("dry-run", {}, ("dry_run", {})),
    ],
)
async def test_an_operation_gets_its_arguments(operator: Operator, name: str, arguments: Any, called: Any) -> None:
    assert await operator.changing[name](arguments) == called


@pytest.mark.parametrize(
    ("name", "arguments", "named"),
    [
        ("flush", {}, "confirm"),
        ("flush", {"confirm": False}, "confirm must be true"),
        ("flush", {"confirm": 1}, "confirm"),
        ("purge", {}, "prefix"),
        ("purge", {"prefix": 5}, "prefix=5"),
        ("drain", {"id": None}, "id=None"),
        ("drain", {"id": "n1", "force": True}, "unknown argument 'force'"),
        ("remove", {"id": "n1", "force": "yes"}, "force='yes'"),
        ("reweight", {"id": "n1", "weight": True}, "weight=True"),
        ("replicas", {"count": "3"}, "count='3'"),
        ("cancel", {"x": 1}, "unknown argument"),
        ("repair", {"partitions": "all"}, "partitions='all'"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(operator: Operator, name: str, arguments: Any, named: str) -> None:
    with pytest.raises(InvalidOption, match=named):
        operator.changing[name](arguments)


async def test_what_is_looked_at_changes_nothing(operator: Operator) -> None:
    assert set(operator.reading) == {"status", "locks"}
    assert not set(operator.reading) & set(operator.changing)
