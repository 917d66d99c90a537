"""Locks and fences as the server keeps them."""

from __future__ import annotations

import asyncio

import pytest

from kvcache.cluster.lock_store import FENCE_MAX, Granted, Held, LockStore
from kvcache_client.protocol.errors import AdminBusy, ControlPlaneUnavailable, InvalidOption

LONG = 60_000


async def take(store, resource="job", token="one", lease_ms=LONG, floor=0):
    return await store.acquire(resource, token, lease_ms, f"owner of {token}", "repair", floor)


async def test_one_token_of_many_gets_the_lock_and_the_others_hear_who_has_it(store):
    outcomes = await asyncio.gather(*(take(store, token=f"t{number}") for number in range(20)))
    (winner,) = [number for number, outcome in enumerate(outcomes) if isinstance(outcome, Granted)]
    others = [outcome for outcome in outcomes if isinstance(outcome, Held)]
    assert len(others) == 19
    assert {(held.owner, held.doing) for held in others} == {(f"owner of t{winner}", "repair")}
    assert all(0 < held.lease_left_ms <= LONG for held in others)


async def test_each_grant_has_a_higher_fence(store):
    fences = []
    for number in range(5):
        fences.append((await take(store, token=f"t{number}")).fence)
        assert await store.release("job", f"t{number}")
    assert fences == [1, 2, 3, 4, 5]


async def test_the_same_token_again_gets_the_same_fence_and_a_whole_lease(store, server):
    first = await take(store, lease_ms=5_000)
    assert await take(store, lease_ms=LONG, floor=99) == first
    assert await server("PTTL", "kvcache:test:lock:job") > 5_000


async def test_the_fence_passes_what_the_nodes_have_seen_also_on_an_emptied_or_rolled_back_server(store, server):
    assert (await take(store, floor=41)).fence == 42
    await server("FLUSHALL")
    assert (await take(store, token="two", floor=42)).fence == 43
    await store.release("job", "two")
    await server("SET", "kvcache:test:fence:job", 7)
    assert (await take(store, token="three", floor=43)).fence == 44


async def test_a_large_fence_is_counted_exactly(store, server):
    assert (await take(store, floor=FENCE_MAX - 3)).fence == FENCE_MAX - 2
    assert await server("GET", "kvcache:test:fence:job") == b"%d" % (FENCE_MAX - 2)
    assert (await store.locks())[0].fence == FENCE_MAX - 2


async def test_admin_resources_count_alone_and_users_locks_count_together(store):
    fences = [(await take(store, name)).fence for name in ("topology", "job", "controller", "user:a", "user:b")]
    assert fences == [1, 1, 1, 1, 2]


@pytest.mark.parametrize("damaged", ["none", "-1", "1.5", "1e300", "nan"])
async def test_a_damaged_counter_is_named_and_hands_out_nothing(store, server, damaged):
    await server("SET", "kvcache:test:fence:job", damaged)
    with pytest.raises(ControlPlaneUnavailable, match="fence:job is no fence"):
        await take(store)
    assert await store.locks() == []


async def test_only_the_holder_renews_and_releases(store, server):
    await take(store, lease_ms=5_000)
    assert not await store.renew("job", "two", LONG)
    assert not await store.release("job", "two")
    assert await server("PTTL", "kvcache:test:lock:job") <= 5_000
    assert await store.renew("job", "one", LONG)
    assert await server("PTTL", "kvcache:test:lock:job") > 5_000
    assert await store.release("job", "one")
    assert not await store.release("job", "one")
    assert not await store.renew("job", "one", LONG)


async def test_a_lock_is_free_when_its_lease_is_over(store):
    first = await take(store, lease_ms=30)
    async with asyncio.timeout(10):
        while isinstance(second := await take(store, token="two"), Held):
            await asyncio.sleep(0.005)
    assert second.fence > first.fence
    assert not await store.renew("job", "one", LONG)


async def test_the_listing_shows_what_is_held_and_forgets_what_is_over(store, server):
    await take(store, "job", "one", 50_000)
    await take(store, "user:nightly job", "two", 40_000)
    first, second = await store.locks()
    assert (first.resource, first.owner, first.doing) == ("user:nightly job", "owner of two", "repair")
    assert 0 < first.lease_left_ms <= 40_000
    assert second.resource == "job"
    seconds = int((await server("TIME"))[0])
    assert abs(first.since_ms / 1000 - seconds) < 60
    await store.release("job", "one")
    assert [lock.resource for lock in await store.locks()] == ["user:nightly job"]
    await server("DEL", "kvcache:test:lock:user:nightly job")
    assert await store.locks() == []


async def test_the_index_of_locks_drops_what_expired(store, server):
    for number in range(5):
        await take(store, f"user:{number}", lease_ms=10)
    async with asyncio.timeout(10):
        while await store.locks():
            await asyncio.sleep(0.005)
    await take(store)
    assert await server("ZCARD", "kvcache:test:locks") == 1


async def test_locks_of_other_clusters_are_not_ours(store, coordinator):
    other = LockStore(coordinator, "other")
    assert isinstance(await take(store), Granted)
    assert isinstance(await take(other, token="two"), Granted)
    assert [lock.owner for lock in await other.locks()] == ["owner of two"]


async def test_the_error_of_a_busy_lock_says_who_since_when_and_doing_what(store):
    await take(store)
    held = await take(store, token="two")
    error = held.busy("job")
    assert isinstance(error, AdminBusy)
    assert error.detail == held.lease_left_ms
    for part in ("'job'", "owner of one", "repair", "T", "+00:00"):
        assert part in str(error)


async def test_what_others_wrote_into_a_lock_is_made_fit_to_be_shown(store, server):
    key = "kvcache:test:lock:job"
    await server("HSET", key, "token", "x", "owner", b"a\n\xff" * 999, "since", "9" * 40)
    held = await take(store)
    assert held.owner.isprintable()
    assert len(held.owner) <= 256
    assert (held.doing, held.since_ms, held.lease_left_ms) == ("", 0, 0)
    assert "job" in str(held.busy("job"))
    await server("SET", key, "no lock")
    with pytest.raises(ControlPlaneUnavailable, match="WRONGTYPE"):
        await take(store)


BAD = [
    {"resource": "other"},
    {"resource": "user:"},
    {"resource": "user:" + "x" * 256},
    {"resource": "user:a\nb"},
    {"resource": None},
    {"token": ""},
    {"token": b"bytes"},
    {"lease_ms": 0},
    {"lease_ms": 1e3},
    {"lease_ms": 10**9},
    {"lease_ms": True},
    {"owner": "a\nb"},
    {"owner": "\ud800"},
    {"doing": "x" * 257},
    {"floor": -1},
    {"floor": FENCE_MAX},
]


@pytest.mark.parametrize("bad", BAD, ids=repr)
async def test_a_value_out_of_its_limits_is_refused_by_name_before_anything_is_sent(coordinators, bad):
    store = LockStore(coordinators("redis://127.0.0.1:1"), "test")
    good = {"resource": "job", "token": "one", "lease_ms": 1000, "owner": "me", "doing": "this", "floor": 0}
    with pytest.raises(InvalidOption, match="|".join(bad)):
        await store.acquire(**(good | bad))
