from __future__ import annotations

import copy
import pickle
import re

import pytest

from kvcache_client.protocol import errors, value_errors
from kvcache_client.protocol.errors import (
    ERRORS,
    ConnectFailed,
    ConnectionLost,
    DeadlineExceeded,
    InDoubt,
    KeyNotFound,
    KvCacheError,
    NoAnswer,
    NodeFault,
    NotApplied,
    NotOwner,
    ProtocolError,
    UsageError,
    error_from_wire,
)
from kvcache_client.protocol.verbs import Status


def tree(root: type[KvCacheError] = KvCacheError) -> list[type[KvCacheError]]:
    """Every error of the package; not those that a test made."""
    inner = [error for child in root.__subclasses__() for error in tree(child)]
    return [error for error in (root, *inner) if error.__module__.startswith("kvcache_client.protocol.")]


def test_every_error_is_exported_and_drawn_in_the_tree() -> None:
    names = {error.__name__ for error in tree()}
    assert names | {"ERRORS", "error_from_wire"} == {*errors.__all__, *value_errors.__all__}
    pictures = [(module.__doc__ or "").partition("::")[2] for module in (errors, value_errors)]
    drawn = set(re.findall(r"\b[A-Z]\w+", "\n".join(pictures)))
    assert names <= drawn, names - drawn


def test_a_wire_code_belongs_to_one_error_and_is_no_status() -> None:
    coded = [error for error in tree() if error.code is not None]
    assert {error.code: error for error in coded} == dict(ERRORS)
    assert len(coded) == len(ERRORS)
    assert min(ERRORS) > max(Status)


def test_the_registry_refuses_twins_and_stays_as_it_was() -> None:
    before = dict(ERRORS)
    with pytest.raises(TypeError, match="49 is taken by NotOwner"):
        type("Twin", (NotApplied,), {"code": NotOwner.code})
    assert dict(ERRORS) == before


def test_a_class_without_a_code_of_its_own_does_not_inherit_one() -> None:
    assert ConnectFailed.code is None
    assert NoAnswer.code is None
    assert ERRORS[48] is NotApplied


@pytest.mark.parametrize("error", tree(), ids=lambda error: error.__name__)
def test_every_error_has_a_sane_http_status_and_says_something_by_itself(error: type[KvCacheError]) -> None:
    assert 400 <= error.http_status <= 599
    assert len(str(error())) > 10
    assert error.__doc__
    assert "\n" not in str(error())


@pytest.mark.parametrize("error", tree(), ids=lambda error: error.__name__)
def test_only_what_was_not_applied_may_be_retried(error: type[KvCacheError]) -> None:
    assert error.retryable is issubclass(error, NotApplied)


@pytest.mark.parametrize("error", tree(), ids=lambda error: error.__name__)
def test_only_broken_rules_of_the_wire_close_a_connection(error: type[KvCacheError]) -> None:
    assert not error.closes_connection or issubclass(error, ProtocolError)


def test_errors_are_also_what_python_programs_expect() -> None:
    assert issubclass(UsageError, ValueError)
    assert issubclass(KeyNotFound, KeyError)
    assert issubclass(DeadlineExceeded, TimeoutError)
    assert issubclass(NoAnswer, TimeoutError)
    assert not issubclass(InDoubt, NotApplied)
    assert issubclass(ConnectionLost, InDoubt)


@pytest.mark.parametrize("error", tree(), ids=lambda error: error.__name__)
def test_every_error_keeps_its_node_and_detail_and_shows_them(error: type[KvCacheError]) -> None:
    made = error("what happened", node="node-a", detail=8)
    assert str(made) == "what happened [node node-a]"
    assert (made.node, made.detail) == ("node-a", 8)
    assert str(error("what happened")) == "what happened"


@pytest.mark.parametrize("error", tree(), ids=lambda error: error.__name__)
def test_every_error_survives_copying_and_the_way_between_processes(error: type[KvCacheError]) -> None:
    made = error("what happened", node="node-a", detail=8)
    for twin in (copy.copy(made), pickle.loads(pickle.dumps(made))):
        assert type(twin) is error
        assert (str(twin), twin.node, twin.detail) == (str(made), "node-a", 8)


def test_an_error_from_the_wire_is_the_class_of_its_code() -> None:
    for code, kind in ERRORS.items():
        made = error_from_wire(code, "what happened", node="node-a", detail=b"x")
        assert type(made) is kind
        assert (made.node, made.detail) == ("node-a", b"x")


def test_a_code_from_the_future_becomes_a_fault_that_names_it() -> None:
    made = error_from_wire(4711, "out of unicorns", node="node-a")
    assert type(made) is NodeFault
    assert "4711" in str(made)
    assert "out of unicorns" in str(made)
    assert not made.retryable


def test_an_error_without_words_uses_the_first_line_of_its_description() -> None:
    assert str(error_from_wire(49, "")).startswith("The node does not own the key's partition")
