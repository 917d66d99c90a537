"""The sum of a partition: equal where the same versions are, and nowhere else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from kvcache.store import Store, StoreConfig
from kvcache.store.contents import digest_of
from kvcache.store.table import Table
from kvcache_client.protocol.record import NEVER, TOMBSTONE_MS, make_record, tombstone

Make = Callable[..., Store]

NOW = 1_800_000_000_000


def value(version: int, expiry_ms: int = NEVER) -> bytes:
    return make_record(version, expiry_ms, 1, b"payload")


def holding(versions: dict[bytes, int]) -> Store:
    store = Store(StoreConfig(1 << 20, partitions=1), NOW)
    for key, version in versions.items():
        store.put(0, key, value(version))
    return store


contents = st.dictionaries(st.binary(min_size=1, max_size=3), st.integers(0, 3) | st.integers(0, (1 << 64) - 1))


def test_an_empty_partition_has_the_digest_nought(store: Store) -> None:
    assert store.digest(0) == 0


def test_a_digest_is_the_same_in_every_process_and_release() -> None:
    expected = 637_946_429_565
    assert holding({b"a": 1, b"b": 2, b"user:1": 300}).digest(0) == expected
    program = (
        "from kvcache.store.contents import digest_of\n"
        "from kvcache.store.table import Table\n"
        "from kvcache_client.protocol.record import NEVER, make_record\n"
        "table = Table(0)\n"
        "for key, version in ((b'user:1', 300), (b'b', 2), (b'a', 1)):\n"
        "    table.main[key] = make_record(version, NEVER, 2, b'')\n"
        "print(digest_of(table, 0))\n"
    )
    environment = os.environ | {"PYTHONHASHSEED": "4711", "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert int(run.stdout) == expected


@settings(max_examples=100, deadline=None)
@given(contents, st.randoms(use_true_random=False))
def test_the_order_in_which_records_came_does_not_matter(versions, dice) -> None:
    shuffled = list(versions.items())
    dice.shuffle(shuffled)
    digest = holding(dict(shuffled)).digest(0)
    assert digest == holding(versions).digest(0)
    assert 0 <= digest < 1 << 64


@settings(max_examples=200, deadline=None)
@given(contents, contents)
def test_other_contents_have_another_digest(ones, others) -> None:
    assert (holding(ones).digest(0) == holding(others).digest(0)) is (ones == others)


def test_two_keys_that_swapped_their_versions_show() -> None:
    assert holding({b"a": 1 << 40, b"b": 2}).digest(0) != holding({b"a": 2, b"b": 1 << 40}).digest(0)


def test_one_newer_version_among_thousands_shows(make_store: Make) -> None:
    stores = [make_store(4 << 20), make_store(4 << 20)]
    for number in range(3_000):
        for store in stores:
            store.put(0, b"key %d" % number, value(NOW << 21 | number))
    assert stores[0].digest(0) == stores[1].digest(0)
    stores[1].put(0, b"key 1234", value((NOW + 1) << 21))
    assert stores[0].digest(0) != stores[1].digest(0)


def test_the_queue_that_a_record_lies_in_does_not_matter() -> None:
    small, main = Table(0), Table(0)
    small.small[b"key"] = main.main[b"key"] = value(5)
    assert digest_of(small, NOW) == digest_of(main, NOW) != 0


def test_a_tombstone_counts_until_it_is_over(store: Store) -> None:
    store.put(0, b"key", tombstone(5, NOW + 1_000))
    assert store.digest(0) != 0
    store.advance(NOW + 999, work=0)
    assert store.digest(0) != 0
    store.advance(NOW + 1_000, work=0)
    assert store.digest(0) == 0


def test_an_expired_record_counts_as_its_tombstone_reclaimed_or_not(make_store: Make) -> None:
    idle, busy = make_store(), make_store()
    for store in (idle, busy):
        store.put(0, b"key", value(5, NOW + 1_000))
    before = idle.digest(0)
    for later in (1_000, 2_000, 1_000 + TOMBSTONE_MS - 1):
        busy.advance(NOW + later)
        idle.advance(NOW + later, work=0)
        assert busy.digest(0) == idle.digest(0) == before
    assert busy.statistics().tombstones == idle.statistics().records == 1
    for store in (idle, busy):
        store.advance(NOW + 1_000 + TOMBSTONE_MS, work=0)
        assert store.digest(0) == 0


def test_each_partition_has_a_digest_of_its_own(store: Store) -> None:
    store.put(1, b"key", value(5))
    assert (store.digest(0), store.digest(1) != 0) == (0, True)
