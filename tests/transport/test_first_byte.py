"""The first byte of a connection decides what it speaks: this protocol, HTTP, or nothing."""

import asyncio

import pytest

from kvcache_client.protocol.framing import pack_message
from kvcache_client.protocol.verbs import Status, Verb

STREAM = {*range(0x90, 0xA0), 0xDC}
HTTP = set(range(ord("A"), ord("Z") + 1))
HELLO_FIELDS = (1, int(Verb.HELLO), 1, "test", 0, b"", "")


async def test_each_of_the_256_first_bytes_goes_where_the_table_says(port):
    peers = [await port.connect(bytes([byte])) for byte in range(256)]
    foreign = set(range(256)) - STREAM - HTTP
    for byte in foreign:
        assert await peers[byte].rest() == b""
    for byte in HTTP:
        assert await peers[byte].reader.readexactly(6) == b"http:" + bytes([byte])
    # An empty array is complete with its first byte, and refused; of the others the rest is waited for.
    await port.until(lambda: port.listener.connections == len(HTTP) + len(STREAM) - 1)
    assert port.door.open_connections == len(HTTP)
    assert port.counters.foreign == len(foreign) == 213
    assert port.counters.accepted == 256
    assert (await peers[0x90].rest())[:2] == b"\x94\x00"


@pytest.mark.parametrize("header", [b"\x97", b"\xdc\x00\x07"], ids=["fixarray", "array16"])
async def test_both_short_forms_of_an_array_begin_a_hello(port, header):
    peer = await port.connect(header + pack_message(*HELLO_FIELDS)[1:])
    assert (await peer.messages(1))[0][:2] == (1, Status.OK)


async def test_the_first_byte_may_come_long_before_the_second(port):
    hello = pack_message(*HELLO_FIELDS)
    peer = await port.connect(hello[:1])
    await port.until(lambda: "streams=1" in repr(port.listener))
    peer.send(hello[1:])
    assert (await peer.messages(1))[0][:2] == (1, Status.OK)


async def test_everything_that_came_with_the_first_byte_is_handed_on(port):
    peer = await port.connect(b"GET / HTTP/1.1\r\n\r\n")
    assert await peer.reader.readexactly(23) == b"http:GET / HTTP/1.1\r\n\r\n"
    peer.send(b"more")
    assert await peer.reader.readexactly(9) == b"http:more"


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x42" * 500,
        b"\x80\x2e\x01\x00\x02",
        b"*1\r\n$4\r\nPING\r\n",
        b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n",
        b"get k\r\n",
        b"\x80\x00\x00\x01\x00",
        b"SSH-2.0-OpenSSH_9.9\r\n"[3:],
        b"\x00" * 4096,
        b"\xff" * 4096,
        b"\xdd\x00\x00\x00\x07",
        b"\r\n",
        b" GET / HTTP/1.1\r\n",
    ],
    ids=lambda data: repr(data[:12]),
)
async def test_a_stranger_of_another_protocol_is_closed_without_an_answer(port, data):
    peer = await port.connect(data)
    assert await peer.rest() == b""
    await port.until(lambda: port.counters.foreign == 1)
    assert port.listener.connections == 0


async def test_a_redis_command_in_its_inline_form_looks_like_http(port):
    peer = await port.connect(b"PING\r\n")
    assert await peer.reader.readexactly(11) == b"http:PING\r\n"


async def test_a_connection_that_says_nothing_and_goes_is_forgotten(port):
    peer = await port.connect()
    await port.until(lambda: port.listener.connections == 1)
    await peer.close()
    await port.until(lambda: port.listener.connections == 0)
    assert (port.counters.accepted, port.counters.foreign) == (1, 0)


async def test_a_thousand_strangers_write_one_line_a_second(port, caplog):
    clock = [port.listener._now()]
    port.listener._now = lambda: clock[0]
    for number in range(1, 101):
        peer = await port.connect(b"\x16\x03\x01")
        await peer.rest()
        await port.until(lambda: port.counters.foreign == number)  # noqa: B023
    assert [record.getMessage() for record in caplog.records] == [
        "closed a connection that begins with byte 0x16: neither a message nor HTTP"
    ]
    clock[0] += 1.0
    await asyncio.gather(*[(await port.connect(b"*1\r\n")).rest() for _ in range(10)])
    assert len(caplog.records) == 2
    assert "0x2a" in caplog.records[1].getMessage()
