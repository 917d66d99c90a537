from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from mmh3 import hash_bytes

from kvcache_client.placement.partitions import PARTITIONS, partition_of


@given(st.binary(max_size=64), st.integers(0, 2**32 - 1))
def test_a_partition_is_the_top_14_bits_of_the_first_64_of_the_hash(key: bytes, seed: int) -> None:
    first_half = int.from_bytes(hash_bytes(key, seed, x64arch=True)[:8], "little")
    assert partition_of(key, seed) == first_half >> 50


def test_known_keys_have_the_partitions_that_every_release_must_give_them() -> None:
    assert [partition_of(key, 4711) for key in (b"user:1", b"user:2", b"\x00\xff", b"k" * 1024)] == [
        12705,
        8210,
        12628,
        5099,
    ]


def test_partitions_of_any_keys_are_in_range_and_evenly_used() -> None:
    used = Counter(partition_of(b"key-%d" % number, 7) for number in range(200_000))
    assert min(used) >= 0
    assert max(used) < PARTITIONS
    assert len(used) == PARTITIONS
    assert max(used.values()) < 40  # 12.2 on average; the chance of 40 anywhere is below 1e-4


def test_another_seed_sends_keys_elsewhere() -> None:
    keys = [b"key-%d" % number for number in range(1000)]
    same = sum(partition_of(key, 1) == partition_of(key, 2) for key in keys)
    assert same < 5
