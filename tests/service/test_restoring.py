"""What a restore brings back over a flush: the order of versions holds, whatever is restored, flushed and written in between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvcache.cluster.changes import purge
from kvcache.cluster.restoring import lifted
from kvcache.service.assembly import assemble
from kvcache.service.ownership import Ownership
from kvcache.service.service import Identity, Service
from kvcache.store import Store, StoreConfig
from kvcache_client.core.routing import View
from kvcache_client.placement.topology import Member, Topology
from kvcache_client.protocol.errors import InvalidRecord
from kvcache_client.protocol.record import (
    NEVER,
    PayloadType,
    brought_over,
    fence_of,
    fenced,
    is_tombstone,
    make_record,
    payload_of,
    restored,
    tombstone,
    unfenced,
    unrestored,
    version_of,
)
from kvcache_client.protocol.verbs import Status, Verb
from kvcache_client.protocol.version import HybridClock, version_at

NOW = 1_790_000_000_000
KEYS = (b"a:1", b"a:2", b"b:1")
LIMIT = 1 << 10


def value(version: int, payload: bytes) -> bytes:
    return make_record(version, NEVER, PayloadType.BYTES, payload)


@dataclass
class Life:
    """One node, and a plain account of what it must show: of each key the highest version that nothing hides."""

    now_ms: int = NOW
    snapshots: list[dict[bytes, bytes]] = field(default_factory=list)
    seen: dict[bytes, bytes] = field(default_factory=dict)
    generations: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        found = Topology.found("test", cluster_id="00c0ffee", seed=7, replication_factor=1)
        self.topology = found.with_member(Member("n1", "127.0.0.1:7701")).settled()
        clock = HybridClock(lambda: self.now_ms, 1)
        self.service: Service = assemble(Identity("n1", "test", LIMIT), Store(StoreConfig(16 << 20), NOW), clock, dict)
        self.adopt()

    def adopt(self) -> None:
        routes = View(self.topology).routes
        self.service.adopt(Ownership("n1", self.topology, routes, self.service.ownership))

    def write(self, key: bytes, payload: bytes) -> None:
        self.put(key, value(self.service.clock.stamp(), payload))

    def delete(self, key: bytes) -> None:
        self.put(key, tombstone(self.service.clock.stamp(), self.now_ms + 60_000))

    def put(self, key: bytes, record: bytes) -> None:
        self.now_ms += 1
        self.service.tick()
        self.service.take(key, record)
        self.expect(key, record)

    def expect(self, key: bytes, record: bytes) -> None:
        if version_of(record) >= version_of(self.seen.get(key, bytes(15))):
            self.seen[key] = record

    def flush(self, prefix: str) -> None:
        version = version_at(self.now_ms + 250)
        self.topology = purge(self.topology, prefix, version, 0)
        self.generations = self.topology.generations
        self.adopt()
        self.seen = {key: record for key, record in self.seen.items() if not key.startswith(prefix.encode())}

    def snapshot(self) -> None:
        found = {key: self.service.standing(self.partition(key), key) for key in KEYS}
        self.snapshots.append({key: unrestored(record) for key, record in found.items() if record is not None})

    def restore(self, number: int) -> None:
        if self.snapshots:
            for key, record in self.snapshots[number % len(self.snapshots)].items():
                brought = lifted(key, record, self.generations)
                self.service.take(key, brought)
                if not is_tombstone(record) or version_of(record) > self.hidden_to(key):
                    self.expect(key, record)

    def hidden_to(self, key: bytes) -> int:
        return self.service.generations.hidden_to(key)

    def partition(self, key: bytes) -> int:
        return View(self.topology).partition(key)

    def shown(self) -> dict[bytes, bytes]:
        found = {key: self.service.live(self.partition(key), key) for key in KEYS}
        return {key: payload_of(unfenced(record)) for key, record in found.items() if record is not None}


keys = st.sampled_from(KEYS)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), keys, st.binary(min_size=1, max_size=3)),
        st.tuples(st.just("delete"), keys),
        st.tuples(st.just("flush"), st.sampled_from(["", "a:", "a:1"])),
        st.tuples(st.just("snapshot")),
        st.tuples(st.just("restore"), st.integers(0, 5)),
    ),
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(steps)
def test_of_each_key_the_newest_that_nothing_hides_is_shown(script) -> None:
    life = Life()
    for name, *arguments in script:
        getattr(life, name)(*arguments)
        assert life.shown() == {key: payload_of(it) for key, it in life.seen.items() if not is_tombstone(it)}


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(keys, st.integers(1, 9), st.binary(max_size=3)), max_size=12),
    st.randoms(use_true_random=False),
)
def test_whatever_the_order_of_restores_two_nodes_end_alike(records, dice) -> None:
    one, other = Life(), Life()
    for life in (one, other):
        life.flush("")
    brought = [(key, lifted(key, value(version, payload), one.generations)) for key, version, payload in records]
    shuffled = [*brought, *brought[:3]]
    dice.shuffle(shuffled)
    for life, order in ((one, brought), (other, shuffled)):
        for key, record in order:
            life.service.take(key, record)
    assert one.shown() == other.shown()


def test_the_newer_of_two_snapshots_stays_whichever_is_restored_last() -> None:
    life = Life()
    for payload in (b"old", b"new"):
        life.write(b"a:1", payload)
        life.snapshot()
    life.flush("")
    life.restore(0)
    assert life.shown() == {b"a:1": b"old"}
    life.restore(1)
    life.restore(0)
    assert life.shown() == {b"a:1": b"new"}
    life.flush("a:")
    assert life.shown() == {}
    life.restore(0)
    assert life.shown() == {b"a:1": b"old"}


def test_nothing_written_after_the_flush_is_beaten() -> None:
    life = Life()
    life.write(b"a:1", b"before")
    life.snapshot()
    life.flush("")
    first = life.hidden_to(b"a:1") + 1  # the lowest version that anybody can write now
    assert life.service.take(b"a:1", value(first, b"after")) == Status.OK
    life.restore(0)
    assert life.shown() == {b"a:1": b"after"}


def test_a_restored_counter_counts_on_and_a_restored_value_may_be_as_large_as_any() -> None:
    life = Life()
    life.flush("")
    counter = make_record(5, NEVER, PayloadType.INTEGER, b"41")
    life.service.take(b"a:1", lifted(b"a:1", counter, life.generations))
    reply = life.service.handlers[Verb.INCR]((1, Verb.INCR, life.topology.epoch, b"a:1", 1, None, None, 0))
    assert payload_of(reply[2]) == b"42"
    whole = lifted(b"a:2", value(5, bytes(LIMIT)), life.generations)
    assert life.service.take(b"a:2", whole) == Status.OK
    assert life.shown()[b"a:2"] == bytes(LIMIT)


def test_a_value_under_a_fence_keeps_its_fence() -> None:
    written = make_record(5, NEVER, *fenced(7, PayloadType.TEXT, b"x"))
    back = restored(written, 9)
    assert (fence_of(back), brought_over(back), version_of(back)) == (7, 9, 5)
    assert unrestored(back) == unrestored(restored(back, 11)) == written
    assert unfenced(back) == make_record(5, NEVER, PayloadType.TEXT, b"x")
    assert brought_over(written) == -1


@pytest.mark.parametrize(
    "make",
    [
        lambda: restored(value(5, b""), (1 << 64) - 1),
        lambda: restored(value(5, b""), version_at(NOW + 3_600_000)),
        lambda: make_record(5, NEVER, PayloadType.RESTORED, b"short"),
        lambda: make_record(5, NEVER, PayloadType.FENCED, b""),
    ],
)
def test_a_mark_that_no_flush_could_hide_again_is_refused(make: Callable[[], bytes]) -> None:
    with pytest.raises(InvalidRecord):
        Life().service.take(b"a:1", make())
