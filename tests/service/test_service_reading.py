"""GET, GET_MANY, HEAD, PEEK: what a node says about a key, and of which keys it says nothing."""

import pytest

from kvcache.store.outcome import Missing
from kvcache_client.protocol.errors import BatchTooLarge, InvalidKey, NotOwner, NotReady, ReplyFull
from kvcache_client.protocol.limits import KEYS_PER_FRAME, REPLY_BYTES
from kvcache_client.protocol.record import HEADER_BYTES, TOMBSTONE_MS, is_tombstone, version_of
from kvcache_client.protocol.verbs import Reason, Status, Verb

READING = (Verb.GET, Verb.HEAD, Verb.PEEK)
BAD_KEYS = [b"", b"x" * 1025, "text", 7, None, 1.5, (b"k",), True]


def test_get_returns_the_very_record_that_was_put(core, record):
    kept = record(0, b"\x00\xff\r\n")
    core.put(b"k", kept)
    assert core.ask(Verb.GET, b"k") == (Status.OK, kept)


def test_head_returns_the_header_alone(core, record):
    kept = record(0)
    core.put(b"k", kept)
    assert core.ask(Verb.HEAD, b"k") == (Status.OK, kept[:HEADER_BYTES])


@pytest.mark.parametrize("verb", READING)
def test_a_key_that_was_never_there_is_a_miss(core, verb):
    assert core.ask(verb, b"k") == (Status.MISS,)


@pytest.mark.parametrize("key", [b"\x00", b"a\r\nb c", b"\xff\xfe", b"x" * 1024])
def test_any_bytes_up_to_the_limit_are_a_key(core, record, key):
    core.put(key, record(0))
    assert core.ask(Verb.GET, key)[0] == Status.OK


@pytest.mark.parametrize("verb", READING)
@pytest.mark.parametrize("key", BAD_KEYS, ids=lambda key: repr(key)[:12])
def test_a_bad_key_is_named_for_what_is_wrong(core, verb, key):
    says = "1 to 1024" if isinstance(key, bytes) else type(key).__name__
    with pytest.raises(InvalidKey, match=says):
        core.ask(verb, key)


@pytest.mark.parametrize("verb", READING)
def test_no_key_is_a_miss_before_the_node_has_joined(stranger, verb):
    with pytest.raises(NotReady):
        stranger.ask(verb, b"k")


@pytest.mark.parametrize("verb", [Verb.GET, Verb.HEAD])
def test_a_key_of_another_node_is_no_miss(half, verb):
    assert half.ask(verb, half.key(mine=True)) == (Status.MISS,)
    with pytest.raises(NotOwner) as refused:
        half.ask(verb, half.key(mine=False))
    assert refused.value.detail == half.epoch


def test_peek_shows_what_a_stand_in_holds(half, record):
    key, kept = half.key(mine=False), record(0)
    assert half.ask(Verb.PEEK, key) == (Status.MISS,)
    half.ask(Verb.HINT, "n2", key, kept)
    assert half.ask(Verb.PEEK, key) == (Status.OK, kept, "n2")


def test_peek_shows_tombstones_and_get_does_not(core, record, grave):
    core.put(b"k", record(0))
    core.put(b"k", grave(1))
    assert core.ask(Verb.GET, b"k") == core.ask(Verb.HEAD, b"k") == (Status.MISS, Reason.DELETED)
    assert core.ask(Verb.PEEK, b"k") == (Status.OK, grave(1))


def test_a_miss_says_why_as_far_as_the_node_remembers_and_counts_it(core, record, grave):
    core.put(b"expiring", record(0, expiry_ms=core.now_ms + 1000))
    core.put(b"deleted", record(0))
    core.put(b"deleted", grave(1))
    core.at(1000)
    keys = (b"never", b"expiring", b"deleted")
    reasons = [None, Reason.EXPIRED, Reason.DELETED]
    for verb in (Verb.GET, Verb.HEAD):
        assert [core.ask(verb, key)[1:] for key in keys] == [() if why is None else (why,) for why in reasons]
    assert core.ask(Verb.GET_MANY, *keys) == (Status.OK, *reasons)
    assert core.store.missing == {Missing.ABSENT: 3, Missing.EXPIRED: 3, Missing.DELETED: 3, Missing.EVICTED: 0}
    assert [int(why) for why in Missing] == [int(why) for why in Reason]
    core.at(2000 + TOMBSTONE_MS)
    assert core.ask(Verb.GET_MANY, *keys) == (Status.OK, None, None, None)


def test_peek_counts_no_hit(core, record):
    core.put(b"k", record(0))
    core.ask(Verb.PEEK, b"k")
    core.ask(Verb.PEEK, b"other")
    assert (core.store.hits, core.store.misses) == (0, 0)
    core.ask(Verb.GET, b"k")
    assert core.store.hits == 1


@pytest.mark.parametrize(("ms", "status"), [(999, Status.OK), (1000, Status.MISS), (1001, Status.MISS)])
def test_a_record_is_gone_at_the_very_millisecond_of_its_expiry(core, record, ms, status):
    core.put(b"k", record(0, expiry_ms=core.now_ms + 1000))
    core.at(ms)
    assert core.ask(Verb.GET, b"k")[0] == core.ask(Verb.HEAD, b"k")[0] == status
    assert core.ask(Verb.GET_MANY, b"k")[1] == (Reason.EXPIRED if status else core.ask(Verb.GET, b"k")[1])


def test_an_expired_record_still_hides_older_versions(core, record):
    kept = record(0, expiry_ms=core.now_ms + 1000)
    core.put(b"k", kept)
    core.at(1000)
    status, left = core.ask(Verb.PEEK, b"k")
    assert (status, is_tombstone(left), version_of(left)) == (Status.OK, True, version_of(kept))
    core.at(1000 + TOMBSTONE_MS)
    assert core.ask(Verb.PEEK, b"k") == (Status.MISS,)


def test_get_many_answers_each_key_in_its_place(half, record):
    mine, other = half.key(mine=True), half.key(mine=False)
    kept = record(0)
    half.put(mine, kept)
    status, *fields = half.ask(Verb.GET_MANY, mine, other, b"", mine + b"?" * 1024, 7, mine)
    assert status == Status.OK
    assert fields == [kept, NotOwner.code, InvalidKey.code, InvalidKey.code, InvalidKey.code, kept]


def test_get_many_of_nothing_is_nothing(core):
    assert core.ask(Verb.GET_MANY) == (Status.OK,)


def test_get_many_takes_as_many_keys_as_the_protocol_says(core):
    assert len(core.ask(Verb.GET_MANY, *[b"k"] * KEYS_PER_FRAME)) == KEYS_PER_FRAME + 1
    with pytest.raises(BatchTooLarge, match="1025 keys in one message, the limit is 1024") as refused:
        core.ask(Verb.GET_MANY, *[b"k"] * (KEYS_PER_FRAME + 1))
    assert refused.value.detail == KEYS_PER_FRAME


def test_get_many_of_missing_keys_is_nil_for_each(core):
    assert core.ask(Verb.GET_MANY, b"a", b"b") == (Status.OK, None, None)


def test_get_many_says_for_each_key_that_the_node_has_not_joined(stranger):
    assert stranger.ask(Verb.GET_MANY, b"a", b"b") == (Status.OK, NotReady.code, NotReady.code)


def test_get_many_stops_filling_a_reply_at_its_limit(make_core, record):
    core = make_core(value_limit=1 << 20)
    core.join()
    core.put(b"big", record(0, b"x" * (1 << 20)))
    core.put(b"small", record(0))
    size = HEADER_BYTES + (1 << 20)
    full = -(-REPLY_BYTES // size)
    _, *fields = core.ask(Verb.GET_MANY, *[b"big"] * 12, b"small", b"missing", b"")
    assert [len(field) for field in fields[:full]] == [size] * full
    assert fields[full:] == [ReplyFull.code] * (15 - full)


def test_misses_and_errors_take_no_room_in_a_reply(core, record):
    core.put(b"k", record(0))
    _, *fields = core.ask(Verb.GET_MANY, *[b"missing", b""] * 500, b"k")
    assert fields[-1] == record(0)
