"""What both clients promise about writes under the fence of a lock."""

from __future__ import annotations

from typing import Any

import pytest

from kvcache_client import InvalidOption, NotAnInteger, StaleFence


async def test_a_write_under_a_lower_fence_than_the_one_that_stands_is_refused(cache: Any) -> None:
    await cache.set("k", "second", fence=7)
    with pytest.raises(StaleFence) as refused:
        await cache.set("k", "first", fence=6)
    assert refused.value.detail == 7
    assert not refused.value.retryable
    assert await cache.get("k") == "second"


@pytest.mark.parametrize("fence", [7, 8, (1 << 53) - 1])
async def test_an_equal_or_higher_fence_passes(cache: Any, fence: int) -> None:
    await cache.set("k", "first", fence=7)
    await cache.set("k", "next", fence=fence)
    assert await cache.get("k") == "next"


@pytest.mark.parametrize("value", [None, 5, "text", b"bytes", {"a": [1, None]}])
async def test_values_under_a_fence_are_read_like_any_other(cache: Any, value: Any) -> None:
    version = await cache.set("k", value, ttl=60, fence=3)
    assert await cache.get("k", "nothing") == value
    entry = await cache.get_entry("k")
    assert (entry.value, entry.version) == (value, version)
    assert 0 < entry.ttl <= 60
    assert (await cache.get_many(["k"]))["k"] == value


async def test_a_write_without_a_fence_overrides_and_ends_the_protection(cache: Any) -> None:
    await cache.set("k", 1, fence=9)
    await cache.set("k", 2)
    await cache.set("k", 3, fence=1)
    assert await cache.get("k") == 3


async def test_a_deleted_key_may_be_written_under_any_fence(cache: Any) -> None:
    await cache.set("k", 1, fence=9)
    assert await cache.delete("k")
    await cache.set("k", 2, fence=1)
    assert await cache.get("k") == 2


async def test_a_number_under_a_fence_is_no_counter(cache: Any) -> None:
    await cache.set("k", 1, fence=9)
    with pytest.raises(NotAnInteger):
        await cache.incr("k")


@pytest.mark.parametrize("fence", [0, -1, True, 1.5, "7", 1 << 53])
async def test_what_is_no_fence_is_refused_before_anything_is_sent(cache: Any, fence: Any) -> None:
    with pytest.raises(InvalidOption, match="fence="):
        await cache.set("k", 1, fence=fence)
    assert await cache.get("k") is None
