"""One key over HTTP, by the rules of RFC 9110."""

import json

import lz4.frame
import msgpack
import pytest
import zstandard

from kvcache_client.protocol import compression
from kvcache_client.protocol.compression import COMPRESSIONS
from kvcache_client.protocol.errors import InDoubt, Unavailable
from kvcache_client.protocol.record import (
    COMPRESSION_SHIFT,
    NEVER,
    PayloadType,
    fenced,
    flags_of,
    make_record,
    payload_of,
    restored,
    version_of,
)

KEY = "/v1/kv/user:1"


async def test_a_value_that_was_put_can_be_got(world):
    put = await world.ask("PUT", KEY, b"Ada")
    got = await world.ask("GET", KEY)
    assert (put.status, put.body) == (204, b"")
    assert (got.status, got.body) == (200, b"Ada")
    assert put.headers["ETag"] == got.headers["ETag"] == f'"{version_of(world.node.client.records[b"user:1"])}"'
    assert got.headers["Cache-Control"] == "no-cache"
    assert got.headers["Server"] == "kvcache"
    assert "KvCache-TTL" not in got.headers
    assert not any(name.startswith("Access-Control") for name in got.headers)


async def test_head_is_get_without_the_body(world):
    await world.ask("PUT", KEY, b"Ada")
    got, head = await world.ask("GET", KEY), await world.ask("HEAD", KEY)
    assert head.status == 200
    assert head.headers["Content-Length"] == "3"
    assert head.headers["ETag"] == got.headers["ETag"]
    assert (await world.ask("HEAD", "/v1/kv/nobody")).status == 404


async def test_a_value_under_a_fence_and_one_that_was_restored_are_got_like_any_other(world):
    world.node.client.records[b"user:1"] = make_record(7, NEVER, *fenced(3, PayloadType.TEXT, b"Ada"))
    world.node.client.records[b"user:2"] = restored(world.node.client.records[b"user:1"], 9)
    for target in (KEY, "/v1/kv/user:2"):
        got = await world.ask("GET", target)
        assert (got.status, got.body, got.headers["ETag"]) == (200, b"Ada", '"7"')
        assert got.headers["Content-Type"].startswith("text/plain")


async def test_a_miss_is_a_404_that_says_so(world):
    got = await world.ask("GET", "/v1/kv/nobody")
    assert got.status == 404
    assert json.loads(got.body) == {
        "error": "KeyNotFound",
        "message": "b'nobody' is not there",
        "retryable": False,
        "detail": None,
    }


async def test_delete_answers_204_and_then_404(world):
    await world.ask("PUT", KEY, b"Ada")
    assert (await world.ask("DELETE", KEY)).status == 204
    assert (await world.ask("DELETE", KEY)).status == 404
    assert (await world.ask("GET", KEY)).status == 404


@pytest.mark.parametrize(
    ("target", "key"),
    [
        ("a%2Fb", b"a/b"),
        ("a/b", b"a/b"),
        ("a//b/../c", b"a//b/../c"),
        ("%00", b"\0"),
        ("%0D%0AX:%20y", b"\r\nX: y"),
        ("%ff%FE", b"\xff\xfe"),
        ("%C3%A9", "é".encode()),
        ("a+b%20c", b"a+b c"),
        ("a%3Fb%23c%25", b"a?b#c%"),
        ("%41", b"A"),
        ("%2541", b"%41"),
        ("k" * 1024, b"k" * 1024),
        ("%ff" * 1024, b"\xff" * 1024),
    ],
)
async def test_a_key_is_the_bytes_that_its_path_encodes(world, target, key):
    assert (await world.ask("PUT", "/v1/kv/" + target, b"x")).status == 204
    assert list(world.node.client.records) == [key]
    assert (await world.ask("GET", "/v1/kv/" + target)).body == b"x"


async def test_an_absolute_target_names_the_same_key(world):
    assert (await world.ask("PUT", "http://test:1/v1/kv/a%2Fb?ttl=5", b"x")).status == 204
    assert list(world.node.client.records) == [b"a/b"]


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("", "the key is empty"),
        ("k" * 1025, "the key has 1025 bytes, the limit is 1024"),
        ("%ff" * 1025, "the key has 1025 bytes, the limit is 1024"),
        ("50%", "two hex digits"),
        ("%zz", "two hex digits"),
        ("a#b", "must be sent as %23"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_a_bad_key_is_refused_by_name(world, method, target, words):
    answer = await world.ask(method, "/v1/kv/" + target, b"x" if method == "PUT" else None)
    assert answer.status == 400
    assert json.loads(answer.body)["error"] == "InvalidKey"
    assert words in json.loads(answer.body)["message"]
    assert world.node.client.records == {}


@pytest.mark.parametrize(
    ("content_type", "body", "kind", "returned"),
    [
        (None, b"\xff\0", PayloadType.BYTES, "application/octet-stream"),
        ("application/octet-stream", b"\xff", PayloadType.BYTES, "application/octet-stream"),
        ("image/png", b"\x89PNG", PayloadType.BYTES, "application/octet-stream"),
        ("text/plain", "é".encode(), PayloadType.TEXT, "text/plain; charset=utf-8"),
        ("text/html; charset=UTF-8", b"<p>", PayloadType.TEXT, "text/plain; charset=utf-8"),
        ("application/x-www-form-urlencoded", b"Ada", PayloadType.TEXT, "text/plain; charset=utf-8"),
        ("application/json", b'{"a": [1]}', PayloadType.JSON, "application/json"),
        ("application/ld+json", b"null", PayloadType.JSON, "application/json"),
        ("application/msgpack", b"\x91\x01", PayloadType.MSGPACK, "application/msgpack"),
    ],
)
async def test_the_content_type_decides_the_type_of_the_value(world, content_type, body, kind, returned):
    headers = {} if content_type is None else {"Content_Type": content_type}
    assert (await world.ask("PUT", KEY, body, **headers)).status == 204
    record = world.node.client.records[b"user:1"]
    assert (flags_of(record), payload_of(record)) == (kind, body)
    got = await world.ask("GET", KEY)
    assert (got.headers["Content-Type"], got.body) == (returned, body)
    assert got.headers["X-Content-Type-Options"] == "nosniff"


async def test_an_integer_is_readable_as_text(world):
    client = world.node.client
    client.records[b"user:1"] = make_record(9 << 21, NEVER, PayloadType.INTEGER, b"-42")
    got = await world.ask("GET", KEY)
    assert (got.body, got.headers["Content-Type"]) == (b"-42", "text/plain; charset=utf-8")


@pytest.mark.parametrize(
    ("content_type", "body", "status", "words"),
    [
        ("application/json", b"{", 400, "not json"),
        ("application/json", b"NaN", 400, "NaN is not JSON"),
        ("application/json", b'"\xff"', 400, "not json"),
        ("application/json", b"[" * 100_000, 400, "not json"),
        ("application/json", b"", 400, "not json"),
        ("text/plain", b"\xff", 400, "not text"),
        ("application/msgpack", b"\x92\x01", 400, "ends too early"),
        ("application/msgpack", b"\x01\x02", 400, "1 bytes follow"),
        ("application/msgpack", b"\xc1", 400, "not msgpack"),
        ("application/msgpack", b"\x91" * 100_000, 400, "not msgpack"),
        ("text/plain; charset=latin-1", b"x", 415, "stored as UTF-8"),
    ],
)
async def test_a_body_that_is_not_what_it_says_is_refused(world, content_type, body, status, words):
    answer = await world.ask("PUT", KEY, body, Content_Type=content_type)
    assert answer.status == status
    assert words in json.loads(answer.body)["message"]
    assert world.node.client.records == {}


async def test_msgpack_nested_within_reason_is_taken(world):
    value = {"a": [[[["x"]]]], "b": {"c": {"d": None}}}
    assert (await world.ask("PUT", KEY, msgpack.packb(value), Content_Type="application/msgpack")).status == 204


async def test_a_ttl_is_counted_in_seconds_and_told_with_the_value(world):
    assert (await world.ask("PUT", KEY + "?ttl=1.5", b"x")).status == 204
    world.node.client.now_ms += 500
    assert (await world.ask("GET", KEY)).headers["KvCache-TTL"] == "1.000"
    world.node.client.now_ms += 1000
    assert (await world.ask("GET", KEY)).status == 404


@pytest.mark.parametrize(("ttl", "seconds"), [("5m", 300), ("1h30m", 5400), ("1.5e1", 15), ("90", 90), (".5", 0.5)])
async def test_a_ttl_may_have_units_as_in_python(world, ttl, seconds):
    assert (await world.ask("PUT", KEY + "?ttl=" + ttl, b"x")).status == 204
    assert seconds - 10 < float((await world.ask("GET", KEY)).headers["KvCache-TTL"]) <= seconds


@pytest.mark.parametrize(
    "ttl",
    [
        "0",
        "-1",
        "nan",
        "inf",
        "-inf",
        "315360001",
        "1e99",
        "soon",
        "",
        "1_0",
        "%D9%A3",
        "0x1",
        "%205",
        "5M",
        "-5m",
        "53w99999d",
    ],
)
async def test_a_bad_ttl_is_refused(world, ttl):
    answer = await world.ask("PUT", KEY + "?ttl=" + ttl, b"x")
    assert (answer.status, json.loads(answer.body)["error"]) == (400, "InvalidTtl")
    assert world.node.client.records == {}


@pytest.mark.parametrize(
    ("method", "query"), [("PUT", "tll=60"), ("PUT", "ttl=1&ttl=2"), ("GET", "ttl=1"), ("DELETE", "x=1")]
)
async def test_a_parameter_that_would_be_ignored_is_refused(world, method, query):
    answer = await world.ask(method, f"{KEY}?{query}", b"x" if method == "PUT" else None)
    assert (answer.status, json.loads(answer.body)["error"]) == (400, "InvalidOption")


async def test_if_match_is_compare_and_set(world):
    first = (await world.ask("PUT", KEY, b"1")).headers["ETag"]
    second = await world.ask("PUT", KEY, b"2", If_Match=first)
    assert second.status == 204
    assert second.headers["ETag"] != first
    late = await world.ask("PUT", KEY, b"3", If_Match=first)
    assert late.status == 412
    assert late.headers["ETag"] == second.headers["ETag"]
    assert json.loads(late.body)["error"] == "PreconditionFailed"
    assert json.loads(late.body)["detail"] == second.headers["ETag"].strip('"')
    assert (await world.ask("GET", KEY)).body == b"2"


async def test_if_match_any_is_replace(world):
    refused = await world.ask("PUT", KEY, b"1", If_Match="*")
    assert refused.status == 412
    assert "ETag" not in refused.headers
    await world.ask("PUT", KEY, b"1")
    assert (await world.ask("PUT", KEY, b"2", If_Match="*")).status == 204
    assert (await world.ask("GET", KEY)).body == b"2"


async def test_if_none_match_any_is_add(world):
    added = await world.ask("PUT", KEY, b"1", If_None_Match="*")
    assert added.status == 201
    refused = await world.ask("PUT", KEY, b"2", If_None_Match="*")
    assert (refused.status, refused.headers["ETag"]) == (412, added.headers["ETag"])
    assert (await world.ask("GET", KEY)).body == b"1"


@pytest.mark.parametrize(
    "tag", ['"0"', '"1"', '"abc"', "garbage", f'"{1 << 64}"', '"-5"', 'W/"5"', '"٣"'.encode().decode("latin-1")]
)
async def test_a_tag_that_was_never_given_out_matches_nothing(world, tag):
    assert (await world.ask("PUT", KEY, b"x", If_Match=tag)).status == 412
    await world.ask("PUT", KEY, b"there")
    assert (await world.ask("PUT", KEY, b"x", If_Match=tag)).status == 412
    assert (await world.ask("GET", KEY)).body == b"there"


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("PUT", {"If_Match": '"5", "6"'}),
        ("PUT", {"If_None_Match": '"5"'}),
        ("PUT", {"If_Match": "*", "If_None_Match": "*"}),
        ("PUT", {"Content_Range": "bytes 0-0/2"}),
        ("DELETE", {"If_Match": "*"}),
        ("DELETE", {"If_None_Match": '"5"'}),
    ],
)
async def test_a_condition_that_cannot_be_kept_is_refused_and_not_ignored(world, method, headers):
    answer = await world.ask(method, KEY, b"x" if method == "PUT" else None, **headers)
    assert (answer.status, json.loads(answer.body)["error"]) == (400, "InvalidOption")
    assert world.node.client.records == {}


async def test_get_with_a_known_version_is_a_304(world):
    tag = (await world.ask("PUT", KEY, b"1")).headers["ETag"]
    for known in (tag, "W/" + tag, f'"x", {tag}', "*"):
        answer = await world.ask("GET", KEY, If_None_Match=known)
        assert (answer.status, answer.headers["ETag"]) == (304, tag)
    assert (await world.ask("GET", KEY, If_None_Match='"99"')).status == 200


async def test_get_honours_if_match(world):
    assert (await world.ask("GET", KEY, If_Match="*")).status == 412
    tag = (await world.ask("PUT", KEY, b"1")).headers["ETag"]
    assert (await world.ask("GET", KEY, If_Match=tag)).status == 200
    assert (await world.ask("GET", KEY, If_Match="W/" + tag)).status == 412
    assert (await world.ask("GET", KEY, If_Match='"99"')).status == 412


async def test_a_value_over_the_limit_is_refused_before_it_is_sent(make_world):
    world = await make_world(value_limit=1000)
    wire = await world.connect()
    wire.ask("PUT", KEY, Content_Length="1001", Expect="100-continue")
    answer = await wire.answer()
    assert (answer.status, json.loads(answer.body)["error"]) == (413, "ValueTooLarge")
    assert json.loads(answer.body)["detail"] == 1000
    assert answer.headers["Connection"] == "close"
    assert (await world.ask("PUT", KEY, b"x" * 1000)).status == 204


async def test_a_compressed_body_is_refused(world):
    answer = await world.ask("PUT", KEY, b"x", Content_Encoding="gzip")
    assert (answer.status, json.loads(answer.body)["error"]) == (415, "UnsupportedValue")


async def test_an_empty_value_is_a_value(world):
    assert (await world.ask("PUT", KEY, b"")).status == 204
    got = await world.ask("GET", KEY)
    assert (got.status, got.body) == (200, b"")


@pytest.mark.parametrize(
    ("error", "status", "retryable"),
    [(Unavailable("n1: gone", detail=7), 503, True), (InDoubt("no reply"), 504, False)],
)
async def test_an_error_of_the_cluster_keeps_its_name_and_status(world, error, status, retryable):
    world.node.client.failure = error
    answer = await world.ask("PUT", KEY, b"x")
    assert answer.status == status
    assert json.loads(answer.body) == {
        "error": type(error).__name__,
        "message": str(error),
        "retryable": retryable,
        "detail": error.detail,
    }
    assert answer.headers.get("Retry-After") == ("1" if status == 503 else None)


async def test_a_record_from_the_future_is_an_error_and_not_a_wrong_value(world):
    world.node.client.records[b"user:1"] = make_record(9 << 21, NEVER, 0x11, b"squeezed")
    answer = await world.ask("GET", KEY)
    assert (answer.status, json.loads(answer.body)["error"]) == (500, "UndecodableValue")


TEXT = b"all work and no play " * 100


def stored(world, flags, payload, key=b"user:1"):
    world.node.client.records[key] = make_record(5 << 21, NEVER, flags, payload)


@pytest.mark.parametrize("kind", COMPRESSIONS.values(), ids=lambda kind: kind.name)
async def test_what_a_client_compressed_is_sent_expanded(world, kind):
    compressed = kind.compress(TEXT)
    stored(world, PayloadType.TEXT | kind.code << COMPRESSION_SHIFT, compressed)
    got = await world.ask("GET", KEY)
    assert (got.status, got.body) == (200, TEXT)
    assert got.headers["Content-Type"] == "text/plain; charset=utf-8"
    stored(world, *fenced(7, PayloadType.TEXT | kind.code << COMPRESSION_SHIFT, compressed))
    assert (await world.ask("GET", KEY)).body == TEXT


async def test_a_fenced_value_is_shown_without_its_fence(world):
    stored(world, *fenced(7, PayloadType.JSON, b"[1]"))
    got = await world.ask("GET", KEY)
    assert (got.status, got.headers["Content-Type"], got.body) == (200, "application/json", b"[1]")


async def test_a_value_of_somebodys_own_serializer_is_sent_as_it_is_and_named(world):
    stored(world, PayloadType.SERIALIZED, "\x06ü\r\nadata".encode().replace(b"\x06", b"\x05"))
    got = await world.ask("GET", KEY)
    assert (got.status, got.body) == (200, b"data")
    assert got.headers["Content-Type"] == "application/octet-stream"
    assert got.headers["KvCache-Serializer"] == "%C3%BC%0D%0Aa"


async def test_a_node_without_the_package_says_what_to_install(world, monkeypatch):
    kind = COMPRESSIONS[1]
    stored(world, PayloadType.TEXT | 0x10, kind.compress(TEXT))

    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(compression, "import_module", missing)
    monkeypatch.setattr(kind, "_module", None)
    got = await world.ask("GET", KEY)
    assert got.status == 501
    assert json.loads(got.body)["error"] == "MissingExtra"
    assert "pip install 'kvcache[zstd]'" in json.loads(got.body)["message"]


@pytest.mark.parametrize(
    ("flags", "payload", "status"),
    [
        (0x11, zstandard.ZstdCompressor().compress(bytes(17 << 20)), 413),
        (0x21, lz4.frame.compress(bytes(17 << 20)), 413),
        (0x11, b"junk", 500),
        (0x31, b"from the future", 500),
        (6, b"from the future", 500),
        (PayloadType.SERIALIZED, b"\x09short", 500),
        (PayloadType.FENCED, b"short", 500),
    ],
)
async def test_a_value_that_cannot_be_shown_is_an_error_and_never_half_a_value(world, flags, payload, status):
    stored(world, flags, payload)
    got = await world.ask("GET", KEY)
    assert got.status == status
    assert json.loads(got.body)["error"] in ("UndecodableValue", "ExpandedTooLarge")
