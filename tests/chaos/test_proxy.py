"""The stretch of network that can go wrong."""

from __future__ import annotations

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest
from polling import until

from kvcache_client.protocol.framing import pack_message
from kvcache_client.protocol.verbs import Verb
from loadtests.proxy import Proxy
from loadtests.wire import Wire

if TYPE_CHECKING:
    from serving import ServingCluster


@pytest.fixture
async def echo() -> AsyncIterator[int]:
    """A server that says back what it hears; the port of it."""

    async def serve(reader: StreamReader, writer: StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 16):
                writer.write(data)
        except ConnectionError:
            return
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


@pytest.fixture
async def proxy(echo: int) -> AsyncIterator[Proxy]:
    async with Proxy("127.0.0.1", echo) as proxy:
        yield proxy


async def connect(proxy: Proxy) -> tuple[StreamReader, StreamWriter]:
    host, _, port = proxy.address.rpartition(":")
    return await asyncio.open_connection(host, int(port))


async def said_back(reader: StreamReader, writer: StreamWriter, data: bytes) -> bytes:
    writer.write(data)
    return await asyncio.wait_for(reader.readexactly(len(data)), 20)


async def test_everything_passes_in_order_and_the_end_too(proxy: Proxy) -> None:
    reader, writer = await connect(proxy)
    data = bytes(range(256)) * 2000
    assert await said_back(reader, writer, data) == data
    writer.write_eof()
    assert await reader.read() == b""
    writer.close()


@pytest.mark.parametrize("direction", ["up", "down", None])
async def test_what_is_cut_off_is_held_back_until_the_heal(proxy: Proxy, direction: str | None) -> None:
    reader, writer = await connect(proxy)
    assert await said_back(reader, writer, b"before") == b"before"
    proxy.cut(direction=direction)  # type: ignore[arg-type]
    waiting = asyncio.create_task(said_back(reader, writer, b"meanwhile"))
    done, _ = await asyncio.wait([waiting], timeout=0.1)
    assert not done
    proxy.heal()
    assert await waiting == b"meanwhile"
    writer.close()


async def test_a_delay_holds_in_each_direction(proxy: Proxy) -> None:
    reader, writer = await connect(proxy)
    await said_back(reader, writer, b"before")
    proxy.delay(0.05)
    clock = asyncio.get_running_loop().time
    began = clock()
    await said_back(reader, writer, b"slowly")
    assert clock() - began >= 0.1
    writer.close()


@pytest.fixture
async def complaints() -> list[dict[str, Any]]:
    """What the event loop complains of, which nobody else would see."""
    seen: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: seen.append(context))
    return seen


async def test_what_lags_arrives_before_the_end_of_the_stream(proxy: Proxy, complaints: list[dict[str, Any]]) -> None:
    first, second = pack_message(1, 7), pack_message(2, 7)
    lags = iter([0.05, 0.0])
    proxy.straggle(lambda: next(lags))
    reader, writer = await connect(proxy)
    writer.write(first + second)
    writer.write_eof()
    assert await reader.read() == second + first
    writer.close()
    assert not complaints


async def test_what_lags_when_the_connection_breaks_goes_nowhere(
    proxy: Proxy, complaints: list[dict[str, Any]]
) -> None:
    proxy.straggle(lambda: 0.01)
    reader, writer = await connect(proxy)
    for number in range(100):
        writer.write(pack_message(number, 7))
    await reader.readexactly(3)
    proxy.reset()
    with pytest.raises(ConnectionError):
        while await reader.read(1 << 16):
            pass
        raise ConnectionError("the end came without an error, which is as good")
    writer.close()
    await until(lambda: "0 connections" in repr(proxy))
    assert not complaints


async def test_a_reset_breaks_connections_and_new_ones_are_taken_or_refused(proxy: Proxy) -> None:
    reader, writer = await connect(proxy)
    await said_back(reader, writer, b"before")
    proxy.reset()
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await said_back(reader, writer, b"after")
    writer.close()
    proxy.refusing = True
    reader, writer = await connect(proxy)
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await said_back(reader, writer, b"refused")
    writer.close()
    proxy.heal()
    reader, writer = await connect(proxy)
    assert await said_back(reader, writer, b"again") == b"again"
    writer.close()


async def test_one_caller_is_cut_off_and_others_are_not(one_node: ServingCluster) -> None:
    port = int(one_node.addresses[0].rpartition(":")[2])
    async with Proxy("127.0.0.1", port) as proxy, Wire(proxy.address, name="n1") as one:
        async with Wire(proxy.address, name="n2") as other:
            proxy.cut(source="n1")
            waiting = asyncio.create_task(one.ask(int(Verb.PING)))
            assert (await other.ask(int(Verb.PING)))[0] == 0
            assert not waiting.done()
            proxy.heal()
            assert (await waiting)[0] == 0
        await until(lambda: "1 connections" in repr(proxy))
