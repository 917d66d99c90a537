"""The clock of one connection, without a connection."""

import pytest

from kvcache.transport.http.deadlines import ConnectionDeadlines
from kvcache.transport.http.limits import HttpLimits

HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class Clock:
    """An event loop's timers, moved by hand."""

    def __init__(self):
        self.now = 0.0
        self.timers = []

    def call_later(self, seconds, callback, *arguments):
        timer = Timer(self.now + seconds, callback, arguments)
        self.timers.append(timer)
        return timer

    def pass_by(self, seconds):
        self.now += seconds
        due = [timer for timer in self.timers if timer.due <= self.now and not timer.cancelled]
        self.timers = [timer for timer in self.timers if timer not in due and not timer.cancelled]
        for timer in due:
            timer.callback(*timer.arguments)

    @property
    def armed(self):
        return sum(not timer.cancelled for timer in self.timers)


class Timer:
    def __init__(self, due, callback, arguments):
        self.due, self.callback, self.arguments = due, callback, arguments
        self.cancelled = False

    def cancel(self):
        self.cancelled = True


class Owner:
    def __init__(self):
        self.late_heads = self.late_readers = self.unsent = 0

    def late_head(self):
        self.late_heads += 1

    def late_reader(self):
        self.late_readers += 1

    def unsent_bytes(self):
        return self.unsent


class Body:
    def __init__(self):
        self.complete = False

    def is_eof(self):
        return self.complete


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def owner():
    return Owner()


@pytest.fixture
def deadlines(clock, owner):
    limits = HttpLimits(head_seconds=10, reply_seconds=5)
    return ConnectionDeadlines(clock.call_later, limits, owner)


def test_a_header_has_its_time_from_its_first_byte_however_it_drips(deadlines, clock, owner):
    for _ in range(9):
        deadlines.received(b"G")
        clock.pass_by(1)
    assert owner.late_heads == 0
    deadlines.received(b"G")
    clock.pass_by(1)
    assert owner.late_heads == 1


def test_a_connection_without_a_request_has_no_deadline_here(deadlines, clock, owner):
    deadlines.received(HEAD)
    deadlines.began(None)
    deadlines.ended()
    assert deadlines.idle
    assert (clock.armed, owner.late_heads) == (0, 0)


def test_a_header_whose_end_came_in_pieces_leaves_nothing_behind(deadlines, clock):
    for byte in HEAD:
        deadlines.received(bytes([byte]))
    deadlines.began(None)
    deadlines.ended()
    assert clock.armed == 0


def test_serving_may_take_any_time(deadlines, clock, owner):
    deadlines.received(HEAD)
    deadlines.began(None)
    clock.pass_by(1000)
    assert (owner.late_heads, deadlines.idle) == (0, False)


def test_bytes_behind_a_request_start_the_clock_when_it_is_answered(deadlines, clock, owner):
    deadlines.received(HEAD + b"GET")
    deadlines.began(None)
    clock.pass_by(1000)
    deadlines.ended()
    clock.pass_by(9)
    assert owner.late_heads == 0
    clock.pass_by(1)
    assert owner.late_heads == 1


def test_bytes_of_a_body_are_no_header(deadlines, clock):
    body = Body()
    deadlines.received(HEAD)
    deadlines.began(body)
    deadlines.received(b"some")
    body.complete = True
    deadlines.ended()
    assert clock.armed == 0


def test_bytes_after_a_body_are_a_header(deadlines, clock, owner):
    body = Body()
    deadlines.received(HEAD + b"all of it")
    body.complete = True
    deadlines.began(body)
    deadlines.received(b"GET")
    deadlines.ended()
    clock.pass_by(10)
    assert owner.late_heads == 1


def test_the_rest_of_a_refused_body_is_no_header(deadlines, clock):
    deadlines.received(HEAD)
    deadlines.began(Body())
    deadlines.ended()
    deadlines.received(b"more of what nobody wants")
    assert clock.armed == 0


def test_a_queued_request_stops_the_clock_when_its_turn_comes(deadlines, clock, owner):
    deadlines.received(HEAD)
    deadlines.began(None)
    deadlines.received(HEAD)
    deadlines.ended()
    deadlines.began(None)
    clock.pass_by(1000)
    deadlines.ended()
    assert (clock.armed, owner.late_heads) == (0, 0)


def test_a_reader_that_takes_nothing_is_late(deadlines, clock, owner):
    owner.unsent = 100
    deadlines.stalled()
    clock.pass_by(5)
    assert owner.late_readers == 1


def test_a_slow_reader_is_not_late_while_it_reads(deadlines, clock, owner):
    owner.unsent = 100
    deadlines.stalled()
    for unsent in (99, 50, 1):
        owner.unsent = unsent
        clock.pass_by(5)
    assert owner.late_readers == 0
    deadlines.flowing()
    clock.pass_by(1000)
    assert (owner.late_readers, clock.armed) == (0, 0)


def test_a_closed_connection_leaves_no_timer_behind(deadlines, clock, owner):
    deadlines.received(HEAD + b"GET")
    deadlines.began(None)
    deadlines.stalled()
    deadlines.closed()
    deadlines.ended()
    deadlines.flowing()
    assert clock.armed == 0
    assert "idle" in repr(deadlines)
