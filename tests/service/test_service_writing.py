"""PUT, PUT_MANY, HINT: what a node keeps, what it refuses, and that every write may be repeated."""

import itertools

import pytest

from kvcache.cluster.changes import purge
from kvcache_client.core.routing import View
from kvcache_client.protocol.errors import (
    BatchTooLarge,
    ClockSkew,
    InvalidKey,
    InvalidRecord,
    MalformedFrame,
    NotOwner,
    NotReady,
    StaleEpoch,
    ValueTooLarge,
)
from kvcache_client.protocol.limits import KEYS_PER_FRAME
from kvcache_client.protocol.record import NEVER, TOMBSTONE, make_record, tombstone, version_of
from kvcache_client.protocol.verbs import Status, Verb
from kvcache_client.protocol.version import MAX_CLOCK_OFFSET_MS, version_at, version_ms

KEY = b"k"


def asks(core, verb, record, key=KEY):
    """Write ``record`` by one of the three writing verbs; return status and what follows."""
    if verb == Verb.PUT_MANY:
        status, *statuses = core.ask(verb, core.epoch, key, record)
        assert (status, len(statuses)) == (Status.OK, 1)
        return (statuses[0],)
    return core.ask(verb, "n2" if verb == Verb.HINT else core.epoch, key, record)


def refusal(core, verb, record, key=KEY):
    """Return the code of the error that a write meets."""
    if verb == Verb.PUT_MANY:
        return asks(core, verb, record, key)[0]
    with pytest.raises(Exception) as refused:  # noqa: PT011
        asks(core, verb, record, key)
    return refused.value.code


WRITING = pytest.mark.parametrize("verb", [Verb.PUT, Verb.PUT_MANY, Verb.HINT])


@WRITING
def test_a_newer_record_replaces_an_older_one(core, record, verb):
    assert asks(core, verb, record(0, b"old")) == (Status.OK,)
    assert asks(core, verb, record(1, b"new")) == (Status.OK,)
    assert core.ask(Verb.GET, KEY) == (Status.OK, record(1, b"new"))


@WRITING
def test_an_older_record_is_superseded(core, record, verb):
    asks(core, verb, record(1, b"new"))
    reply = asks(core, verb, record(0, b"old"))
    assert reply[0] == Status.SUPERSEDED
    assert core.ask(Verb.GET, KEY) == (Status.OK, record(1, b"new"))


@pytest.mark.parametrize("verb", [Verb.PUT, Verb.HINT])
def test_superseded_tells_by_which_version(core, record, grave, verb):
    asks(core, verb, record(1))
    assert asks(core, verb, record(0)) == (Status.SUPERSEDED, version_of(record(1)))
    assert asks(core, verb, grave(0)) == (Status.SUPERSEDED, version_of(record(1)))
    asks(core, verb, grave(2))
    assert asks(core, verb, record(1)) == (Status.SUPERSEDED, version_of(grave(2)))


@pytest.mark.parametrize("verb", [Verb.PUT, Verb.HINT])
def test_what_a_flush_hides_is_told_of_what_was_written_since(core, record, verb):
    flushed_to = version_at(version_ms(version_of(record(5))))
    core.adopt(View(purge(core.views[0].topology, "", flushed_to, 0)))
    assert asks(core, verb, record(3)) == (Status.SUPERSEDED, flushed_to)
    asks(core, verb, record(9))
    assert asks(core, verb, record(3)) == (Status.SUPERSEDED, version_of(record(9)))


@WRITING
def test_the_same_record_may_come_twice(core, record, verb):
    assert asks(core, verb, record(0)) == (Status.OK,)
    assert asks(core, verb, record(0)) == (Status.OK,)
    assert core.ask(Verb.GET, KEY) == (Status.OK, record(0))


@WRITING
def test_a_tombstone_is_ok_where_it_ends_something_and_else_a_miss(core, record, grave, verb):
    assert asks(core, verb, grave(0)) == (Status.MISS,)
    asks(core, verb, record(1))
    assert asks(core, verb, grave(2)) == (Status.OK,)
    assert asks(core, verb, grave(2)) == (Status.MISS,)
    assert asks(core, verb, grave(3)) == (Status.MISS,)
    assert core.ask(Verb.PEEK, KEY) == (Status.OK, grave(3))


@WRITING
def test_a_tombstone_finds_nothing_where_a_record_has_expired(core, record, grave, verb):
    asks(core, verb, record(0, expiry_ms=core.now_ms + 5))
    core.at(5)
    assert asks(core, verb, grave(5)) == (Status.MISS,)


def test_ties_end_alike_in_whichever_order_they_come(make_core, record, grave):
    rivals = [record(0, b"a"), record(0, b"b"), record(0, b"b", expiry_ms=NEVER - 1), grave(0)]
    for count, winner in ((3, rivals[1]), (4, rivals[3])):
        for order in itertools.permutations(rivals[:count]):
            core = make_core()
            core.join()
            for rival in order:
                core.put(KEY, rival)
            assert core.ask(Verb.PEEK, KEY) == (Status.OK, winner)


@WRITING
def test_a_version_up_to_the_tolerated_offset_is_kept(core, record, verb):
    assert asks(core, verb, record(MAX_CLOCK_OFFSET_MS, writer=4095)) == (Status.OK,)


@WRITING
def test_a_version_one_millisecond_further_ahead_is_refused(core, record, verb):
    ahead = record(MAX_CLOCK_OFFSET_MS + 1, writer=0)
    assert refusal(core, verb, ahead) == ClockSkew.code
    assert core.ask(Verb.GET, KEY) == (Status.MISS,)
    core.at(1)
    assert asks(core, verb, ahead) == (Status.OK,)


def test_clock_skew_tells_the_time_of_the_node(core, record):
    with pytest.raises(ClockSkew, match="500 ms") as refused:
        core.put(KEY, record(10_000))
    assert refused.value.detail == core.now_ms


def test_a_bad_clock_cannot_make_a_key_undeletable(core, grave):
    far = tombstone((1 << 64) - 1, NEVER)
    with pytest.raises(ClockSkew):
        core.put(KEY, far)
    assert core.put(KEY, grave(0)) == (Status.MISS,)


@WRITING
@pytest.mark.parametrize("size", [0, 1, 1000])
def test_a_payload_up_to_the_limit_is_kept(core, record, verb, size):
    assert asks(core, verb, record(0, b"x" * size)) == (Status.OK,)


@WRITING
def test_a_payload_one_byte_over_the_limit_is_refused(core, record, verb):
    asks(core, verb, record(0))
    assert refusal(core, verb, record(1, b"x" * 1001)) == ValueTooLarge.code
    assert core.ask(Verb.GET, KEY) == (Status.OK, record(0))


def test_value_too_large_names_size_and_limit(core, record):
    with pytest.raises(ValueTooLarge, match=r"1001 bytes.*1000") as refused:
        core.put(KEY, record(0, b"x" * 1001))
    assert refused.value.detail == 1000


@WRITING
@pytest.mark.parametrize(
    "bad",
    [b"", b"x" * 14, None, "text" * 10, 7, (), make_record(version_at(1), NEVER, TOMBSTONE, b"!"), b"\xff" * 20],
    ids=lambda bad: repr(bad)[:12],
)
def test_what_is_no_record_is_refused(core, verb, bad):
    assert refusal(core, verb, bad) == InvalidRecord.code
    assert core.ask(Verb.PEEK, KEY) == (Status.MISS,)


@WRITING
@pytest.mark.parametrize("key", [b"", b"x" * 1025, "text", None, 7, ()], ids=lambda key: repr(key)[:12])
def test_a_bad_key_keeps_nothing(core, record, verb, key):
    assert refusal(core, verb, record(0), key) == InvalidKey.code
    assert len(core.store) == 0


@WRITING
def test_nothing_is_kept_before_the_node_has_joined(stranger, record, verb):
    assert refusal(stranger, verb, record(0)) == NotReady.code
    assert len(stranger.store) == 0


def test_a_key_of_another_node_is_refused_with_the_epoch(half, record):
    key = half.key(mine=False)
    with pytest.raises(NotOwner, match="n1 does not own") as refused:
        half.put(key, record(0))
    assert refused.value.detail == half.epoch
    assert half.ask(Verb.PUT_MANY, half.epoch, key, record(0)) == (Status.OK, NotOwner.code)
    assert len(half.store) == 0


def test_a_stand_in_keeps_a_hint_for_a_key_of_another_node(half, record):
    key = half.key(mine=False)
    assert half.ask(Verb.HINT, "n2", key, record(0)) == (Status.OK,)
    assert half.ask(Verb.PEEK, key) == (Status.OK, record(0), "n2")
    with pytest.raises(NotOwner):
        half.ask(Verb.GET, key)


def test_only_hints_that_were_kept_are_counted(half, record):
    key = half.key(mine=False)
    half.ask(Verb.HINT, "n2", key, record(0))
    with pytest.raises(InvalidRecord):
        half.ask(Verb.HINT, "n2", key, b"")
    assert len(half.service.hints) == 1


def test_a_partition_that_changed_owners_refuses_requests_routed_before(half, views, record):
    before = half.epoch
    kept = [b"%d" % number for number in range(500) if views[2].owners[views[2].partition(b"%d" % number)] == ("n1",)]
    half.join(3)
    assert kept
    assert {half.ask(Verb.PUT, before, key, record(0)) for key in kept} == {(Status.OK,)}


def test_a_partition_that_was_gained_is_stale_by_the_old_epoch(make_core, views, record):
    core = make_core()
    core.join(2)
    back = views[0].topology.with_member(views[0].topology.members[0]).settled()
    alone = type(views[0])(type(back).from_json(back.to_json().replace(b'"epoch":3', b'"epoch":9')))
    gained = core.key(mine=False)
    kept = core.key(mine=True)
    before = core.epoch
    assert core.adopt(alone)
    assert core.ask(Verb.PUT, before, kept, record(0)) == (Status.OK,)
    for epoch in (before, 8):
        with pytest.raises(StaleEpoch) as refused:
            core.ask(Verb.PUT, epoch, gained, record(0))
        assert refused.value.detail == 9
        assert core.ask(Verb.PUT_MANY, epoch, gained, record(0), kept, record(0))[1:] == (StaleEpoch.code, Status.OK)
    assert core.ask(Verb.PUT, 9, gained, record(0)) == (Status.OK,)


def test_a_request_that_knows_a_newer_epoch_than_the_node_is_done(core, record):
    assert core.ask(Verb.PUT, core.epoch + 5, KEY, record(0)) == (Status.OK,)


def test_put_many_gives_each_pair_its_own_status(core, record, grave):
    core.put(b"newer", record(5))
    core.put(b"doomed", record(0))
    pairs = [
        (b"new", record(0)),
        (b"newer", record(1)),
        (b"", record(0)),
        (b"big", record(0, b"x" * 1001)),
        (b"odd", b"short"),
        (b"doomed", grave(1)),
        (b"nothing", grave(1)),
        (b"ahead", record(501)),
        (b"last", record(0)),
    ]
    status, *statuses = core.ask(Verb.PUT_MANY, core.epoch, *itertools.chain(*pairs))
    assert status == Status.OK
    assert statuses == [
        Status.OK,
        Status.SUPERSEDED,
        InvalidKey.code,
        ValueTooLarge.code,
        InvalidRecord.code,
        Status.OK,
        Status.MISS,
        ClockSkew.code,
        Status.OK,
    ]
    assert len(core.store) == 3


def test_put_many_of_nothing_does_nothing(core):
    assert core.ask(Verb.PUT_MANY, core.epoch) == (Status.OK,)


@pytest.mark.parametrize("verb", [Verb.PUT_MANY, Verb.RESTORE])
def test_a_message_takes_as_many_records_as_the_protocol_says(core, record, verb):
    numbers = (core.epoch,) if verb == Verb.PUT_MANY else (1, core.epoch)
    pairs = [field for number in range(KEYS_PER_FRAME + 1) for field in (b"%d" % number, record(0))]
    with pytest.raises(BatchTooLarge, match="1025 keys in one message, the limit is 1024"):
        core.ask(verb, *numbers, *pairs)
    assert len(core.store) == 0
    assert core.ask(verb, *numbers, *pairs[:-2]) == (Status.OK,) * (KEYS_PER_FRAME + 1)


def test_put_many_with_half_a_pair_does_nothing_at_all(core, record):
    with pytest.raises(MalformedFrame, match="pairs"):
        core.ask(Verb.PUT_MANY, core.epoch, b"a", record(0), b"b")
    assert len(core.store) == 0


@pytest.mark.parametrize("epoch", [None, 1.0, "2", True, ()])
def test_an_epoch_that_is_no_integer_is_malformed_and_does_nothing(core, record, epoch):
    for verb in (Verb.PUT, Verb.PUT_MANY):
        with pytest.raises(MalformedFrame, match="epoch"):
            core.ask(verb, epoch, KEY, record(0))
    assert len(core.store) == 0


def test_the_budget_holds_whatever_is_put(core, record):
    for number in range(20_000):
        core.put(b"%d" % number, record(0, b"x" * 1000))
    assert core.store.used_bytes <= core.store.budget_bytes
    assert core.store.statistics().evictions > 0
