"""What nodes and operators ask of a node: reading it through, comparing it, and commands with a fence."""

import json

import pytest

from kvcache.service.fences import FENCE_JUMP
from kvcache_client.placement.partitions import partition_of
from kvcache_client.protocol.errors import InvalidOption, MalformedFrame, NotOwner, NotReady, StaleEpoch, StaleFence
from kvcache_client.protocol.record import HEADER_BYTES, PayloadType, fence_of, fenced, make_record, unfenced
from kvcache_client.protocol.verbs import Status, Verb


@pytest.fixture
def mine(core):
    """A partition of the node with three records."""
    keys = [key for key in (b"key-%d" % number for number in range(200_000)) if core.service._partition(key) == 5][:3]
    return sorted(keys)


def test_a_partition_is_read_through_in_the_order_of_its_keys(core, record, mine):
    for number, key in enumerate(mine):
        core.put(key, record(number))
    status, more, *rows = core.ask(Verb.SCAN, "", 5, b"", True)
    assert (status, more) == (Status.OK, False)
    assert rows == [field for number, key in enumerate(mine) for field in (key, record(number))]
    assert core.ask(Verb.SCAN, "", 5, mine[1], False) == (Status.OK, False, mine[2], record(2)[:HEADER_BYTES])


def test_equal_partitions_have_equal_digests_and_empty_ones_none(core, make_core, record, mine):
    other = make_core()
    other.join()
    for number, key in enumerate(mine):
        core.put(key, record(number))
    for number, key in reversed(list(enumerate(mine))):
        other.put(key, record(number))
    assert core.ask(Verb.DIGEST, "", 5, 6) == other.ask(Verb.DIGEST, "", 5, 6)
    assert core.ask(Verb.DIGEST, "", 6) == (Status.OK, 0)
    other.put(mine[0], record(50))
    assert core.ask(Verb.DIGEST, "", 5) != other.ask(Verb.DIGEST, "", 5)


@pytest.mark.parametrize("verb", [Verb.SCAN, Verb.DIGEST])
def test_what_is_not_complete_or_not_its_own_is_not_read(core, verb):
    fields = (b"", True) if verb == Verb.SCAN else ()
    with pytest.raises(NotReady, match="knows no move"):
        core.ask(verb, "00aa00aa", 5, *fields)
    core.service.begin_loading([5])
    with pytest.raises(NotReady, match="not loaded"):
        core.ask(verb, "", 5, *fields)
    assert core.ask(verb, "*", 5, *fields)[0] == Status.OK
    core.join(2)
    foreign = next(at for at in range(16384) if not core.service.ownership.writable[at])
    with pytest.raises(NotOwner):
        core.ask(verb, "*", foreign, *fields)


@pytest.mark.parametrize(("verb", "rest"), [(Verb.REPAIR, (5,)), (Verb.RESTORE, (1,)), (Verb.CHANGE, (b"{}",))])
def test_a_lower_fence_is_refused_and_counted(core, verb, rest):
    assert core.ask(verb, 7, *rest)[0] == Status.OK
    assert core.ask(verb, 7, *rest)[0] == Status.OK
    with pytest.raises(StaleFence) as refused:
        core.ask(verb, 6, *rest)
    assert refused.value.detail == 7
    assert core.service.fences.refused == 1
    for no_fence in (0, -1, True, "7", None):
        with pytest.raises(MalformedFrame):
            core.ask(verb, no_fence, *rest)


def test_each_resource_has_fences_of_its_own(core):
    core.ask(Verb.REPAIR, 9, 5)
    core.ask(Verb.CHANGE, 2, b"{}")
    (_, document) = core.ask(Verb.REPORT)
    assert json.loads(document)["fences"] == {"job": 9, "topology": 2}


def test_what_a_node_sees_of_its_machine_comes_as_json(core):
    (status, document) = core.ask(Verb.EXAMINE)
    assert (status, json.loads(document)) == (Status.OK, {"machine": {"descriptors": 9}, "coordinator": None})


def test_what_is_restored_never_beats_what_is_newer(core, record):
    core.put(b"k", record(10))
    asked = core.service.epoch, b"k", record(5), b"other", record(5)
    assert core.ask(Verb.RESTORE, 1, *asked) == (Status.OK, Status.SUPERSEDED, Status.OK)
    assert core.ask(Verb.GET, b"k")[1] == record(10)


def test_what_is_restored_is_routed_like_any_write(core, record):
    before = core.service.epoch
    core.join(2)
    changed = core.service.ownership.changed_at
    keys = [b"key-%d" % number for number in range(200)]
    told = core.ask(Verb.RESTORE, 1, before, *(field for key in keys for field in (key, record(5))))[1:]
    writable = core.service.ownership.writable
    for key, status in zip(keys, told, strict=True):
        partition = partition_of(key, core.service.ownership.seed)
        stale = StaleEpoch.code if changed[partition] > before else Status.OK
        assert status == (stale if writable[partition] else NotOwner.code)
    assert {NotOwner.code, StaleEpoch.code} & set(told)
    with pytest.raises(MalformedFrame, match="epoch"):
        core.ask(Verb.RESTORE, 1, b"k", b"k", record(5))


@pytest.mark.parametrize("verb", [Verb.REPAIR, Verb.RESTORE, Verb.CHANGE])
def test_a_fence_that_no_lock_can_have_given_out_is_refused_and_uses_nothing_up(core, verb):
    for made_up in (8 + FENCE_JUMP, (1 << 53) - 2, 1 << 63):
        core.service.fences.saw("job", 7)
        core.service.fences.saw("topology", 7)
        with pytest.raises(InvalidOption, match=f"fence {made_up}.*the highest seen is 7"):
            core.ask(verb, made_up, 5)
    assert core.service.fences.highest == {"job": 7, "topology": 7}


def test_a_fenced_record_carries_its_value(core):
    flags, payload = fenced(9, PayloadType.TEXT, b"Ada")
    whole = make_record(1 << 30, (1 << 48) - 1, flags, payload)
    assert fence_of(whole) == 9
    assert unfenced(whole) == make_record(1 << 30, (1 << 48) - 1, PayloadType.TEXT, b"Ada")
    plain = make_record(1 << 30, (1 << 48) - 1, PayloadType.TEXT, b"Ada")
    assert (fence_of(plain), unfenced(plain)) == (0, plain)


def test_a_fenced_record_that_is_too_short_is_refused(core):
    for payload in (b"", b"1234567", b"12345678"):
        with pytest.raises(Exception, match="fence"):
            core.put(b"k", make_record(1 << 30, (1 << 48) - 1, PayloadType.FENCED, payload))
    assert len(core.store) == 0


def test_a_partition_that_is_about_to_come_takes_writes_and_answers_no_reads(core, record):
    core.join(2)
    ownership = core.service.ownership
    foreign = next(
        key for key in (b"key-%d" % at for at in range(999)) if not ownership.writable[core.service._partition(key)]
    )
    ownership.writable = bytes(16384 * [1])
    assert core.put(foreign, record(1)) == (Status.OK,)
    with pytest.raises(NotOwner):
        core.ask(Verb.GET, foreign)
    with pytest.raises(NotOwner):
        core.ask(Verb.INCR, core.epoch, foreign, 1, 0, (1 << 48) - 1, 0)
