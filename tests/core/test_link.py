"""The conversation with one node: every reply reaches exactly the request that it belongs to."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvcache_client.core.config import ClientConfig
from kvcache_client.core.introduction import hello, read_greeting
from kvcache_client.core.link import Link, error_of
from kvcache_client.protocol.errors import (
    FrameTooLarge,
    MalformedFrame,
    NoAnswer,
    NodeFault,
    NotOwner,
    VersionMismatch,
    WrongCluster,
)
from kvcache_client.protocol.framing import FrameReader, pack_message
from kvcache_client.protocol.verbs import Push, Status, Verb


class Waiter:
    def __init__(self) -> None:
        self.outcome: Any = None
        self.cancelled = False

    def done(self) -> bool:
        return self.cancelled or self.outcome is not None

    def set_result(self, outcome: Any, /) -> None:
        assert not self.done(), "told twice, or told although nobody waits"
        self.outcome = outcome


@pytest.fixture
def epochs() -> list[int]:
    return []


@pytest.fixture
def link(epochs: list[int]) -> Link:
    return Link("n1", epochs.append)


def ask(link: Link, key: bytes = b"k") -> tuple[int, Waiter]:
    waiter = Waiter()
    return link.enqueue([0, int(Verb.GET), key], waiter), waiter


def silence() -> NoAnswer:
    return NoAnswer("silent")


def test_a_request_that_was_set_aside_outlives_the_sweep_and_still_gets_its_reply(link: Link) -> None:
    (patient, waiter), (hasty, other) = ask(link), ask(link)
    link.set_aside(patient)
    assert link.expire(hasty, silence) == 1
    assert (other.done(), waiter.done(), link.waiting) == (True, False, 0)
    link.receive(pack_message(patient, int(Status.MISS)))
    assert waiter.outcome == (patient, int(Status.MISS))
    link.receive(pack_message(patient, int(Status.MISS)))
    assert link.late == 1


def test_requests_that_were_set_aside_end_with_their_caller_the_connection_or_a_verdict(link: Link) -> None:
    (first, left), (second, given_up), (third, cut) = (ask(link) for _ in range(3))
    left.cancelled = True
    for number in (first, second, third):
        link.set_aside(number)
    link.give_up(second, silence())
    link.fail(lambda: NoAnswer("cut"))
    assert isinstance(given_up.outcome, NoAnswer)
    assert str(cut.outcome) == "cut"
    assert left.outcome is None


def test_requests_leave_together_each_with_its_own_id(link: Link) -> None:
    numbers = [ask(link, b"%d" % number)[0] for number in range(5)]
    messages = FrameReader(1 << 20).feed(link.output())
    assert [message[0] for message in messages] == numbers
    assert len(set(numbers)) == 5
    assert 0 not in numbers  # that is a push
    assert [message[2] for message in messages] == [b"%d" % number for number in range(5)]
    assert link.output() == b""
    assert link.waiting == 5


@settings(max_examples=40)
@given(st.lists(st.binary(max_size=50), max_size=30), st.randoms(use_true_random=False), st.integers(1, 64))
def test_replies_in_any_order_and_any_slices_reach_their_requests(
    values: list[bytes], dice: random.Random, size: int
) -> None:
    link = Link("n1", lambda epoch: None)
    asked = [(*ask(link), value) for value in values]
    replies = [pack_message(number, int(Status.OK), value) for number, _, value in asked]
    dice.shuffle(replies)
    data = b"".join(replies)
    for start in range(0, len(data), size):
        assert link.receive(data[start : start + size]) is None
    assert [waiter.outcome[2] for _, waiter, _ in asked] == values
    assert link.waiting == 0


def test_a_reply_that_nobody_waits_for_is_dropped_and_counted(link: Link) -> None:
    number, waiter = ask(link)
    waiter.cancelled = True
    assert link.receive(pack_message(number, 0, b"late")) is None
    assert link.receive(pack_message(number, 0, b"again")) is None
    assert link.receive(pack_message(4_000_000_000, 0, b"never asked")) is None
    assert waiter.outcome is None
    assert (link.late, link.waiting) == (3, 0)


def test_a_request_that_was_given_up_has_its_outcome_and_its_late_reply_is_dropped(link: Link) -> None:
    number, waiter = ask(link)
    other_number, other = ask(link)
    error = silence()
    link.give_up(number, error)
    link.give_up(number, error)
    link.receive(pack_message(number, 0, b"late") + pack_message(other_number, 0, b"mine"))
    assert waiter.outcome is error
    assert other.outcome[2] == b"mine"
    assert link.late == 1


def test_what_waits_too_long_is_given_up_oldest_first(link: Link) -> None:
    asked = [ask(link) for _ in range(5)]
    assert link.expire(asked[2][0], silence) == 3
    assert [waiter.done() for _, waiter in asked] == [True, True, True, False, False]
    assert link.expire(asked[2][0], silence) == 0
    assert link.waiting == 2


def test_a_caller_who_left_counts_as_unanswered_all_the_same(link: Link) -> None:
    """Else a node that never answers would look well as long as callers give up before the sweep does."""
    number, waiter = ask(link)
    waiter.cancelled = True
    assert link.expire(number, silence) == 1
    assert waiter.outcome is None


def test_ids_wrap_around_and_skip_zero(link: Link) -> None:
    link._id = 0xFFFFFFFE
    asked = [ask(link) for _ in range(4)]
    assert len({number for number, _ in asked}) == 4
    assert all(0 < number <= 0xFFFFFFFF for number, _ in asked)
    assert link.expire(asked[1][0], silence) == 2
    assert [waiter.done() for _, waiter in asked] == [True, True, False, False]


def test_when_the_connection_is_gone_everyone_is_told(link: Link) -> None:
    asked = [ask(link) for _ in range(3)]
    asked[1][1].cancelled = True
    link.fail(silence)
    assert [type(waiter.outcome) for _, waiter in asked] == [NoAnswer, type(None), NoAnswer]
    assert link.waiting == 0


def test_a_push_tells_the_epoch_and_disturbs_nobody(link: Link, epochs: list[int]) -> None:
    number, waiter = ask(link)
    link.receive(pack_message(0, int(Push.EPOCH), 7) + pack_message(number, 0, b"v"))
    assert epochs == [7]
    assert waiter.outcome[2] == b"v"


@pytest.mark.parametrize(
    "push", [(0,), (0, 99, 1), (0, int(Push.EPOCH)), (0, int(Push.EPOCH), "7"), (0, int(Push.EPOCH), None)]
)
def test_a_push_that_is_not_understood_is_dropped(link: Link, epochs: list[int], push: tuple[Any, ...]) -> None:
    assert link.receive(pack_message(*push)) is None
    assert epochs == []


@pytest.mark.parametrize("garbage", [b"\xc1", b"\x01", b"\x90", b"\x80", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_garbage_breaks_the_conversation_with_a_typed_error(link: Link, garbage: bytes) -> None:
    number, waiter = ask(link)
    broken = link.receive(pack_message(number, 0, b"v") + garbage)
    assert isinstance(broken, MalformedFrame | FrameTooLarge)
    assert waiter.outcome[2] == b"v"  # what came before it was right


def test_ids_that_cannot_be_ids_are_late_or_malformed_but_never_a_crash(link: Link) -> None:
    for id_ in (None, "1", b"1", 1.5, -1, True, 2**63):
        ask(link)
        broken = link.receive(pack_message(id_, 0, b"v"))
        assert broken is None or isinstance(broken, MalformedFrame)


@settings(max_examples=60)
@given(st.binary(max_size=300))
def test_no_bytes_make_it_raise(data: bytes) -> None:
    link = Link("n1", lambda epoch: None)
    waiters = [ask(link)[1] for _ in range(3)]
    link.receive(data)
    link.fail(silence)
    assert all(waiter.done() for waiter in waiters)


def test_errors_of_replies_are_typed_and_name_their_node() -> None:
    assert error_of((1, 0)) is None
    assert error_of((1, int(Status.MISMATCH), 5)) is None
    error = error_of((1, NotOwner.code, "not mine", 7), "n1")
    assert isinstance(error, NotOwner)
    assert (str(error), error.detail, error.node) == ("not mine [node n1]", 7, "n1")
    assert isinstance(error_of((1, 9999, "news"), "n1"), NodeFault)
    assert isinstance(error_of((1, NotOwner.code)), NotOwner)
    assert isinstance(error_of((1, NotOwner.code, 5, None)), NotOwner)
    for reply in ((), (1,), (1, None), (1, "0"), (1, 0.0), (1, True)):
        assert isinstance(error_of(reply), MalformedFrame)


def test_the_greeting_is_read_and_checked() -> None:
    request = hello(ClientConfig(cluster="main", name="me"))
    assert request[1:] == [Verb.HELLO, 1, "main", 0, b"", "me"]
    greeting = read_greeting((1, 0, 1, "main", "n1", 5, 1000, 1 << 20))
    assert (greeting.cluster, greeting.node, greeting.epoch, greeting.now_ms) == ("main", "n1", 5, 1000)
    assert read_greeting((1, 0, 1, "main", "n1", 5, 1000, 1 << 20, "news")).node == "n1"
    with pytest.raises(WrongCluster):
        read_greeting((1, WrongCluster.code, "this is another", None))
    with pytest.raises(VersionMismatch, match="protocol 2"):
        read_greeting((1, 0, 2, "main", "n1", 5, 1000, 1 << 20))
    for broken in (
        (1, 0),
        (1, 0, 1, "main"),
        (1, 0, 1, "main", b"n1", 5, 1000, 1),
        (1, 0, 1, "main", "n1", 5, None, 1),
    ):
        with pytest.raises(MalformedFrame):
            read_greeting(broken)
