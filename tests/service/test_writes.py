"""Compiled writes say, byte for byte, what the handler of PUT would have said, and leave the same store behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvcache.compiled import native
from kvcache.service.ownership import Ownership
from kvcache.service.writes import PLAIN_FLAGS
from kvcache.store.rows import cost_of
from kvcache_client.core.routing import View
from kvcache_client.placement.partitions import partition_of
from kvcache_client.protocol.errors import KvCacheError
from kvcache_client.protocol.limits import KEY_BYTES
from kvcache_client.protocol.record import MARKED, NEVER, TOMBSTONE, PayloadType, make_record, tombstone, version_of
from kvcache_client.protocol.verbs import Status, Verb
from kvcache_client.protocol.version import MAX_CLOCK_OFFSET_MS, version_at

pytestmark = pytest.mark.skipif(native is None, reason="not compiled")

START_MS = 1_790_000_000_000
PUT = int(Verb.PUT)
OK = int(Status.OK)
KEYS = [b"k", b"a", b"b", b"k" * KEY_BYTES]


def answered(core: Any, message: Any) -> bytes:
    """Return what the handler says, packed; an error by its code."""
    try:
        return msgpack.packb(core.service.handlers[message[1]](message))
    except KvCacheError as error:
        return msgpack.packb((message[0], error.code))


def run(core: Any, messages: list[Any]) -> tuple[bytes, int]:
    """Return what a node says to messages that came together, and how many of them Python did not see."""
    replies: list[bytes] = []
    at = compiled = 0
    while at < len(messages):
        after = core.service.runs.answer(messages, at, replies.append)
        compiled += after - at
        if after == at:
            replies.append(answered(core, messages[at]))
            after += 1
        at = after
    return b"".join(replies), compiled


def state(core: Any) -> tuple[Any, ...]:
    store, seed = core.store, core.service.seed
    return store.statistics(), [store.peek(partition_of(key, seed), key) for key in KEYS]


@pytest.fixture
def put(core: Any, record: Callable[..., bytes]) -> Callable[..., tuple[Any, ...]]:
    """Make the message of a PUT of this node, stamped ``ms`` after the start."""

    def make(ms: int, key: Any = b"k", *, epoch: int | None = None, number: Any = 5, **options: Any) -> tuple[Any, ...]:
        return number, PUT, core.epoch if epoch is None else epoch, key, record(ms, **options)

    return make


@pytest.fixture(scope="session")
def owner(views: list[View]) -> Ownership:
    """Every key is of this node."""
    return Ownership("n1", views[0].topology, views[0].routes)


def compiled(core: Any, *messages: Any) -> int:
    """Return how many of the messages C has answered."""
    return run(core, list(messages))[1]


keys = st.sampled_from(KEYS)
lives = st.sampled_from([NEVER, NEVER, START_MS + 50, START_MS + 90, START_MS - 1, START_MS + 5])
stamps = st.one_of(st.integers(0, 40), st.just(MAX_CLOCK_OFFSET_MS + 60))
kinds = st.sampled_from([PayloadType.BYTES] * 5 + [PayloadType.TEXT, PayloadType.FENCED, PayloadType.RESTORED])
sizes = st.sampled_from([9, 9, 9, 10, 200, 983, 1000, 1001])


@st.composite
def puts(draw: Callable[..., Any]) -> tuple[Any, ...]:
    key, version = draw(keys), version_at(START_MS + draw(stamps)) + 1
    if not draw(st.integers(0, 9)):
        record = tombstone(version, START_MS + 60_000)
    else:
        record = make_record(version, draw(lives), draw(kinds), bytes([draw(st.integers(0, 3))]) * draw(sizes))
    number = draw(st.one_of(st.integers(0, 300), st.integers(0, 2**32)))
    return number, PUT, draw(st.sampled_from([2, 2, 2, 1, 0, 9])), key, record


@given(st.lists(st.tuples(st.lists(puts(), min_size=1, max_size=12), st.sampled_from([0, 0, 4, 30])), max_size=8))
def test_replies_and_the_store_are_those_of_python(core_type, views, owner, rounds):
    ours, plain = core_type(views), core_type(views)
    ours.service.adopt(owner), plain.service.adopt(owner)
    now = 0
    for messages, later in rounds:
        now += later
        ours.at(now), plain.at(now)
        assert run(ours, messages)[0] == b"".join(answered(plain, message) for message in messages)
        assert state(ours) == state(plain)
    ours.at(now + 100), plain.at(now + 100)  # whatever expires has expired
    assert state(ours) == state(plain)
    ours.store.check()


def test_a_newer_value_over_a_living_one_is_for_c_and_nothing_else(core, put, record, grave):
    assert compiled(core, put(0)) == 0  # there is none yet
    assert compiled(core, put(1), put(2, payload=b"longer than before"), put(3, expiry_ms=START_MS + 90)) == 3
    assert core.store.peek(partition_of(b"k", core.service.seed), b"k") == record(3, expiry_ms=START_MS + 90)
    far = MAX_CLOCK_OFFSET_MS + 1
    tombstoned = (5, PUT, core.epoch, b"k", grave(4))
    for other in (
        put(2),
        put(far),
        put(4, expiry_ms=START_MS),
        put(4, payload=bytes(1001)),
        put(4, b"other"),
        tombstoned,
    ):
        assert compiled(core, other) == 0, other
    assert compiled(core, put(5, b"k")) == 0  # it was deleted


@pytest.mark.parametrize(
    "spoil",
    [
        lambda number, verb, epoch, key, record: (number, verb, epoch, key),
        lambda number, verb, epoch, key, record: (number, verb, epoch, key, record, 1),
        lambda number, verb, epoch, key, record: [number, verb, epoch, key, record],
        lambda number, verb, epoch, key, record: (-1, verb, epoch, key, record),
        lambda number, verb, epoch, key, record: (2**64, verb, epoch, key, record),
        lambda number, verb, epoch, key, record: ("5", verb, epoch, key, record),
        lambda number, verb, epoch, key, record: (number, -verb, epoch, key, record),
        lambda number, verb, epoch, key, record: (number, verb + 2**64, epoch, key, record),
        lambda number, verb, epoch, key, record: (number, int(Verb.GET), epoch, key, record),
        lambda number, verb, epoch, key, record: (number, verb, -1, key, record),
        lambda number, verb, epoch, key, record: (number, verb, 2**64, key, record),
        lambda number, verb, epoch, key, record: (number, verb, True, key, record),
        lambda number, verb, epoch, key, record: (number, verb, epoch, "k", record),
        lambda number, verb, epoch, key, record: (number, verb, epoch, b"", record),
        lambda number, verb, epoch, key, record: (number, verb, epoch, key * (KEY_BYTES + 1), record),
        lambda number, verb, epoch, key, record: (number, verb, epoch, key, record[:14]),
        lambda number, verb, epoch, key, record: (number, verb, epoch, key, bytearray(record)),
        lambda number, verb, epoch, key, record: (number, verb, epoch, key, None),
        *(lambda *_, other=other: other for other in ((), (5,), None, 7, b"k")),
    ],
)
def test_what_is_no_put_is_left_to_python_and_changes_nothing(core, put, spoil):
    core.service.handlers[PUT](put(0))
    before = state(core)
    messages = [spoil(*put(1)), put(2)]
    assert core.service.runs.answer(messages, 0, pytest.fail) == 0
    assert state(core) == before


def test_a_write_of_another_node_or_routed_by_an_epoch_that_is_over_is_left_to_python(half, put, record):
    mine, other = half.key(mine=True), half.key(mine=False)
    half.put(mine, record(0))
    assert compiled(half, put(1, mine, epoch=half.epoch)) == 1
    assert compiled(half, put(2, mine, epoch=half.epoch - 1)) == 1  # it had the same writers then
    half.service.ownership.changed_at[partition_of(mine, half.service.seed)] = half.epoch
    assert compiled(half, put(3, mine, epoch=half.epoch - 1)) == 0
    half.store.put(partition_of(other, half.service.seed), other, record(0))  # it was this node's until just now
    assert compiled(half, put(3, other, epoch=half.epoch)) == 0
    assert compiled(half, put(4, mine, epoch=half.epoch)) == 1


def test_nothing_is_taken_before_the_node_has_joined(stranger, put):
    assert compiled(stranger, put(0), put(1)) == 0


def test_what_a_flush_hides_is_left_to_python_and_what_is_newer_is_not(core, put, record):
    core.put(b"k", record(0))
    view = core.views[0]
    flush = version_of(record(10))
    assert core.adopt(View(replace(view.topology, epoch=view.epoch + 9, generations=(("", flush),))))
    for hidden in (put(10), put(5)):  # the first look by Python removes what is hidden
        assert compiled(core, hidden) == 0
        assert core.service.handlers[PUT](hidden)[1] == Status.SUPERSEDED
    core.put(b"k", record(11))
    assert compiled(core, put(12)) == 1


def test_who_holds_a_lease_hears_of_writes(core, put, record):
    core.put(b"k", record(0))
    assert core.ask(Verb.LEASE, core.epoch, b"other", 7, 1000)[0] == Status.GRANTED
    assert core.service.runs.writes is None
    assert compiled(core, put(1)) == 0


def test_records_grow_by_no_more_than_there_is_room(core, put, record):
    core.put(b"k", record(0, b"v"))
    writes, now6 = core.service.runs.writes, core.store.now6
    around = core.service.runs.floor, core.service.runs.horizon
    larger = put(1, payload=b"v" * 9)
    grows = cost_of(b"k", larger[4]) - cost_of(b"k", record(0, b"v"))
    assert grows > 0
    assert writes.answer([larger], 0, now6, *around, grows - 1) is None
    assert writes.answer([put(1, payload=b"w")], 0, now6, *around, -5)[2] == 0  # of the same size
    larger = put(2, payload=b"v" * 9)
    assert writes.answer([larger, larger], 0, now6, *around, grows) == (msgpack.packb((5, OK)), 1, grows)
    core.put(b"a", record(0, b"v"))
    others = [put(3, payload=b"v" * 17), put(3, b"a", payload=b"v" * 9)]
    assert writes.answer(others, 0, now6, *around, 8 + grows - 1)[1:] == (1, 8)
    assert writes.answer(others, 1, now6, *around, grows)[1:] == (2, grows)
    core.store.live.ledger.used += grows + 8 + grows  # what ``Runs`` does
    smaller = put(4, payload=b"v" * 9)
    assert writes.answer([smaller], 0, now6, *around, -9) is None
    assert writes.answer([smaller], 0, now6, *around, -8) == (msgpack.packb((5, OK)), 1, -8)
    core.store.live.ledger.used -= 8


def test_a_failure_is_told_of_once_what_came_before_it_is_answered(core, put, record):
    def broken(partition: int, ms: int) -> None:
        raise KvCacheError("broken")

    core.put(b"k", record(0))
    writes = native.Writes(core.store.tables, broken, put=PUT, ok=OK, limit=1000, plain=PLAIN_FLAGS)
    ownership = core.service.ownership
    writes.answer_for(ownership.writable, ownership.changed_at, ownership.seed)
    around = core.store.now6, core.service.runs.floor, core.service.runs.horizon, 1000
    messages = [put(1), put(2, expiry_ms=START_MS + 50), put(3)]
    assert writes.answer(messages, 0, *around) == (msgpack.packb((5, OK)), 1, 0)
    with pytest.raises(KvCacheError, match="broken"):
        writes.answer(messages, 1, *around)
    assert core.store.peek(partition_of(b"k", ownership.seed), b"k") == record(1)
    assert writes.answer(messages, 2, *around) == (msgpack.packb((5, OK)), 3, 0)


def test_what_python_removes_meanwhile_is_not_written_to(core, put, record):
    partition = partition_of(b"k", core.service.seed)

    def remove(*_: int) -> None:
        core.store.forget(partition, b"k", version_of(record(0)))

    core.put(b"k", record(0))
    writes = native.Writes(core.store.tables, remove, put=PUT, ok=OK, limit=1000, plain=PLAIN_FLAGS)
    ownership = core.service.ownership
    writes.answer_for(ownership.writable, ownership.changed_at, ownership.seed)
    around = core.store.now6, core.service.runs.floor, core.service.runs.horizon, 1000
    assert writes.answer([put(1, expiry_ms=START_MS + 50)], 0, *around) is None
    assert core.store.peek(partition, b"k") is None


def test_what_is_no_call_is_refused(core, put):
    writes, now6 = core.service.runs.writes, core.store.now6
    version = bytes(8)
    messages = [put(1)]
    numbers = {"put": PUT, "ok": OK, "limit": 1000, "plain": PLAIN_FLAGS}
    for wrong, error in (
        (lambda: writes.answer(messages, 1, now6, version, version, 0), IndexError),
        (lambda: writes.answer(messages, -1, now6, version, version, 0), IndexError),
        (lambda: writes.answer(tuple(messages), 0, now6, version, version, 0), TypeError),
        (lambda: writes.answer(messages, 0, now6, version, version), TypeError),
        (lambda: writes.answer(messages, 0, b"short", version, version, 0), ValueError),
        (lambda: writes.answer(messages, 0, now6, b"short", version, 0), ValueError),
        (lambda: writes.answer(messages, 0, now6, version, None, 0), ValueError),
        (lambda: writes.answer(messages, 0, now6, version, version, 2**70), OverflowError),
        (lambda: writes.answer_for(bytearray(b"\1"), [0], 7), TypeError),
        (lambda: writes.answer_for(b"\1", (0,), 7), TypeError),
        (lambda: native.Writes((), print, **numbers), TypeError),
        (lambda: native.Writes([], print, **{**numbers, "plain": b"short"}), ValueError),
    ):
        with pytest.raises(error):
            wrong()


def test_flags_are_plain_unless_something_must_be_asked(core):
    assert not any(PLAIN_FLAGS[flags] for flags in (*MARKED, *range(TOMBSTONE, 256)))
    assert all(PLAIN_FLAGS[kind] for kind in PayloadType if kind not in MARKED)
