"""The log of operations and the values that say where they belong."""

from __future__ import annotations

import pytest

from chaos.history import History, Operation, Outcome, Verb, read_value, unique_value


def operation(id: int, at: float, verb: Verb = Verb.SET, key: str = "k") -> Operation:
    return Operation(id, "c1", verb, key, "v", at, at)


def test_a_value_says_which_key_it_belongs_to() -> None:
    assert read_value(unique_value("a|b:c", "c1", 7, padding=20)) == "a|b:c"
    assert len({unique_value(key, client, number) for key in "ab" for client in "cd" for number in range(5)}) == 20


@pytest.mark.parametrize("value", [None, 7, "", "|", "k|c1|7|", "no bars", b"bytes"])
def test_what_is_no_value_of_ours_belongs_to_no_key(value: object) -> None:
    assert read_value(value) is None


def test_a_value_of_which_any_character_changed_belongs_to_no_key() -> None:
    whole = unique_value("k", "c1", 7, padding=3)
    for place in range(len(whole)):
        assert read_value(whole[:place] + "#" + whole[place + 1 :]) is None
    assert read_value(whole[:-1]) is None


def test_an_operation_begins_and_ends_once() -> None:
    history = History()
    history.invoke(operation(1, 0.0))
    assert [it.outcome for it in history] == [Outcome.PENDING]
    history.settle(1, 0.5, Outcome.OK, version=9)
    (done,) = history
    assert (done.returned, done.outcome, done.version) == (0.5, Outcome.OK, 9)
    with pytest.raises(ValueError, match="in the history already"):
        history.invoke(operation(1, 1.0))
    with pytest.raises(ValueError, match="ended already"):
        history.settle(1, 2.0, Outcome.IN_DOUBT)


def test_a_log_is_the_same_after_its_way_through_a_file() -> None:
    history = History([operation(1, 0.0), operation(2, 1.0, Verb.FLUSH, ""), operation(3, 2.0, Verb.GET)])
    history.settle(3, 2.5, Outcome.HIT, value=12, version=1 << 63)
    assert list(History.from_bytes(history.to_bytes())) == list(history)


def test_operations_are_found_by_key_in_the_order_in_which_they_began() -> None:
    history = History([operation(1, 3.0), operation(2, 1.0), operation(3, 2.0, key="other")])
    history += History([operation(4, 0.0, Verb.FLUSH, "")])
    assert {key: [it.id for it in found] for key, found in history.by_key().items()} == {"k": [2, 1], "other": [3]}
    assert [it.id for it in history.until(2.0)] == [2, 4]
