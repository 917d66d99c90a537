"""What both clients promise of serializers and compression, over real sockets: on nodes that know nothing of either."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kvcache_client import ClientConfig, SignedPickle, UndecodableValue, UnknownSerializer, UnsupportedValue
from kvcache_client.core import plans
from kvcache_client.protocol.record import COMPRESSION_MASK, FLAGS, PayloadType, fenced, payload_of

TIMEOUT = 5.0
TEXT = "all work and no play " * 200


class Reverse:
    name = "reverse"

    def dumps(self, value: Any) -> bytes:
        return value.encode()[::-1]

    def loads(self, data: bytes) -> Any:
        return data[::-1].decode()


@pytest.fixture
def client_of(open_client: Callable[..., Any], cluster: Any, request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Make clients of one key space with options of values."""

    def make(**options: Any) -> Any:
        config = ClientConfig(timeout=TIMEOUT, connect_timeout=TIMEOUT, **options)
        return open_client(cluster.seeds, config=config).namespace(f"{request.node.name}:")

    return make


def raw(cache: Any, key: str) -> Any:
    """The record under a key, as it lies in the cluster."""
    return cache.run(plans.fetch(cache.client.brain, cache.client._space, key))


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
async def test_compressed_values_are_read_by_clients_that_do_not_compress(client_of, compression):
    writer, reader = client_of(compression=compression), client_of()
    await writer.set("one", TEXT)
    await writer.set_many({"two": [TEXT], "small": "x"})
    record = await raw(reader, "one")
    assert record[FLAGS] & COMPRESSION_MASK
    assert len(record) < 200
    assert not (await raw(reader, "small"))[FLAGS] & COMPRESSION_MASK
    assert await reader.get("one") == TEXT
    assert (await reader.get_entry("one")).value == TEXT
    assert dict(await reader.get_many(["one", "two", "small"])) == {"one": TEXT, "two": [TEXT], "small": "x"}
    assert await writer.replace("one", TEXT * 2)
    assert await reader.get("one") == TEXT * 2
    await writer.set("guarded", TEXT, fence=7)
    assert await reader.get("guarded") == TEXT


async def test_a_serializer_of_ones_own_is_named_in_the_record(client_of):
    writer, stranger, friend = client_of(serializer=Reverse()), client_of(), client_of(serializers=(Reverse(),))
    await writer.set("k", "ada")
    await stranger.set("plain", "bea")
    assert await writer.get("k") == await friend.get("k") == "ada"
    assert await writer.get("plain") == "bea"
    assert payload_of(await raw(stranger, "k")) == b"\x07reverseada"
    with pytest.raises(UnknownSerializer, match="reverse") as caught:
        await stranger.get("k")
    assert payload_of(caught.value.detail) == b"\x07reverseada"
    many = await stranger.get_many(["k", "plain"])
    assert dict(many) == {"plain": "bea"}
    assert isinstance(many.failed["k"], UnknownSerializer)
    assert await stranger.exists("k") is True
    assert await stranger.delete("k") is True


async def test_a_serializer_that_raises_sends_nothing(client_of):
    cache = client_of(serializer=Reverse())
    with pytest.raises(UnsupportedValue, match="'reverse' could not store a int: AttributeError") as caught:
        await cache.set("k", 5)
    assert isinstance(caught.value.__cause__, AttributeError)
    with pytest.raises(UnsupportedValue):
        await cache.set_many({"good": "x", "bad": 5})
    with pytest.raises(UnsupportedValue):
        await cache.add("k", 5)
    assert await cache.exists("k") is False
    assert await cache.exists("good") is False


async def test_json_and_bytes_are_read_by_everyone_and_a_namespace_may_differ(client_of):
    cache, plain = client_of(serializer="json"), client_of()
    await cache.set("k", {"a": [1, None]})
    assert (await raw(plain, "k"))[FLAGS] == PayloadType.JSON
    assert await plain.get("k") == {"a": [1, None]}
    await cache.set("n", 5)
    assert await cache.incr("n") == 6
    assert await cache.get("n") == 6
    blobs = cache.namespace("blobs:", serializer="bytes")
    await blobs.set("b", b"\x00\x01")
    assert await blobs.get("b") == await plain.get("blobs:b") == b"\x00\x01"
    with pytest.raises(UnsupportedValue, match="'bytes' stores bytes, not dict"):
        await blobs.set("b", {})
    assert await cache.get("k") == {"a": [1, None]}


async def test_pickle_has_to_be_asked_for_and_a_forged_one_is_not_opened(client_of):
    trusted, other = client_of(serializer=SignedPickle(b"one secret of ours")), client_of()
    await trusted.set("k", range(5))
    assert await trusted.get("k") == range(5)
    with pytest.raises(UnknownSerializer, match="signed-pickle"):
        await other.get("k")
    forger = client_of(serializer=SignedPickle(b"a secret of theirs"))
    await forger.set("k", range(6))
    with pytest.raises(UndecodableValue, match="none of the known secrets"):
        await trusted.get("k")


async def test_a_value_of_a_newer_client_is_reported_with_its_bytes(client_of):
    cache = client_of()
    brain, space = cache.client.brain, cache.client._space
    for flags, payload in ((6, b"new type"), (0x30, b"new compression"), (0, b"\xc7\x01\x63x"), fenced(3, 6, b"x")):
        await cache.run(plans.store(brain, space, "k", flags, payload, plans.expiry_in(brain, 60)))
        with pytest.raises(UndecodableValue) as caught:
            await cache.get("k")
        assert payload_of(caught.value.detail) == payload
        assert await cache.delete("k")
