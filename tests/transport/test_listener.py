"""The port: how many may come, how long they may take, and how it ends."""

import asyncio
import contextlib
import os
import resource
import socket

import pytest

from kvcache.transport.limits import StreamLimits
from kvcache.transport.listener import Listener
from kvcache.transport.stream import StreamConnection
from kvcache_client.protocol.errors import MalformedFrame, NotReady
from kvcache_client.protocol.framing import pack_message
from kvcache_client.protocol.record import NEVER, PayloadType, make_record
from kvcache_client.protocol.verbs import Push, Status, Verb

HELLO_MESSAGE = pack_message(1, int(Verb.HELLO), 1, "test", 0, b"", "")
PING = pack_message(7, int(Verb.PING))
GET = pack_message(7, int(Verb.GET), b"k")


async def fill(peer, size):
    record = make_record(1 << 40, NEVER, PayloadType.BYTES, b"x" * size)
    assert (await peer.ask(int(Verb.PUT), 9, b"k", record))[0] == Status.OK


async def test_a_client_is_served_over_a_real_socket(port):
    peer = await port.introduced()
    await fill(peer, 1000)
    assert (await peer.ask(int(Verb.GET), b"k"))[0] == Status.OK
    assert port.counters.requests == 3


async def test_replies_larger_than_every_buffer_arrive_whole_and_in_order(port):
    peer = await port.introduced()
    await fill(peer, 100_000)
    peer.send(*[pack_message(number, int(Verb.GET), b"k") for number in range(1, 2001)])
    replies = await peer.messages(2000)
    assert [reply[0] for reply in replies] == list(range(1, 2001))
    assert {len(reply[2]) for reply in replies} == {100_015}


async def test_a_client_that_does_not_read_does_not_hold_up_another(port):
    glutton = await port.introduced()
    await fill(glutton, 1_000_000)
    glutton.writer.transport.pause_reading()
    glutton.send(GET * 500)
    other = await port.introduced()
    for _ in range(100):
        assert (await other.ask(int(Verb.PING)))[0] == Status.OK
    assert port.counters.requests < 300


async def test_a_client_that_does_not_read_is_closed_in_time(make_port, caplog):
    port = await make_port(unread_seconds=0.05)
    glutton = await port.introduced()
    await fill(glutton, 1_000_000)
    glutton.writer.transport.pause_reading()
    glutton.send(GET * 500)
    await port.until(lambda: port.counters.overdue == 1)
    await port.until(lambda: port.listener.connections == 0)
    assert "replies unread for over 0.05 s" in caplog.text


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no first byte within 0.05 s"),
        (b"\x97", "no HELLO within 0.05 s"),
        (pack_message(1, int(Verb.HELLO), 1, "test")[:-1], "no HELLO within 0.05 s"),
    ],
    ids=["nothing", "one byte", "half a hello"],
)
async def test_who_does_not_introduce_himself_is_closed_in_time(make_port, caplog, data, reason):
    port = await make_port(hello_seconds=0.05)
    peer = await port.connect(data)
    assert await peer.rest() == b""
    assert port.counters.overdue == 1
    assert reason in caplog.text


async def test_half_a_frame_is_closed_in_time(make_port, caplog):
    port = await make_port(frame_seconds=0.05)
    peer = await port.introduced()
    peer.send(PING, GET[:-1])
    await peer.messages(1)
    peer.send(b"")
    half = await port.introduced()
    half.send(GET[:-1])
    assert await half.rest() == b""
    assert "a frame took over 0.05 s" in caplog.text


async def test_half_a_frame_and_the_end_of_the_connection_is_no_error(port, caplog):
    peer = await port.introduced()
    peer.send(GET[:-1])
    await peer.close()
    await port.until(lambda: port.listener.connections == 0)
    assert port.counters.malformed == 0
    assert caplog.records == []


async def test_one_connection_over_the_limit_is_refused_and_the_others_live(make_port, caplog):
    port = await make_port(connections=3)
    peers = [await port.introduced(), await port.connect(b"GET /"), await port.connect()]
    await port.until(lambda: port.listener.connections == 3)
    for refused in range(1, 4):
        over = await port.connect(PING)
        assert await over.rest() == b""
        assert port.counters.refused == refused
    assert (await peers[0].ask(int(Verb.PING)))[0] == Status.OK
    assert await peers[1].reader.readexactly(10) == b"http:GET /"
    assert "refused a connection: 3 are open" in caplog.text
    for peer in peers[1:]:
        await peer.close()
    await port.until(lambda: port.listener.connections == 1)
    await port.introduced()
    assert port.counters.refused == 3


async def test_a_new_epoch_reaches_every_client_that_said_hello(port):
    peers = [await port.introduced() for _ in range(3)]
    stranger = await port.connect(b"\x97")
    await port.until(lambda: "streams=4" in repr(port.listener))
    port.listener.push_epoch(42)
    for peer in peers:
        assert await peer.messages(1) == [(0, Push.EPOCH, 42)]
    port.listener.stop_accepting()
    await port.listener.stop()
    assert await stranger.rest() == b""


async def test_a_refusal_arrives_before_the_close(port, unpacked):
    peer = await port.introduced()
    peer.send(PING, b"\xc1")
    assert [message[:2] for message in unpacked(await peer.rest())] == [(7, 0), (0, MalformedFrame.code)]


async def test_a_port_that_is_taken_is_an_os_error(port, service):
    other = Listener(service, port.door, StreamLimits())
    with pytest.raises(OSError, match=r"[Aa]ddress already in use"):
        await other.start("127.0.0.1", port.number)
    await other.stop()


async def test_a_listener_that_never_started_can_stop(port, service):
    listener = Listener(service, port.door, StreamLimits())
    await listener.stop()
    assert listener.connections == 0


# The end


async def test_nobody_can_connect_after_the_end(port):
    await port.listener.stop()
    with pytest.raises(ConnectionRefusedError):
        await port.connect()


async def test_the_end_closes_idle_connections_of_every_kind_at_once(port):
    peers = [await port.introduced(), await port.connect(b"\x97"), await port.connect()]
    await port.until(lambda: port.listener.connections == 3)
    await port.listener.stop()
    assert port.listener.connections == 0
    assert [await peer.rest() for peer in peers] == [b""] * 3


async def test_a_peer_that_stays_open_does_not_hold_up_the_end(port):
    loop = asyncio.get_running_loop()
    with socket.socket() as deaf:
        deaf.setblocking(False)
        await loop.sock_connect(deaf, ("127.0.0.1", port.number))
        await loop.sock_sendall(deaf, pack_message(1, int(Verb.HELLO), 1, "test", 0, b"", ""))
        await port.until(lambda: port.counters.requests == 1)
        async with asyncio.timeout(5):
            await port.listener.stop()
        assert port.listener.connections == 0


async def test_replies_to_all_that_was_read_arrive_before_the_end(port):
    peer = await port.introduced()
    await fill(peer, 10_000)
    peer.writer.transport.pause_reading()
    peer.send(GET * 5000)  # 30 kB, which one read takes: most of it is held back while nobody reads the replies
    await port.until(lambda: port.counters.requests > 20)
    stopping = asyncio.create_task(port.listener.stop())
    await asyncio.sleep(0)
    assert port.counters.requests < 4000
    peer.writer.transport.resume_reading()
    assert len(await peer.messages(5000)) == 5000
    assert await peer.reader.read() == b""
    await stopping


async def test_a_peer_that_goes_on_asking_gets_every_reply_and_then_the_end(port):
    peer = await port.introduced()
    await fill(peer, 10_000)

    async def ask_on():
        while not peer.writer.is_closing():
            peer.send(GET * 50)
            await peer.writer.drain()
            await asyncio.sleep(0)

    replies = 0
    stopping = None
    asking = asyncio.create_task(ask_on())
    async with asyncio.timeout(20):
        while data := await peer.reader.read(1 << 18):  # an end, not a reset
            replies += len(peer.frames.feed(data))
            if replies > 500 and stopping is None:
                stopping = asyncio.create_task(port.listener.stop())
    asking.cancel()
    await asyncio.gather(asking, stopping, return_exceptions=True)
    assert replies == port.counters.requests - 2


async def test_who_has_just_been_let_in_gets_every_reply_and_then_the_end(port, monkeypatch):
    answer = StreamConnection.data_received

    def answer_as_the_end_begins(connection, data):
        answer(connection, data)
        port.listener.stop_accepting()

    monkeypatch.setattr(StreamConnection, "data_received", answer_as_the_end_begins)
    peer = await port.connect(HELLO_MESSAGE, PING)
    assert len(await peer.messages(2)) == 2
    stopping = asyncio.create_task(port.listener.stop())
    assert await peer.reader.read() == b""
    await stopping
    assert port.listener.connections == 0


async def test_a_bug_at_the_end_of_one_connection_keeps_no_other_from_its_own(port, monkeypatch):
    peers = [await port.introduced() for _ in range(3)]
    peers[0].writer.transport.pause_reading()
    ended = []

    def finish(connection, finish=StreamConnection.finish):
        ended.append(connection)
        if len(ended) == 2:
            raise ZeroDivisionError
        finish(connection)

    monkeypatch.setattr(StreamConnection, "finish", finish)
    with pytest.raises(ZeroDivisionError):
        await port.listener.stop()
    assert len(ended) == 3
    await port.until(lambda: port.listener.connections == 0)


async def test_those_who_wait_for_a_computation_are_told_to_ask_elsewhere(port):
    peers = [await port.introduced() for _ in range(2)]
    for number, peer in enumerate(peers, 1):
        peer.send(pack_message(7, int(Verb.LEASE), port.service.epoch, b"k", number, 60_000))
        await port.until(lambda number=number: port.service.leases.waiting == number - 1)
    assert (await peers[0].messages(1))[0][1] == Status.GRANTED
    stopping = asyncio.create_task(port.listener.stop())
    assert (await peers[1].messages(1))[0][:2] == (7, NotReady.code)
    assert await peers[1].reader.read() == b""
    await stopping
    assert repr(port.service.leases) == "<Leases held=0 waiting=0>"


async def test_its_repr_tells_what_is_open(port):
    await port.introduced()
    assert "streams=1 connections=1" in repr(port.listener)


# Limits of connections


async def test_one_address_takes_no_more_than_its_share(make_port, caplog):
    port = await make_port(connections_per_address=2)
    peers = [await port.introduced(), await port.connect(b"GET /")]
    over = await port.connect(PING)
    assert await over.rest() == b""
    assert "refused a connection: 2 from 127.0.0.1 are open" in caplog.text
    other = socket.socket()
    other.setblocking(False)
    other.bind(("127.0.0.2", 0))
    with other:
        loop = asyncio.get_running_loop()
        await loop.sock_connect(other, ("127.0.0.1", port.number))
        await loop.sock_sendall(other, pack_message(1, int(Verb.HELLO), 1, "test", 0, b"", ""))
        assert await loop.sock_recv(other, 100)
    await peers[1].close()
    await port.until(lambda: port.listener.connections == 1)
    await port.introduced()


async def test_an_address_that_guesses_is_not_even_accepted(port):
    for _ in range(2):
        port.listener.guard.guesses.spend("127.0.0.1")
    over = await port.connect(PING)
    assert await over.rest() == b""
    assert port.counters.refused == 1


async def test_without_descriptors_new_connections_are_closed_and_the_old_ones_served(port, caplog):
    peer = await port.introduced()
    refused = port.counters.refused
    room, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as held:
        waiting = [held.enter_context(socket.socket()) for _ in range(3)]
        for each in waiting:
            each.setblocking(False)
        lowest = held.enter_context(open(os.devnull)).fileno()  # all below are taken
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        held.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (room, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        for each in waiting:
            await asyncio.get_running_loop().sock_connect(each, ("127.0.0.1", port.number))
        async with asyncio.timeout(5):
            for each in waiting:
                with contextlib.suppress(ConnectionResetError):
                    assert await asyncio.get_running_loop().sock_recv(each, 10) == b""
        assert (await peer.ask(int(Verb.PING)))[0] == Status.OK
    assert port.counters.refused == refused + 3
    assert "no file descriptor left" in caplog.text
    await port.introduced()


async def test_a_flood_of_connects_waits_for_those_who_are_connected(make_port):
    port = await make_port(accepts_at_once=2, accept_pause_seconds=0.01)
    before = port.counters.accepted
    peers = await asyncio.gather(*(port.connect(HELLO_BYTES_OF_A_CLIENT) for _ in range(20)))
    first = await port.introduced()
    assert (await first.ask(int(Verb.PING)))[0] == Status.OK
    for peer in peers:
        assert (await peer.messages(1))[0][1] == Status.OK
    assert port.counters.accepted == before + 21


HELLO_BYTES_OF_A_CLIENT = pack_message(1, int(Verb.HELLO), 1, "test", 0, b"", "")
