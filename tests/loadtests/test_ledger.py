"""The ledger: which answers are right, which are not, and why a read missed."""

from __future__ import annotations

from loadtests.users.counters import Tally
from loadtests.users.ledger import CLOCK_GRACE, Known, Ledger, Reason, State, Verdict
from loadtests.users.values import make_value

KEY = "load:0:1"


class _World:
    """One key and what is done to it."""

    def __init__(self) -> None:
        self.ledger = Ledger("run")
        self.known: Known = self.ledger.known(KEY)

    def write(self, now: float = 1.0, ttl: float | None = None, *, outcome: str = "ok", delete: bool = False) -> bytes:
        sequence = self.known.begin(now, ttl, delete=delete)
        if outcome == "ok":
            self.known.acknowledge(now, now, ttl, delete=delete)
        elif outcome == "refused":
            self.known.refuse()
        else:
            self.known.doubt()
        return make_value(KEY, "run", sequence, 100)

    def judge(self, value: object, *, before: State | None = None, asked: float = 2.0) -> Verdict:
        return self.ledger.judge(KEY, self.known, before or self.known.state, value, asked)

    def reason(self, now: float = 2.0, *, before: State | None = None) -> Reason:
        return self.known.reason(before or self.known.state, now)


def test_the_last_acknowledged_value_is_a_hit_and_one_before_it_is_old() -> None:
    world = _World()
    first, second = world.write(), world.write()
    assert world.judge(second) is Verdict.HIT
    assert world.judge(first) is Verdict.OLD


def test_a_write_that_was_acknowledged_after_the_question_may_or_may_not_be_seen() -> None:
    world = _World()
    first = world.write()
    before = world.known.state
    second = world.write()
    assert world.judge(first, before=before) is Verdict.HIT
    assert world.judge(second, before=before) is Verdict.HIT


def test_a_write_in_doubt_may_or_may_not_be_seen_but_a_refused_one_must_not() -> None:
    world = _World()
    first, doubtful = world.write(), world.write(outcome="doubt")
    assert world.judge(first) is world.judge(doubtful) is Verdict.HIT
    assert world.judge(world.write(outcome="refused")) is Verdict.WRONG


def test_another_keys_value_a_damaged_one_and_one_from_the_future_are_wrong() -> None:
    world = _World()
    good = world.write()
    assert world.judge(make_value("load:0:2", "run", 1, 100)) is Verdict.WRONG
    assert world.judge(good[:-9] + b"x" + good[-8:]) is Verdict.WRONG
    assert world.judge(make_value(KEY, "run", 99, 100)) is Verdict.WRONG
    assert world.judge(7) is Verdict.WRONG


def test_a_value_of_an_earlier_run_is_a_hit_until_this_run_has_written_the_key() -> None:
    world = _World()
    value = make_value(KEY, "yesterday", 500, 100)
    assert world.judge(value) is Verdict.HIT
    world.write()
    assert world.judge(value) is Verdict.OLD


def test_what_comes_back_after_its_delete_or_its_time_is_old() -> None:
    world = _World()
    value = world.write(ttl=10)
    assert world.judge(value, asked=11 + CLOCK_GRACE) is Verdict.HIT
    assert world.judge(value, asked=11.1 + CLOCK_GRACE) is Verdict.OLD
    world.write(delete=True)
    assert world.judge(value) is Verdict.OLD


def test_each_miss_has_its_reason() -> None:
    world = _World()
    assert world.reason() is Reason.UNWRITTEN
    world.write()
    assert world.reason() is Reason.UNEXPLAINED
    world.write(now=1.0, ttl=10)
    assert world.reason(now=5) is Reason.UNEXPLAINED
    assert world.reason(now=11) is Reason.EXPIRED
    world.write(delete=True)
    assert world.reason() is Reason.DELETED


def test_a_delete_on_its_way_or_in_doubt_explains_a_miss_until_a_later_write_is_acknowledged() -> None:
    world = _World()
    world.write()
    world.known.begin(1.0, None, delete=True)
    assert world.reason() is Reason.DELETED
    world.known.doubt()
    assert world.reason() is Reason.DELETED
    world.write()
    assert world.reason() is Reason.UNEXPLAINED


def test_a_read_during_which_the_key_was_deleted_and_written_again_may_miss() -> None:
    world = _World()
    world.write()
    before = world.known.state
    world.write(delete=True)
    world.write()
    assert world.reason(before=before) is Reason.DELETED
    assert world.reason() is Reason.UNEXPLAINED


def test_a_shorter_life_in_doubt_explains_a_miss() -> None:
    world = _World()
    world.write(ttl=100)
    world.write(now=1.0, ttl=2, outcome="doubt")
    assert world.reason(now=4) is Reason.EXPIRED


def test_a_touch_gives_another_time_and_one_in_doubt_leaves_both_open() -> None:
    world = _World()
    value = world.write(now=1.0, ttl=5)
    world.known.begin_touch(2.0, 50)
    world.known.touched(2.0, 2.0, 50)
    assert world.judge(value, asked=20) is Verdict.HIT
    assert world.reason(now=20) is Reason.UNEXPLAINED
    world.known.begin_touch(3.0, 5)
    world.known.doubt_expiry()
    assert world.reason(now=20) is Reason.EXPIRED
    assert world.judge(value, asked=500) is Verdict.HIT


def test_written_keys_are_those_with_an_acknowledged_value() -> None:
    world = _World()
    world.ledger.known("never")
    world.write()
    assert [key for key, _ in world.ledger.written()] == [KEY]
    world.write(delete=True)
    assert not list(world.ledger.written())


def test_a_counter_counts_all_that_was_acknowledged_and_no_more_than_was_sent() -> None:
    tally = Tally()
    tally.sent, tally.acknowledged = 10, 8
    assert [tally.judge(8, answer) for answer in (8, 9, 10, 11)] == [
        Verdict.OLD,
        Verdict.HIT,
        Verdict.HIT,
        Verdict.WRONG,
    ]
    assert [tally.judge_final(value) for value in (7, 8, 10, 11)] == [
        Verdict.OLD,
        Verdict.HIT,
        Verdict.HIT,
        Verdict.WRONG,
    ]
