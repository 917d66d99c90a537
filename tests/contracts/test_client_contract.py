"""What AsyncClient and Client promise alike, on a single node and on three with two copies, over real sockets."""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from kvcache_client import (
    BatchTooLarge,
    CounterOverflow,
    Entry,
    InvalidKey,
    InvalidOption,
    InvalidTtl,
    KeyNotFound,
    KvCacheError,
    NotAnInteger,
    UnsupportedValue,
    UsageError,
    ValueTooLarge,
)

VALUES: list[Any] = [
    *(None, True, False),
    *(0, -1, 2**31, 2**53 + 1, 2**63 - 1, -(2**63), 2**64 - 1),
    *(0.0, -0.5, 1e-300, 1.7976931348623157e308, math.inf, -math.inf),
    *("", "text", "ключ 🗝", "nul\x00 and \r\n", "x" * 100_000),
    *(b"", b"bytes", bytes(range(256)), b"\x90\xc1", b"x" * 1_000_000),
    *([], [1, [2, [3, [None]]]], {}, {"a": {"b": [1, 2.5, True, None, "c", b"d"]}}, {1: "int key", b"b": 2, None: 3}),
    [{"rows": [{"id": number, "tags": ["a", "b"]} for number in range(200)]}],
    *(
        (),
        (1, ("two", [3])),
        set(),
        pytest.param({1, "a", None}, id="a set of three kinds"),
        frozenset({b"x"}),
        {(1, 2): {frozenset({3})}},
    ),
    *(datetime(2024, 2, 29, 12, 30, 0, 5), datetime(2024, 2, 29, tzinfo=UTC), date(1, 1, 1), time(23, 59, 59, 999_999)),
    *(timedelta(-1, 5, 7), Decimal("1.50"), Decimal("-0"), UUID(int=5), [{"at": (timedelta.max, UUID(int=0))}]),
]

KEYS: list[str | bytes] = [
    *("k", "x" * 900, "with space", " ", "tab\t", "nul\x00", "cr\r\nlf", "ключ", "🗝", "a:b/c?d#e%"),
    *(b"bytes", b"\xff\xfe not utf-8", b"\x00", b"\r\n", bytes(range(256))),
]

BAD_KEYS: list[tuple[Any, str]] = [
    ("", "the key is empty"),
    (b"", "the key is empty"),
    ("x" * 1025, "1025 bytes, the limit is 1024"),
    (b"x" * 1025, "1025 bytes, the limit is 1024"),
    ("ü" * 513, "1026 bytes"),
    ("\ud800", "not valid Unicode"),
    *((bad, f"not {type(bad).__name__}") for bad in (5, None, 1.5, ("k",), ["k"], bytearray(b"k"), True)),
]

BAD_TTLS: list[Any] = [
    *(0, 0.0, -1, -0.001, math.nan, math.inf, -math.inf, 10 * 365 * 24 * 3600 + 1, 2**63, 10**400),
    *(True, False, "60", b"60", [60], timedelta(0), timedelta(seconds=-1), timedelta(days=3651)),
]

BAD_VALUES: list[tuple[Any, str]] = [
    ((1, {2j}), r"the item 2j of value\[1\] is a complex"),
    (OrderedDict(), "value is a collections.OrderedDict"),
    ([1, {"a": [object()]}], r"value\[1\]\['a'\]\[0\] is a object"),
    ({"when": range(1)}, r"value\['when'\] is a range"),
    (2**64, "an integer beyond 64 bits"),
    ([-(2**63) - 1], r"value\[0\] is an integer beyond 64 bits"),
    ("\ud800", "not valid Unicode"),
    (1 + 2j, "value is a complex"),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: f"{value!r:.25}")
async def test_every_kind_of_value_comes_back_as_it_was(open_client: Any, one_node: Any, value: Any) -> None:
    cache = open_client(one_node.seeds)
    await cache.set("value", value)
    back = await cache.get("value")
    assert back == value
    assert type(back) is type(value)
    assert (await cache.get_many(["value"]))["value"] == value


async def test_not_a_number_comes_back_as_such(cache: Any) -> None:
    await cache.set("k", math.nan)
    assert math.isnan(await cache.get("k"))


async def test_set_get_and_delete(cache: Any) -> None:
    assert await cache.get("k") is None
    assert await cache.get("k", default="none") == "none"
    version = await cache.set("k", 1)
    assert isinstance(version, int)
    assert await cache.get("k") == 1
    assert await cache.exists("k") is True
    assert await cache.set("k", 2) > version
    assert await cache.delete("k") is True
    assert await cache.delete("k") is False
    assert await cache.exists("k") is False


async def test_a_stored_none_is_told_from_a_miss(cache: Any) -> None:
    await cache.set("k", None)
    assert await cache.get("k", default="miss") is None
    entry = await cache.get_entry("k")
    assert isinstance(entry, Entry)
    assert entry.value is None
    assert await cache.get_entry("absent") is None
    found = await cache.get_many(["k", "absent"])
    assert dict(found) == {"k": None}
    assert found.missing == {"absent"}


async def test_an_entry_has_version_and_time_left(cache: Any) -> None:
    version = await cache.set("k", "v", ttl=100)
    entry = await cache.get_entry("k")
    assert (entry.value, entry.version) == ("v", version)
    assert 90 < entry.ttl <= 100
    await cache.set("k", "v")
    assert (await cache.get_entry("k")).ttl is None


async def test_compare_and_set(cache: Any) -> None:
    version = await cache.set("k", 1)
    assert await cache.cas("k", 2, version=version) is True
    assert await cache.cas("k", 3, version=version) is False
    assert await cache.get("k") == 2
    entry = await cache.get_entry("k")
    assert await cache.cas("k", 4, entry.version, ttl=50) is True
    assert await cache.cas("absent", 1, entry.version) is False


async def test_add_and_replace(cache: Any) -> None:
    assert await cache.replace("k", 0) is False
    assert await cache.add("k", 1) is True
    assert await cache.add("k", 2) is False
    assert await cache.replace("k", 3, ttl=50) is True
    assert await cache.get("k") == 3


async def test_counting(cache: Any) -> None:
    assert await cache.incr("n") == 1
    assert await cache.incr("n", by=41) == 42
    assert await cache.decr("n", 2) == 40
    assert await cache.incr("m", initial=10, ttl=50) == 11
    assert (await cache.get_entry("m")).ttl is not None
    with pytest.raises(KeyNotFound):
        await cache.incr("absent", initial=None)
    await cache.set("text", "1")
    with pytest.raises(NotAnInteger):
        await cache.incr("text")
    await cache.set("n", 2**63 - 1)
    with pytest.raises(CounterOverflow):
        await cache.incr("n")
    assert await cache.decr("n", by=2**63 - 1) == 0


async def test_touch(cache: Any) -> None:
    await cache.set("k", "v", ttl=100)
    assert await cache.touch("k") is True
    assert (await cache.get_entry("k")).ttl is None
    assert await cache.touch("k", ttl=timedelta(minutes=1)) is True
    entry = await cache.get_entry("k")
    assert entry.value == "v"
    assert 50 < entry.ttl <= 60
    assert await cache.touch("absent", 5) is False


@pytest.mark.parametrize("ttl", [0.05, timedelta(milliseconds=50)])
async def test_a_value_expires_when_its_time_is_over_and_not_before(cache: Any, ttl: Any) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    await cache.set("k", 1, ttl=ttl)
    while await cache.get("k") is not None:
        assert loop.time() - began < 10
        await asyncio.sleep(0.005)
    assert loop.time() - began >= 0.048  # the nodes count in whole milliseconds
    assert await cache.exists("k") is False
    assert await cache.add("k", 2) is True


@pytest.mark.parametrize("ttl", BAD_TTLS, ids=lambda ttl: f"{ttl!r:.20}")
async def test_a_bad_time_to_live_is_refused_by_every_verb_that_takes_one(
    open_client: Any, one_node: Any, ttl: Any
) -> None:
    cache = open_client(one_node.seeds)
    for verb, arguments in (
        ("set", ("bad-ttl", 1)),
        ("add", ("bad-ttl", 1)),
        ("replace", ("bad-ttl", 1)),
        ("set_many", ({"bad-ttl": 1},)),
        ("touch", ("bad-ttl",)),
        ("incr", ("bad-ttl",)),
        ("cas", ("bad-ttl", 1, 12345)),
    ):
        with pytest.raises(InvalidTtl, match="ttl="):
            await getattr(cache, verb)(*arguments, ttl=ttl)
    assert await cache.exists("bad-ttl") is False


@pytest.mark.parametrize("key", KEYS, ids=lambda key: f"{key!r:.20}")
async def test_any_bytes_make_a_key(open_client: Any, one_node: Any, three_nodes: Any, key: Any) -> None:
    for cluster in (one_node, three_nodes):
        cache = open_client(cluster.seeds)
        await cache.set(key, "mine")
        assert await cache.get(key) == "mine"
        assert dict(await cache.get_many([key])) == {key: "mine"}
        assert await cache.delete(key) is True


async def test_text_and_its_utf8_bytes_are_the_same_key(cache: Any) -> None:
    await cache.set("ключ", 1)
    assert await cache.get("ключ".encode()) == 1


@pytest.mark.parametrize(("key", "reason"), BAD_KEYS, ids=lambda part: f"{part!r:.20}")
async def test_a_bad_key_is_refused_by_every_verb(open_client: Any, one_node: Any, key: Any, reason: str) -> None:
    cache = open_client(one_node.seeds)
    for verb, arguments in (
        *((verb, (key,)) for verb in ("get", "get_entry", "exists", "delete", "touch", "incr", "decr", "explain")),
        *((verb, (key, 1)) for verb in ("set", "add", "replace")),
        ("cas", (key, 1, 12345)),
        ("get_many", ([key],)),
        ("delete_many", (["good", key],)),
    ):
        with pytest.raises(InvalidKey, match=reason) as caught:
            await getattr(cache, verb)(*arguments)
        assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(("value", "reason"), BAD_VALUES, ids=lambda part: f"{part!r:.20}")
async def test_a_value_that_cannot_be_stored_says_what_stands_where(
    open_client: Any, one_node: Any, value: Any, reason: str
) -> None:
    cache = open_client(one_node.seeds)
    for verb, arguments in (
        ("set", ("bad", value)),
        ("add", ("bad", value)),
        ("replace", ("bad", value)),
        ("cas", ("bad", value, 12345)),
        ("set_many", ({"good": 1, "bad": value},)),
    ):
        with pytest.raises(UnsupportedValue, match=reason):
            await getattr(cache, verb)(*arguments)
    assert not await cache.get_many(["good", "bad"])


async def test_a_value_over_the_limit_is_refused_before_sending(cache: Any, cluster: Any) -> None:
    limit = 1 << 20
    await cache.set("k", b"x" * limit)
    before = await cache.get_entry("k")

    def refused_by_nodes() -> int:  # nodes talk to each other as well, so the requests that arrive say nothing
        return sum(node.node.statistics()["stream"]["failed"] for node in cluster.nodes)

    refused = refused_by_nodes()
    for verb in ("set", "add", "replace"):
        with pytest.raises(ValueTooLarge, match=f"has {limit + 1} bytes, the limit is {limit}"):
            await getattr(cache, verb)("k", b"x" * (limit + 1))
    with pytest.raises(ValueTooLarge):
        await cache.set_many({"k": "x" * (limit + 1)})
    assert refused_by_nodes() == refused
    assert await cache.get_entry("k") == before


async def test_batches(cache: Any) -> None:
    values = {f"k{number}": {"number": number} for number in range(500)}
    written = await cache.set_many(values, ttl=60)
    assert set(written) == set(values)
    assert (await cache.get_entry("k7")).version == written["k7"]
    found = await cache.get_many([*values, "absent"])
    assert found == values
    assert found.missing == {"absent"}
    assert found.failed == {}
    found.raise_failed()
    assert repr(found) == "<BatchResult found=500 missing=1 failed=0>"
    deleted = await cache.delete_many(["k0", "k1", "absent"])
    assert dict(deleted) == {"k0": True, "k1": True}
    assert deleted.missing == {"absent"}
    assert len(await cache.get_many(values)) == 498
    assert len(await cache.get_many([])) == 0


async def test_batches_refuse_what_is_no_batch(cache: Any) -> None:
    for verb in (cache.get_many, cache.delete_many):
        with pytest.raises(InvalidKey, match="a batch takes several keys"):
            await verb("abc")
        with pytest.raises(BatchTooLarge, match="100000"):
            await verb(f"{number}" for number in range(100_001))
    with pytest.raises(UnsupportedValue, match="mapping"):
        await cache.set_many(["a", "b"])


async def test_a_namespace_is_a_prefix(open_client: Any, cluster: Any) -> None:
    root = open_client(cluster.seeds)
    shop = root.namespace("ns-shop:")
    eu = shop.namespace(b"eu:")
    await eu.set("k", 1)
    assert await root.get("ns-shop:eu:k") == 1
    assert await shop.get("eu:k") == 1
    assert await shop.get("k") is None
    assert dict(await eu.get_many(["k"])) == {"k": 1}
    assert await eu.incr("k") == 2
    assert eu.client.brain is root.client.brain
    assert await eu.delete("k") is True


async def test_prefix_and_key_together_keep_to_the_limit(open_client: Any, cluster: Any) -> None:
    cache = open_client(cluster.seeds).namespace("p" * 1000)
    await cache.set("k" * 24, 1)
    assert await cache.get("k" * 24) == 1
    with pytest.raises(InvalidKey, match="1025 bytes"):
        await cache.set("k" * 25, 1)
    for prefix in ("", "x" * 1025, 5):
        with pytest.raises(InvalidKey):
            cache.namespace(prefix)


async def test_a_closed_client_says_so(open_client: Any, cluster: Any) -> None:
    cache = open_client(cluster.seeds)
    scoped = cache.namespace("ns:")
    await cache.set("closing", 1)
    await cache.close()
    await cache.close()
    for call in (cache.get("k"), cache.set("k", 1), cache.get_many(["k"]), scoped.get("k"), cache.topology()):
        with pytest.raises(UsageError, match="closed"):
            await call
    assert "closed" in repr(cache.client)


async def test_a_client_that_was_never_used_can_be_closed(open_client: Any) -> None:
    cache = open_client("127.0.0.1:1")
    await cache.close()
    with pytest.raises(UsageError, match="closed"):
        await cache.get("k")


async def test_a_context_manager_opens_and_closes(make: type[Any], cluster: Any) -> None:
    if hasattr(make, "__aenter__"):
        async with make(cluster.seeds, timeout=5.0) as client:
            assert client.brain.view is not None
            await client.set("context", 1)
    else:
        with make(cluster.seeds, timeout=5.0) as client:
            assert client.brain.view is not None
            client.set("context", 1)
    assert "closed" in repr(client)


async def test_its_repr_shows_its_state(cache: Any, cluster: Any) -> None:
    await cache.get("k")
    text = repr(cache.client)
    assert type(cache.client).__name__ in text
    assert "open" in text
    assert all(node.id in text for node in cluster.nodes)


async def test_explain_shows_each_copy(cache: Any, cluster: Any) -> None:
    version = await cache.set("k", 1)
    told = await cache.explain("k")
    holders = [copy for copy in told.copies if copy.version == version]
    assert len(holders) == min(2, len(cluster.nodes))
    assert [copy.role for copy in holders] == ["primary", "owner"][: len(holders)]
    assert {copy.address for copy in told.copies} <= set(cluster.addresses)


async def test_topology_and_counters_of_the_nodes(cache: Any, cluster: Any) -> None:
    topology = await cache.topology()
    assert sorted(member.address for member in topology.members) == sorted(cluster.addresses)
    assert topology.cluster == cluster.name
    counters = await cache.node_statistics()
    assert {node.id for node in cluster.nodes} == set(counters)
    assert all(told["node"]["cluster"] == cluster.name for told in counters.values())


@pytest.mark.parametrize(
    ("option", "value"),
    [("timeout", 0), ("timeout", math.nan), ("connect_timeout", -1), ("acks", 0), ("acks", 9)],
)
async def test_options_that_make_no_sense_are_refused_at_once(make: type[Any], option: str, value: Any) -> None:
    with pytest.raises(InvalidOption, match=option):
        make("127.0.0.1:7700", **{option: value})


async def test_calls_that_are_wrong_send_nothing_and_leave_the_client_well(cache: Any) -> None:
    for call in (cache.get(""), cache.set("k", object()), cache.set("k", 1, ttl=-1), cache.cas("k", 1, 0)):
        with pytest.raises(UsageError):
            await call
    await cache.set("k", 1)
    assert await cache.get("k") == 1


async def test_every_error_that_reaches_a_user_is_of_the_one_tree(open_client: Callable[..., Any]) -> None:
    cache = open_client("127.0.0.1:1", connect_timeout=0.5)
    for verb, arguments in (("get", ("k",)), ("set", ("k", 1)), ("incr", ("k",)), ("get_many", (["k"],))):
        with pytest.raises(KvCacheError):
            await getattr(cache, verb)(*arguments)
