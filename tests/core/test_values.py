"""The options of values: what they make of a value, and which of them contradict each other."""

from __future__ import annotations

import os
from typing import Any

import pytest

from kvcache_client import AsyncClient, Client, ClientConfig, InvalidOption, SignedPickle, ValueTooLarge
from kvcache_client.core.space import Spaces
from kvcache_client.core.values import ValueForm
from kvcache_client.protocol.codec import decode_record, encode_value
from kvcache_client.protocol.record import COMPRESSION_MASK, NEVER, PayloadType, make_record

TEXT = "all work and no play " * 200


class Reverse:
    name = "reverse"

    def dumps(self, value: Any) -> bytes:
        return value.encode()[::-1]

    def loads(self, data: bytes) -> Any:
        return data[::-1].decode()


def test_the_defaults_cost_nothing_beside_the_codec_itself():
    form = ValueForm()
    assert form.encoder() is encode_value
    assert form.decoder() is decode_record


@pytest.mark.parametrize("name", ["zstd", "lz4"])
def test_large_payloads_are_compressed_and_everybody_reads_them(name):
    encode = ValueForm(compression=name, compress_over=100).encoder()
    for value in (TEXT, TEXT.encode(), [TEXT] * 3):
        flags, payload = encode(value)
        assert flags & COMPRESSION_MASK
        assert len(payload) < 200
        assert ValueForm().decoder()(make_record(1, NEVER, flags, payload)) == value


def test_small_ones_and_those_that_do_not_shrink_and_integers_stay_as_they_are():
    encode = ValueForm(compression="zstd", compress_over=0).encoder()
    noise = os.urandom(5000)
    assert encode(noise) == (PayloadType.BYTES, noise)
    assert encode("ab") == (PayloadType.TEXT, b"ab")
    assert encode(10**18) == (PayloadType.INTEGER, b"1" + b"0" * 18)
    assert ValueForm(compression="zstd", compress_over=5000).encoder()(TEXT) == (PayloadType.TEXT, TEXT.encode())
    assert ValueForm(compression="zstd").encoder()("a" * 1024) == (PayloadType.TEXT, b"a" * 1024)
    assert ValueForm(compression="zstd").encoder()("a" * 1025)[0] & COMPRESSION_MASK


def test_what_nobody_could_expand_is_not_written():
    encode = ValueForm(compression="zstd", expanded_limit=5000).encoder()
    with pytest.raises(
        ValueTooLarge, match=r"6000 bytes before it is compressed, the limit \(expanded_limit\) is 5000"
    ):
        encode("a" * 6000)


def test_a_serializer_of_ones_own_is_compressed_too():
    form = ValueForm(serializer=Reverse(), compression="lz4")
    flags, payload = form.encoder()(TEXT)
    assert flags == PayloadType.SERIALIZED | 0x20
    assert form.decoder()(make_record(1, NEVER, flags, payload)) == TEXT


def test_a_namespace_may_have_its_own_serializer_and_still_reads_the_others():
    mine, theirs = SignedPickle(b"0123456789abcdef"), Reverse()
    spaces = Spaces(ValueForm(serializer=theirs))
    inner = spaces.within(spaces.whole, "s:", mine)
    assert inner.encode(1j)[0] == PayloadType.SERIALIZED
    assert inner.decode(make_record(1, NEVER, *spaces.whole.encode("ada"))) == "ada"
    assert inner.decode(make_record(1, NEVER, *inner.encode(1j))) == 1j
    assert spaces.within(inner, "t:").form is inner.form
    assert spaces.within(inner, "u:", "json").encode([1]) == (PayloadType.JSON, b"[1]")


def test_namespaces_of_one_prefix_share_counters_and_thousands_do_not_pile_up():
    spaces = Spaces(ValueForm())
    assert spaces.within(spaces.whole, "a").lookups is spaces.within(spaces.whole, b"a").lookups
    for number in range(3000):
        spaces.within(spaces.whole, f"user:{number}:")
    assert len(spaces.lookups) <= 1001
    assert spaces.within(spaces.whole, "a").lookups is not spaces.within(spaces.whole, "user:2999:").lookups


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"serializer": "pickle"}, "serializer='pickle': must be one of msgpack, json, bytes, or an object"),
        ({"serializer": None}, "serializer=None: must have a name, dumps and loads"),
        ({"serializer": 5}, "serializer=5: must have a name, dumps and loads"),
        ({"serializers": (5,)}, "serializer=5: must have a name"),
        ({"serializer": Reverse(), "serializers": (Reverse(),)}, "two serializers are called 'reverse': .* and "),
        ({"compression": "gzip"}, "compression='gzip': must be one of 'zstd', 'lz4', or None"),
        ({"compression": 5}, "compression=5: must be one of"),
        ({"compress_over": 10}, "compress_over=10 and compression=None contradict each other"),
        ({"compression": "lz4", "compress_over": -1}, "compress_over=-1: must be 0 to 16777216 bytes"),
        ({"compression": "lz4", "compress_over": 1 << 25}, "compress_over=33554432: must be 0 to"),
        ({"compression": "lz4", "compress_over": "1"}, "compress_over='1': must be 0 to"),
        ({"compression": "lz4", "compress_over": True}, "compress_over=True: must be 0 to"),
        ({"expanded_limit": 0}, "expanded_limit=0: must be 1 to 16777216 bytes"),
        ({"expanded_limit": 1e6}, "expanded_limit=1000000.0: must be 1 to"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_options_that_make_no_sense_are_refused_when_the_client_is_made(options, why):
    with pytest.raises(InvalidOption, match=why):
        ClientConfig(**options)
    for make in (AsyncClient, Client):
        with pytest.raises(InvalidOption, match=why):
            make(config=ClientConfig(**options))


def test_a_namespace_checks_its_serializer_too():
    with pytest.raises(InvalidOption, match="serializer='pickle'"):
        Client().namespace("a", serializer="pickle")
