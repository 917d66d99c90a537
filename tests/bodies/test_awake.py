"""Waiting awake: the answer is found without a sleep, and nobody else is kept waiting."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator

import pytest

from kvcache_client.bodies import awake
from kvcache_client.bodies.awake import AwakeLoop, polling_on, receive_awake
from kvcache_client.core.busy_polling import BusyPolling
from kvcache_client.core.link import Link

LONG = 10.0
"""Seconds; nothing here may last that long."""


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    with near, far:
        yield near, far


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(awake, "cores", lambda: 2)


def test_what_is_there_is_taken_awake(pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    polling = BusyPolling(LONG)
    far.send(b"answer")
    assert receive_awake(near, 100, polling) == b"answer"
    assert polling.begins()


def test_an_answer_that_takes_longer_is_slept_for(pair: tuple[socket.socket, socket.socket]) -> None:
    """Nothing comes: the wait goes over to a sleep, which ends as the socket says, and the next wait sleeps at once."""
    near, _ = pair
    polling = BusyPolling(1e-6)
    near.setblocking(False)  # the sleep ends at once, as if its time were over
    with pytest.raises(BlockingIOError):
        receive_awake(near, 100, polling)
    assert not polling.begins()


def test_the_end_of_a_connection_is_seen_awake(pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    far.close()
    assert receive_awake(near, 100, BusyPolling(LONG)) == b""


@pytest.mark.usefixtures("two_cores")
def test_only_a_plain_socket_with_a_core_to_spare_is_waited_for_awake(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    near, _ = pair
    assert polling_on(near, 50e-6).begins()
    assert not polling_on(near, 0.0).begins()
    context = ssl.create_default_context()
    context.check_hostname = False
    with context.wrap_socket(near.dup(), do_handshake_on_connect=False) as secured:
        assert not polling_on(secured, 50e-6).begins()
    monkeypatch.setattr(awake, "cores", lambda: 1)
    assert not polling_on(near, 50e-6).begins()


def test_under_gevent_nobody_waits_awake() -> None:
    gevent_socket = pytest.importorskip("gevent.socket")
    near, far = gevent_socket.socketpair()
    with near, far:
        assert not polling_on(near, 50e-6).begins()


@pytest.mark.usefixtures("two_cores")
async def test_an_awake_loop_keeps_turning_until_the_answer_and_others_run_meanwhile() -> None:
    link = Link("n1", lambda epoch: None)
    loop = asyncio.get_running_loop()
    keeper = AwakeLoop(link, loop, LONG)
    keeper.sent()
    timer = asyncio.Event()
    loop.call_later(0.001, timer.set)
    turns = 0
    while not timer.is_set():
        await asyncio.sleep(0)
        turns += 1
    assert turns > 1
    assert "awake" in repr(keeper)
    link.received += 1
    await asyncio.sleep(0)
    assert "asleep" in repr(keeper)


@pytest.mark.usefixtures("two_cores")
async def test_an_awake_loop_sleeps_when_its_time_is_over() -> None:
    keeper = AwakeLoop(Link("n1", lambda epoch: None), asyncio.get_running_loop(), 1e-6)
    keeper.sent()
    async with asyncio.timeout(LONG):
        while "awake" in repr(keeper):
            await asyncio.sleep(0)
    keeper.sent()  # that was a loss, so the next wait sleeps at once
    assert "asleep" in repr(keeper)
