"""What is timed, what is sampled, and what is called slow."""

from itertools import count

import pytest

from kvcache.transport.watch import SAMPLED, SAMPLED_VERBS, RequestWatch
from kvcache_client.protocol.framing import pack_message
from kvcache_client.protocol.verbs import Verb

KEYS = [b"k%d" % number for number in range(3)]


@pytest.fixture
def slow():
    return []


@pytest.fixture
def watched(service, stream, slow):
    """A connection whose node takes a millisecond between two readings of the clock."""
    ticks = count(1)
    watch = RequestWatch(0.0005, lambda message, seconds: slow.append((message, seconds)), lambda: next(ticks) / 1000)
    watch.follow(service)
    stream.connection._watch = watch
    stream.watch = watch
    return stream


def counted(watch, kind="handling_seconds"):
    return {verb: times["count"] for verb, times in watch.as_dict()[kind].items()}


def test_one_get_in_so_many_is_timed(watched):
    for _ in range(3 * SAMPLED):
        watched.ask(int(Verb.GET), KEYS[0])
    assert counted(watched.watch)["GET"] == 3


def test_the_time_of_a_slice_is_spread_over_its_messages(watched):
    watched.counters.requests = SAMPLED - 3
    watched.feed(*(pack_message(7, int(Verb.GET), key) for key in KEYS))
    times = watched.watch.as_dict()["handling_seconds"]["GET"]
    assert (times["count"], times["sum"]) == (3, pytest.approx(0.001))


def test_every_request_of_a_verb_that_may_take_long_is_timed_and_the_slow_are_told_with_their_keys(watched, slow):
    for _ in range(5):
        watched.ask(int(Verb.GET_MANY), *KEYS)
    assert counted(watched.watch) == {"GET_MANY": 5}
    assert watched.watch.slow_count == len(slow) == 5
    message, seconds = slow[0]
    assert (message[1], list(message[2:]), seconds) == (Verb.GET_MANY, KEYS, pytest.approx(0.001))


def test_a_request_that_fails_is_timed_too(watched):
    watched.ask(int(Verb.GET_MANY), 5)
    assert counted(watched.watch) == {"GET_MANY": 1}


def test_an_unknown_verb_makes_no_metric(watched):
    watched.counters.requests = SAMPLED - 1
    watched.ask(999, b"key")
    assert counted(watched.watch) == {}


def test_the_verbs_that_are_sampled_are_asked_without_a_detour(service):
    before = dict(service.handlers)
    RequestWatch().follow(service)
    same = {verb for verb, handler in service.handlers.items() if handler == before[verb]}
    assert same == SAMPLED_VERBS & set(before)


def test_nothing_is_slow_when_nobody_wants_to_know(service, stream):
    ticks = count(1)
    watch = RequestWatch(0.0, clock=lambda: float(next(ticks)))
    watch.follow(service)
    stream.ask(int(Verb.GET_MANY), *KEYS)
    assert (watch.slow_count, counted(watch)) == (0, {"GET_MANY": 1})


def test_a_reply_that_is_waited_for_counts_as_waiting(watched):
    watched.watch.replied(Verb.LOCK, 0.5)
    assert counted(watched.watch, "waiting_seconds") == {"LOCK": 1}
