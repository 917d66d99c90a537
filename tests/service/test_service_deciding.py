"""SWAP, INCR, TOUCH: what the node decides, and the versions that it gives."""

import pytest

from kvcache_client.protocol.codec import INT64_MAX, INT64_MIN
from kvcache_client.protocol.errors import (
    CounterOverflow,
    InvalidKey,
    InvalidOption,
    InvalidRecord,
    MalformedFrame,
    NotAnInteger,
    NotOwner,
    NotReady,
    ValueTooLarge,
)
from kvcache_client.protocol.record import NEVER, PayloadType, expiry_of, flags_of, payload_of, restamp, version_of
from kvcache_client.protocol.verbs import ABSENT, PRESENT, Reason, Status, Verb
from kvcache_client.protocol.version import MAX_CLOCK_OFFSET_MS, WRITERS, version_ms

KEY = b"k"
DECIDING = {
    Verb.SWAP: lambda core, key, record: core.ask(Verb.SWAP, core.epoch, key, ABSENT, record, 0),
    Verb.INCR: lambda core, key, record: core.ask(Verb.INCR, core.epoch, key, 1, 0, NEVER, 0),
    Verb.TOUCH: lambda core, key, record: core.ask(Verb.TOUCH, core.epoch, key, NEVER, 0),
}
EACH = pytest.mark.parametrize("verb", DECIDING)


def swap(core, condition, record):
    return core.ask(Verb.SWAP, core.epoch, KEY, condition, record, 0)


def incr(core, delta, initial=None, expiry_ms=NEVER):
    return core.ask(Verb.INCR, core.epoch, KEY, delta, initial, expiry_ms, 0)


def touch(core, expiry_ms):
    return core.ask(Verb.TOUCH, core.epoch, KEY, expiry_ms, 0)


def got(core):
    return core.ask(Verb.GET, KEY)[1]


@EACH
def test_nothing_is_decided_before_the_node_has_joined(stranger, record, verb):
    with pytest.raises(NotReady):
        DECIDING[verb](stranger, KEY, record(0))


@EACH
def test_nothing_is_decided_about_a_key_of_another_node(half, record, verb):
    with pytest.raises(NotOwner) as refused:
        DECIDING[verb](half, half.key(mine=False), record(0))
    assert refused.value.detail == half.epoch


@EACH
@pytest.mark.parametrize("key", [b"", b"x" * 1025, "text", None])
def test_a_bad_key_is_refused(core, record, verb, key):
    with pytest.raises(InvalidKey):
        DECIDING[verb](core, key, record(0))


def test_swap_adds_what_is_absent_under_a_version_of_the_node(core, record):
    sent = record(-50, expiry_ms=core.now_ms + 1000)
    status, version = swap(core, ABSENT, sent)
    assert status == Status.OK
    assert (version_ms(version), version % WRITERS) == (core.now_ms, 9)
    assert got(core) == restamp(sent, version)


def test_swap_does_not_add_what_is_there(core, record):
    core.put(KEY, record(0, b"first"))
    assert swap(core, ABSENT, record(0)) == (Status.MISMATCH, version_of(record(0)))
    assert payload_of(got(core)) == b"first"


def test_swap_replaces_what_is_present(core, record):
    assert swap(core, PRESENT, record(0)) == (Status.MISMATCH, 0)
    core.put(KEY, record(0, b"first"))
    status, version = swap(core, PRESENT, record(0, b"second"))
    assert status == Status.OK
    assert version > version_of(record(0))
    assert payload_of(got(core)) == b"second"


def test_swap_compares_with_the_version_that_is_there(core, record):
    assert swap(core, version_of(record(0)), record(0)) == (Status.MISMATCH, 0)
    core.put(KEY, record(0))
    assert swap(core, version_of(record(0)) + 1, record(0)) == (Status.MISMATCH, version_of(record(0)))
    status, version = swap(core, version_of(record(0)), record(0, b"second"))
    assert status == Status.OK
    assert swap(core, version_of(record(0)), record(0, b"third")) == (Status.MISMATCH, version)
    assert payload_of(got(core)) == b"second"


def test_of_many_that_compare_with_one_version_one_wins(core, record):
    core.put(KEY, record(0))
    wins = [swap(core, version_of(record(0)), record(0, b"%d" % number))[0] for number in range(10)]
    assert wins == [Status.OK] + [Status.MISMATCH] * 9


def test_swap_finds_what_was_deleted_or_has_expired_absent(core, record, grave):
    core.put(KEY, record(0))
    core.put(KEY, grave(400))
    status, version = swap(core, ABSENT, record(0))
    assert status == Status.OK
    assert version > version_of(grave(400))
    core.put(KEY, record(450, expiry_ms=core.now_ms + 10))
    core.at(10)
    assert swap(core, PRESENT, record(0)) == (Status.MISMATCH, 0)
    assert swap(core, ABSENT, record(0))[0] == Status.OK


def test_a_decision_outdoes_a_version_from_ahead_of_the_node(core, record):
    ahead = record(MAX_CLOCK_OFFSET_MS)
    core.put(KEY, ahead)
    status, version = swap(core, PRESENT, record(0, b"second"))
    assert status == Status.OK
    assert version > version_of(ahead)
    assert payload_of(got(core)) == b"second"


def test_swap_takes_no_tombstone(core, grave):
    with pytest.raises(InvalidRecord, match="tombstone"):
        swap(core, ABSENT, grave(0))


def test_swap_refuses_a_payload_over_the_limit_even_if_the_condition_fails(core, record):
    assert swap(core, ABSENT, record(0, b"x" * 1000))[0] == Status.OK
    with pytest.raises(ValueTooLarge):
        swap(core, ABSENT, record(0, b"x" * 1001))


@pytest.mark.parametrize("bad", [b"", b"short", None, 7, "text"])
def test_swap_refuses_what_is_no_record(core, bad):
    with pytest.raises(InvalidRecord):
        swap(core, ABSENT, bad)


@pytest.mark.parametrize(
    ("condition", "error"),
    [(None, MalformedFrame), (1.0, MalformedFrame), (True, MalformedFrame), (b"", MalformedFrame), (-1, InvalidOption)],
)
def test_swap_refuses_a_condition_that_is_none(core, record, condition, error):
    core.put(KEY, record(0))
    with pytest.raises(error, match="condition"):
        swap(core, condition, record(0, b"second"))
    assert got(core) == record(0)


def test_swap_looks_at_no_version_in_the_record(core, record):
    assert swap(core, ABSENT, record(10_000_000))[0] == Status.OK
    assert version_ms(version_of(got(core))) == core.now_ms


def test_incr_starts_at_initial_plus_delta(core):
    status, record = incr(core, 5, 100, core.now_ms + 1000)
    assert (status, payload_of(record), flags_of(record)) == (Status.OK, b"105", PayloadType.INTEGER)
    assert expiry_of(record) == core.now_ms + 1000
    assert got(core) == record


def test_incr_without_initial_does_not_start(core):
    assert incr(core, 5) == (Status.MISS,)
    assert core.ask(Verb.PEEK, KEY) == (Status.MISS,)


def test_incr_adds_and_keeps_the_expiry(core, record):
    expiry = core.now_ms + 5000
    core.put(KEY, record(0, b"41", kind=PayloadType.INTEGER, expiry_ms=expiry))
    status, kept = incr(core, 1, 0, NEVER)
    assert (status, payload_of(kept), expiry_of(kept)) == (Status.OK, b"42", expiry)
    assert payload_of(incr(core, -50)[1]) == b"-8"
    assert payload_of(incr(core, 0)[1]) == b"-8"


def test_every_incr_has_a_higher_version(core):
    versions = [version_of(incr(core, 1, 0)[1]) for _ in range(2000)]
    assert versions == sorted(set(versions))
    assert payload_of(got(core)) == b"2000"


def test_incr_starts_anew_where_the_counter_was_deleted_or_has_expired(core, grave):
    incr(core, 7, 0, core.now_ms + 10)
    core.at(10)
    assert payload_of(incr(core, 1, 0)[1]) == b"1"
    core.put(KEY, grave(11))
    assert incr(core, 1) == (Status.MISS,)
    status, record = incr(core, 1, 10)
    assert (status, payload_of(record)) == (Status.OK, b"11")
    assert version_of(record) > version_of(grave(11))


@pytest.mark.parametrize(("start", "delta"), [(INT64_MAX, 1), (INT64_MIN, -1), (INT64_MAX - 1, 2), (-2, INT64_MIN)])
def test_incr_beyond_64_bits_is_refused_and_changes_nothing(core, record, start, delta):
    core.put(KEY, record(0, b"%d" % start, kind=PayloadType.INTEGER))
    with pytest.raises(CounterOverflow, match=str(start)):
        incr(core, delta)
    assert payload_of(got(core)) == b"%d" % start


def test_incr_reaches_both_ends_of_64_bits(core):
    assert payload_of(incr(core, INT64_MAX, 0)[1]) == b"%d" % INT64_MAX
    assert payload_of(incr(core, INT64_MIN)[1]) == b"-1"
    assert payload_of(incr(core, INT64_MIN + 1)[1]) == b"%d" % INT64_MIN


def test_incr_that_overflows_at_its_start_leaves_nothing(core):
    with pytest.raises(CounterOverflow):
        incr(core, 1, INT64_MAX)
    assert core.ask(Verb.PEEK, KEY) == (Status.MISS,)


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (PayloadType.TEXT, b"12"),
        (PayloadType.BYTES, b"12"),
        (PayloadType.MSGPACK, b"\x0c"),
        (PayloadType.JSON, b"12"),
        (PayloadType.INTEGER | 0x10, b"12"),
        (PayloadType.INTEGER, b"twelve"),
        (PayloadType.INTEGER, b""),
        (PayloadType.INTEGER, b"9" * 900),
    ],
)
def test_incr_of_what_is_no_integer_is_refused_and_changes_nothing(core, record, kind, payload):
    core.put(KEY, record(0, payload, kind=kind))
    with pytest.raises(NotAnInteger):
        incr(core, 1, 0)
    assert got(core) == record(0, payload, kind=kind)


@pytest.mark.parametrize(
    ("delta", "initial", "expiry_ms", "error"),
    [
        (INT64_MAX + 1, 0, NEVER, InvalidOption),
        (INT64_MIN - 1, 0, NEVER, InvalidOption),
        (1, INT64_MAX + 1, NEVER, InvalidOption),
        (1, 0, 0, InvalidOption),
        (1, 0, -1, InvalidOption),
        (1, 0, NEVER + 1, InvalidOption),
        (None, 0, NEVER, MalformedFrame),
        (1.0, 0, NEVER, MalformedFrame),
        (True, 0, NEVER, MalformedFrame),
        (1, "0", NEVER, MalformedFrame),
        (1, 0, None, MalformedFrame),
        (1, 0, 1.5, MalformedFrame),
    ],
)
@pytest.mark.parametrize("there", [True, False])
def test_incr_checks_its_numbers_whether_the_counter_is_there_or_not(
    core, record, delta, initial, expiry_ms, error, there
):
    if there:
        core.put(KEY, record(0, b"1", kind=PayloadType.INTEGER))
    with pytest.raises(error):
        incr(core, delta, initial, expiry_ms)
    assert core.ask(Verb.PEEK, KEY)[0] == (Status.OK if there else Status.MISS)


def test_touch_changes_the_expiry_and_nothing_else(core, record):
    sent = record(0, b"payload", kind=PayloadType.TEXT)
    core.put(KEY, sent)
    status, kept = touch(core, core.now_ms + 1000)
    assert (status, expiry_of(kept)) == (Status.OK, core.now_ms + 1000)
    assert (flags_of(kept), payload_of(kept)) == (PayloadType.TEXT, b"payload")
    assert version_of(kept) > version_of(sent)
    assert got(core) == kept
    core.at(1000)
    assert core.ask(Verb.GET, KEY) == (Status.MISS, Reason.EXPIRED)


def test_touch_prolongs(core, record):
    core.put(KEY, record(0, expiry_ms=core.now_ms + 10))
    touch(core, NEVER)
    core.at(1_000_000)
    assert core.ask(Verb.GET, KEY)[0] == Status.OK


@pytest.mark.parametrize("expiry_ms", [NEVER - 1, NEVER - 255, NEVER - 256, NEVER - 100_000])
def test_an_expiry_just_before_never_can_be_given_and_taken_back(core, record, grave, expiry_ms):
    core.put(KEY, record(0))
    for expiry in (expiry_ms, NEVER, expiry_ms, core.now_ms + 1000, expiry_ms):
        assert expiry_of(touch(core, expiry)[1]) == expiry
        core.store.check()
    assert core.put(KEY, grave(100)) == (Status.OK,)


def test_touch_into_the_past_ends_the_record(core, record):
    core.put(KEY, record(0))
    assert touch(core, core.now_ms)[0] == Status.OK
    assert core.ask(Verb.GET, KEY) == (Status.MISS, Reason.DELETED)


def test_touch_finds_nothing_where_nothing_is(core, record, grave):
    assert touch(core, NEVER) == (Status.MISS,)
    core.put(KEY, record(0))
    core.put(KEY, grave(1))
    assert touch(core, NEVER) == (Status.MISS,)
    assert core.ask(Verb.PEEK, KEY) == (Status.OK, grave(1))


@pytest.mark.parametrize("expiry_ms", [0, -1, NEVER + 1, None, 1.0, "soon"])
@pytest.mark.parametrize("there", [True, False])
def test_touch_refuses_what_is_no_time(core, record, expiry_ms, there):
    if there:
        core.put(KEY, record(0))
    with pytest.raises(InvalidOption if isinstance(expiry_ms, int) else MalformedFrame, match="expiry_ms"):
        touch(core, expiry_ms)


def test_a_copy_that_meets_what_another_node_has_stamped_does_not_make_its_operation_known(core, record):
    assert core.put(KEY, record(5, b"5", writer=1))[0] == Status.OK
    earlier = {writer: record(2, b"2", kind=PayloadType.INTEGER, writer=writer) for writer in (1, 2)}
    for writer, operation, known in ((1, 71, Status.OK), (2, 72, Status.MISS)):
        assert core.ask(Verb.COPY, core.epoch, KEY, earlier[writer], operation)[0] == Status.SUPERSEDED
        assert core.ask(Verb.RECALL, core.epoch, KEY, operation)[0] == known
