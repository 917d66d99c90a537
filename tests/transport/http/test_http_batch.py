"""Many keys in one request: outcomes in place, and untrusted input."""

import json
import struct

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvcache.transport.http.answers import error_response
from kvcache.transport.http.batch_form import Batch, read_batch
from kvcache.transport.http.limits import HttpLimits
from kvcache_client.protocol.compression import COMPRESSIONS
from kvcache_client.protocol.errors import KvCacheError, Unavailable
from kvcache_client.protocol.record import (
    NEVER,
    PayloadType,
    fenced,
    flags_of,
    make_record,
    payload_of,
    soft,
    version_of,
)

BATCH = "application/msgpack"


async def post(world, batch, **headers):
    body = batch if isinstance(batch, bytes) else msgpack.packb(batch)
    return await world.ask("POST", "/v1/batch", body, **{"Content_Type": BATCH, **headers})


async def outcomes(world, batch):
    answer = await post(world, batch)
    assert (answer.status, answer.headers["Content-Type"]) == (200, BATCH)
    return msgpack.unpackb(answer.body)


async def test_every_outcome_stands_in_the_place_of_its_request(world):
    written = await outcomes(world, {"set": [["a", b"\xff"], [b"b", "text"], ["c", b'{"x": 1}', 60, "json"]]})
    assert all(isinstance(version, int) for version in written["set"])
    read = await outcomes(world, {"get": ["c", "nobody", "a", b"b", "c"]})
    assert read["get"] == [
        ["json", b'{"x": 1}', written["set"][2], 60.0],
        None,
        ["bytes", b"\xff", written["set"][0], None],
        ["text", b"text", written["set"][1], None],
        ["json", b'{"x": 1}', written["set"][2], 60.0],
    ]
    assert await outcomes(world, {"delete": ["a", "nobody"]}) == {"delete": [True, False]}
    assert await outcomes(world, {"get": ["a"]}) == {"get": [None]}


async def test_gets_come_before_sets_and_sets_before_deletes(world):
    await outcomes(world, {"set": [["k", b"old"]]})
    done = await outcomes(world, {"delete": ["k"], "set": [["k", b"new"]], "get": ["k"]})
    assert done["get"][0][1] == b"old"
    assert done["delete"] == [True]
    assert world.node.client.live(b"k") is None


async def test_an_empty_batch_and_empty_sections_are_answered_in_kind(world):
    assert await outcomes(world, {}) == {}
    assert await outcomes(world, {"get": [], "set": [], "delete": []}) == {"get": [], "set": [], "delete": []}


async def test_a_key_that_is_set_twice_keeps_its_last_value(world):
    done = await outcomes(world, {"set": [["k", b"1"], ["k", b"2"]]})
    record = world.node.client.records[b"k"]
    assert payload_of(record) == b"2"
    assert done["set"] == [version_of(record)] * 2


@pytest.mark.parametrize(
    ("value", "name", "kind"),
    [
        (b"x", "bytes", PayloadType.BYTES),
        (b"x", "text", PayloadType.TEXT),
        ("x", "bytes", PayloadType.BYTES),
        (b"-7", "integer", PayloadType.INTEGER),
        (b"[]", "json", PayloadType.JSON),
        (b"\x90", "msgpack", PayloadType.MSGPACK),
        ("x", None, PayloadType.TEXT),
    ],
)
async def test_a_value_is_stored_under_the_type_that_it_names(world, value, name, kind):
    await outcomes(world, {"set": [["k", value, None, name]]})
    assert flags_of(world.node.client.records[b"k"]) == kind


async def test_large_batches_go_in_rounds_and_come_back_whole(world):
    keys = [b"k%d" % number for number in range(5000)]
    await outcomes(world, {"set": [[key, key] for key in keys]})
    read = await outcomes(world, {"get": keys})
    assert [hit[1] for hit in read["get"]] == keys
    assert world.node.client.rounds[:3] == [64, 128, 256]
    assert max(world.node.client.rounds) == 1024


async def test_rounds_stay_small_while_values_are_large(world):
    keys = [b"k%d" % number for number in range(200)]
    for key in keys:
        world.node.client.records[key] = make_record(9 << 21, NEVER, PayloadType.BYTES, b"x" * 20_000)
    assert len((await outcomes(world, {"get": keys}))["get"]) == 200
    assert max(world.node.client.rounds) == 64


async def test_what_does_not_fit_the_reply_is_marked_and_can_be_asked_again(make_world):
    world = await make_world(batch_bytes=10_000)
    keys = [b"k%d" % number for number in range(200)]
    for key in keys:
        world.node.client.records[key] = make_record(9 << 21, NEVER, PayloadType.BYTES, b"x" * 985)
    read = (await outcomes(world, {"get": keys}))["get"]
    assert [hit[0] for hit in read[:10]] == ["bytes"] * 10
    assert all(late["error"] == "ReplyFull" and late["retryable"] for late in read[10:])
    assert len(read) == 200
    assert world.node.client.rounds == [64]


async def test_what_goes_wrong_with_one_key_is_that_key_s_outcome(world):
    client = world.node.client
    client.records[b"odd"] = make_record(9 << 21, NEVER, 0x4F, b"?")
    await outcomes(world, {"set": [["good", b"1"]]})
    read = (await outcomes(world, {"get": ["odd", "good"]}))["get"]
    assert read[0]["error"] == "UndecodableValue"
    assert read[1][1] == b"1"


async def test_a_cluster_that_does_not_answer_fails_the_whole_batch(world):
    world.node.client.failure = Unavailable("n1: gone")
    answer = await post(world, {"get": ["k"]})
    assert (answer.status, json.loads(answer.body)["error"]) == (503, "Unavailable")


@pytest.mark.parametrize(
    ("batch", "status", "error", "words"),
    [
        ({"get": [b""]}, 400, "InvalidKey", "get[0]: the key is empty"),
        ({"get": ["a", "k" * 1025]}, 400, "InvalidKey", "get[1]: the key has 1025 bytes"),
        ({"delete": [7]}, 400, "InvalidKey", "delete[0]"),
        ({"delete": [[]]}, 400, "InvalidKey", "not list"),
        ({"set": [["a", b"1"], ["b", 2]]}, 415, "UnsupportedValue", "set[1]: the value is a int"),
        ({"set": [["a", None]]}, 415, "UnsupportedValue", "NoneType"),
        ({"set": [["a", b"1", None, "yaml"]]}, 415, "UnsupportedValue", "unknown type 'yaml'"),
        ({"set": [["a", b"{", None, "json"]]}, 400, "BadRequest", "set[0]: the value is not json"),
        ({"set": [["a", b"\xff", None, "text"]]}, 400, "BadRequest", "not text"),
        ({"set": [["a", b"1.5", None, "integer"]]}, 400, "BadRequest", "not integer"),
        ({"set": [["a", b"9223372036854775808", None, "integer"]]}, 400, "BadRequest", "64 bits"),
        ({"set": [["a", b"1", 0]]}, 400, "InvalidTtl", "set[0]: ttl=0"),
        ({"set": [["a", b"1", float("nan")]]}, 400, "InvalidTtl", "set[0]"),
        ({"set": [["a", b"1", 1e10]]}, 400, "InvalidTtl", "ten years"),
        ({"set": [["a", b"1", "60"]]}, 400, "InvalidTtl", "number of seconds"),
        ({"set": [["a", b"1", True]]}, 400, "InvalidTtl", "number of seconds"),
        ({"set": [["a"]]}, 400, "BadRequest", "set[0] has 1 fields"),
        ({"set": [["a", b"1", 1, "text", 5]]}, 400, "BadRequest", "set[0] has 5 fields"),
        ({"set": [b"a"]}, 400, "BadRequest", "not a batch"),
        ({"set": {"a": 1}}, 400, "BadRequest", "not a batch"),
        ({"put": []}, 400, "BadRequest", "not 'put'"),
        ({"get": [["a", "b"]]}, 400, "BadRequest", "not a batch"),
        ({"get": [{"a": "b"}]}, 400, "BadRequest", "not a batch"),
        ([], 400, "BadRequest", "not a batch"),
        ("text", 400, "BadRequest", "not a batch"),
        (b"", 400, "BadRequest", "ends too early"),
        (b"\xc1", 400, "BadRequest", "not a batch"),
        (b"\x81\xa3get\x92\xa1a", 400, "BadRequest", "ends too early"),
        (b"\x80\x80", 400, "BadRequest", "1 bytes follow"),
        (b"\x82\xa3get\x90\xa3get\x90", 400, "BadRequest", "at most once"),
        (b"\x81\xa3get\x91\xa1\xff", 400, "BadRequest", "utf-8"),
        (b"\x81\xa3get\x91\xd6\xff\0\0\0\0", 400, "BadRequest", "max_ext_len"),
        (b"\x81\xa3get\x91" + b"\x91" * 10_000, 400, "BadRequest", "not a batch"),
        (b"\xdf\xff\xff\xff\xff", 400, "BadRequest", "ends too early"),
        (b"\x81\xa3get\xdd\xff\xff\xff\xff", 413, "BatchTooLarge", "over 100000 keys"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "BadRequest", "not a batch"),
    ],
)
async def test_a_batch_that_is_wrong_anywhere_is_refused_before_anything_is_done(world, batch, status, error, words):
    answer = await post(world, batch)
    assert (answer.status, json.loads(answer.body)["error"]) == (status, error)
    assert words in json.loads(answer.body)["message"]
    assert world.node.client.records == {}


async def test_a_batch_of_a_million_keys_is_refused(world):
    body = b"\x81\xa3get\xdd" + struct.pack(">I", 1_000_000) + b"\xa5key42" * 1_000_000
    answer = await post(world, body)
    assert (answer.status, json.loads(answer.body)["error"]) == (413, "BatchTooLarge")
    assert json.loads(answer.body)["detail"] == 100_000


async def test_the_sections_share_one_limit_of_keys(make_world):
    world = await make_world(batch_keys=3)
    assert (await post(world, {"get": ["a", "b"], "delete": ["c"]})).status == 200
    assert (await post(world, {"get": ["a", "b"], "delete": ["c", "d"]})).status == 413


async def test_a_body_over_the_limit_is_refused_from_its_header(make_world):
    world = await make_world(batch_bytes=100)
    wire = await world.connect()
    wire.ask("POST", "/v1/batch", Content_Type=BATCH, Content_Length="101")
    answer = await wire.answer()
    assert (answer.status, json.loads(answer.body)["error"]) == (413, "BatchTooLarge")


async def test_a_value_over_the_limit_is_refused_with_its_place(make_world):
    world = await make_world(value_limit=10)
    answer = await post(world, {"set": [["a", b"x" * 10], ["b", b"x" * 11]]})
    assert (answer.status, json.loads(answer.body)["error"]) == (413, "ValueTooLarge")
    assert "set[1]" in json.loads(answer.body)["message"]


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "application/json"])
async def test_a_web_page_cannot_send_a_batch_without_being_allowed(world, content_type):
    answer = await post(world, {"set": [["k", b"x"]]}, Content_Type=content_type)
    assert (answer.status, world.node.client.records) == (415, {})
    assert (await world.ask("OPTIONS", "/v1/batch")).status == 405


@given(st.binary(max_size=64) | st.binary(max_size=64).map(lambda tail: b"\x81\xa3set\x91\x94" + tail))
@settings(max_examples=300, deadline=None)
def test_no_bytes_make_the_reader_fail_in_any_other_way(body):
    try:
        batch = read_batch(body, HttpLimits())
    except KvCacheError as error:
        refusal = error_response(error)
    else:
        assert isinstance(batch, Batch)
        return
    assert refusal.status in (400, 413, 415)


keys = st.text(min_size=1, max_size=8) | st.binary(min_size=1, max_size=8)
rows = st.tuples(keys, st.binary(max_size=8) | st.text(max_size=8), st.none() | st.floats(0.1, 1e6))


@given(st.lists(keys, max_size=5), st.lists(rows, max_size=5), st.lists(keys, max_size=5))
@settings(max_examples=50, deadline=None)
def test_a_well_formed_batch_is_read_as_it_was_written(gets, sets, deletes):
    batch = read_batch(msgpack.packb({"set": sets, "get": gets, "delete": deletes}), HttpLimits())

    def as_bytes(text):
        return text.encode() if isinstance(text, str) else text

    assert batch.sections == ["set", "get", "delete"]
    assert batch.get == [as_bytes(key) for key in gets]
    assert batch.delete == [as_bytes(key) for key in deletes]
    assert [(row.key, row.payload, row.ttl) for row in batch.set] == [
        (as_bytes(key), as_bytes(value), ttl) for key, value, ttl in sets
    ]


async def test_values_that_clients_wrapped_are_shown_bare_and_a_serializers_can_be_set_again(world):
    zstd = COMPRESSIONS[1]
    records = world.node.client.records
    records[b"small"] = make_record(5 << 21, NEVER, PayloadType.TEXT | 0x10, zstd.compress(b"x" * 500))
    records[b"guarded"] = make_record(5 << 21, NEVER, *fenced(7, PayloadType.BYTES, b"b"))
    records[b"bad"] = make_record(5 << 21, NEVER, PayloadType.TEXT | 0x10, b"junk")
    records[b"own"] = make_record(5 << 21, NEVER, PayloadType.SERIALIZED, b"\x03owndata")
    read = (await outcomes(world, {"get": ["small", "guarded", "bad", "own"]}))["get"]
    assert [row[:2] for row in read[:2]] == [["text", b"x" * 500], ["bytes", b"b"]]
    assert read[2]["error"] == "UndecodableValue"
    assert read[3][:2] == ["serialized", b"\x03owndata"]
    await outcomes(world, {"set": [["copy", read[3][1], None, "serialized"]]})
    assert payload_of(records[b"copy"]) == b"\x03owndata"
    for bad in ("fenced", "soft"):
        assert (await post(world, {"set": [["k", b"x", None, bad]]})).status == 415
    assert (await post(world, {"set": [["k", b"\x09short", None, "serialized"]]})).status == 400


async def test_a_value_with_a_soft_expiry_is_shown_bare_until_then_and_a_miss_after(world):
    records = world.node.client.records
    now_ms = world.node.client.brain.hlc.now_ms()
    for name, stale_ms in ((b"fresh", now_ms + 60_000), (b"stale", now_ms - 1)):
        records[name] = make_record(5 << 21, now_ms + 120_000, *soft(stale_ms, PayloadType.TEXT, b"Ada"))
    fresh, stale = (await outcomes(world, {"get": ["fresh", "stale"]}))["get"]
    assert fresh[:2] == ["text", b"Ada"]
    assert 50 < fresh[3] <= 60
    assert stale is None
