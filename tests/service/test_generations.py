"""What a flush or a purge hides, against the plain definition of it."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvcache.service.generations import NO_GENERATIONS, Generation, Generations, sweep
from kvcache.store import Store, StoreConfig
from kvcache_client.placement.topology import hidden_to, hides
from kvcache_client.protocol.errors import InvalidOption
from kvcache_client.protocol.record import (
    HEADER_BYTES,
    NEVER,
    TOMBSTONE_MS,
    make_record,
    restored,
    tombstone,
    version_of,
)

NOW = 1_800_000_000_000

prefixes = st.text(alphabet="abé", max_size=3)
versions = st.integers(0, 6) | st.integers(0, (1 << 64) - 1)
pairs = st.lists(st.tuples(prefixes, versions), max_size=6)
keys = st.text(alphabet="abé", min_size=1, max_size=4).map(str.encode) | st.binary(min_size=1, max_size=3)


def value(version: int) -> bytes:
    return make_record(version, NEVER, 1, b"payload")


def is_hidden(generations: Iterable[Generation], key: bytes, version: int) -> bool:
    """The definition."""
    return any(key.startswith(prefix.encode()) and version <= highest for prefix, highest in generations)


@settings(max_examples=300, deadline=None)
@given(pairs, keys, versions)
def test_a_record_is_hidden_as_the_definition_says(generations, key, version) -> None:
    assert Generations(generations).hides(key, value(version)) is is_hidden(generations, key, version)


@settings(max_examples=300, deadline=None)
@given(pairs, keys, versions, st.none() | versions)
def test_nodes_and_clients_agree_on_what_is_hidden(generations, key, version, over) -> None:
    """A node looks prefixes up by their length for each write; a client goes through them all, seldom."""
    record = value(version) if over is None else restored(value(version), over)
    node = Generations(generations)
    assert node.hides(key, record) is hides(node.pairs, key, record)
    assert node.hidden_to(key) == hidden_to(node.pairs, key)


@settings(max_examples=200, deadline=None)
@given(pairs)
def test_no_generation_of_the_normal_form_can_be_left_out(generations) -> None:
    normal = Generations(generations).pairs
    for number, (prefix, version) in enumerate(normal):
        others = normal[:number] + normal[number + 1 :]
        assert not is_hidden(others, prefix.encode(), version)
    assert list(normal) == sorted(normal, key=lambda pair: pair[0].encode())


@settings(max_examples=200, deadline=None)
@given(pairs, st.randoms(use_true_random=False))
def test_the_normal_form_is_the_same_in_whatever_order_they_came(generations, dice) -> None:
    shuffled = [*generations, *generations[:2]]
    dice.shuffle(shuffled)
    one, other = Generations(generations), Generations(shuffled)
    assert one == other == Generations(one.pairs)
    assert hash(one) == hash(other)


@settings(max_examples=200, deadline=None)
@given(pairs, pairs, keys, versions)
def test_merged_they_hide_what_either_hides(ones, others, key, version) -> None:
    merged = Generations(ones).merged(others)
    assert merged.hides(key, value(version)) is is_hidden([*ones, *others], key, version)
    assert merged == Generations(others).merged(ones)


@settings(max_examples=200, deadline=None)
@given(pairs, pairs)
def test_the_newer_ones_are_all_that_the_older_ones_lack(before, added) -> None:
    old = Generations(before)
    new = old.merged(added)
    newer = new.newer_than(old)
    assert old.merged(newer) == new
    assert not any(is_hidden(before, prefix.encode(), version) for prefix, version in newer)
    assert old.newer_than(new) == old.newer_than(old) == ()


def test_a_flush_makes_every_older_generation_superfluous() -> None:
    generations = Generations([("user:", 5), ("user:1", 9), ("", 7), ("shop:", 7), ("zoo:", 8)])
    assert generations.pairs == (("", 7), ("user:1", 9), ("zoo:", 8))


def test_of_two_under_one_prefix_the_higher_stays() -> None:
    assert Generations([("a", 5), ("a", 7), ("a", 6)]).pairs == (("a", 7),)


def test_a_prefix_is_compared_in_utf8_and_only_as_a_whole() -> None:
    generations = Generations([("é", 5)])
    assert generations.hides("été".encode(), value(5))
    assert not generations.hides("é".encode()[:1], value(5))
    assert not generations.hides("été".encode(), value(6))


def test_a_header_is_enough_to_judge_and_tombstones_are_hidden_too() -> None:
    generations = Generations([("", 5)])
    assert generations.hides(b"key", value(5)[:HEADER_BYTES])
    assert generations.hides(b"key", tombstone(5, NOW))
    assert not generations.hides(b"key", tombstone(6, NOW))


def test_none_hide_nothing() -> None:
    assert not NO_GENERATIONS
    assert len(NO_GENERATIONS) == 0
    assert not NO_GENERATIONS.hides(b"key", value(0))
    assert Generations([("", 0)])


def test_those_too_old_to_matter_are_pruned() -> None:
    generations = Generations([("", 5), ("a", 7), ("b", 9)])
    assert generations.pruned(7).pairs == (("a", 7), ("b", 9))
    assert generations.pruned(10) == NO_GENERATIONS
    assert len(generations) == 3


def test_the_looks_for_a_key_follow_the_lengths_of_prefixes_not_their_number() -> None:
    generations = Generations((f"{number:04}", number + 1) for number in range(2_000))
    assert len(generations) == 2_000
    assert len(generations._by_length) == 1
    assert generations.hides(b"1999 and on", value(2_000))


@pytest.mark.parametrize(
    ("generation", "named"),
    [(("a", -1), "-1"), (("a", 1 << 64), str(1 << 64)), (("x" * 1_025, 1), "1025"), (("\ud800", 1), "ud800")],
)
def test_a_generation_that_cannot_be_is_refused(generation: Generation, named: str) -> None:
    with pytest.raises(InvalidOption, match=named):
        Generations([generation])


def test_generations_show_themselves_in_short() -> None:
    assert repr(NO_GENERATIONS) == "<Generations 0>"
    assert repr(Generations([("a", 16)])) == "<Generations 1: 'a' up to 0x10>"
    assert repr(Generations((f"{number}", 1) for number in range(9))).endswith(", ...>")


@pytest.fixture
def store() -> Iterable[Store]:
    """Partition 0 with values and tombstones of versions 1 to 9 under ``a`` and ``b``; partition 1 with one value."""
    store = Store(StoreConfig(1 << 20, partitions=2), NOW)
    for number in range(1, 10):
        store.put(0, b"a%d" % number, value(number))
        store.put(0, b"b%d" % number, tombstone(number, NOW + TOMBSTONE_MS))
    store.put(1, b"a", value(1))
    yield store
    store.check()


def test_a_sweep_forgets_what_is_hidden_and_nothing_else(store: Store) -> None:
    generations = Generations([("a", 4), ("b", 6)])
    kept = {key: record for key, record in store.records(0) if not generations.hides(key, record)}
    assert sweep(store, generations, 0) == 4 + 6
    assert dict(store.records(0)) == kept
    assert sweep(store, generations, 0) == 0
    assert len(list(store.records(1))) == 1


def test_a_sweep_after_a_flush_leaves_the_newer_records(store: Store) -> None:
    assert sweep(store, Generations([("", 8)]), 0) == 16
    assert [version_of(record) for _, record in store.records(0)] == [9, 9]


def test_a_partition_that_is_hidden_as_a_whole_gives_its_memory_back(store: Store) -> None:
    assert sweep(store, Generations([("", 9)]), 0) == 18
    assert list(store.records(0)) == []
    assert (len(store), store.statistics().tombstones) == (1, 0)


def test_without_generations_a_sweep_does_nothing(store: Store) -> None:
    assert sweep(store, NO_GENERATIONS, 0) == 0
    assert len(list(store.records(0))) == 18
