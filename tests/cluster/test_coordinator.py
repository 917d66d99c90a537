"""The shared connection: its errors are ours, its answers stay with who asked, its secrets stay inside."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from kvcache.cluster.coordinator import Coordinator
from kvcache_client.protocol.errors import ControlPlaneUnavailable, InvalidOption


async def test_a_command_is_answered(coordinator):
    assert await coordinator.ask("SET", "k", b"\xff") in (b"OK", True)
    assert await coordinator.ask("GET", "k") == b"\xff"


async def test_a_refusal_carries_the_word_that_the_server_gave(coordinator):
    await coordinator.ask("RPUSH", "k", "entry")
    with pytest.raises(ControlPlaneUnavailable, match="refused: WRONGTYPE") as caught:
        await coordinator.ask("GET", "k")
    assert caught.value.detail == b"WRONGTYPE"


async def test_no_server_is_a_typed_error_without_the_password(coordinators):
    gone = coordinators("redis://user:secret@127.0.0.1:1/3")
    with pytest.raises(ControlPlaneUnavailable, match=r"redis://127\.0\.0\.1:1/3 does not answer") as caught:
        await gone.ask("PING")
    assert caught.value.detail is None
    assert "secret" not in str(caught.value) + repr(gone)


async def test_a_stopped_server_is_given_up_and_used_again_later(valkey, coordinators):
    coordinator = coordinators(valkey.url, timeout=0.2)
    await coordinator.ask("PING")
    os.kill(valkey.pid, signal.SIGSTOP)
    try:
        with pytest.raises(ControlPlaneUnavailable):
            await coordinator.ask("PING")
    finally:
        os.kill(valkey.pid, signal.SIGCONT)
    assert await coordinator.ask("ECHO", "again") == b"again"


async def test_a_subscription_hears_its_channel_and_nothing_else(coordinator):
    async with coordinator.subscription("one") as events:
        assert "one" in repr(events)
        await coordinator.ask("PUBLISH", "two", "no")
        await coordinator.ask("PUBLISH", "one", "yes")
        async with asyncio.timeout(10):
            while (heard := await events.next(0.1)) is None:
                pass
    assert heard == b"yes"


@pytest.mark.parametrize("url", ["", "http://127.0.0.1", None, "redis://127.0.0.1:port"])
def test_a_coordinator_with_a_bad_url_is_refused(url):
    with pytest.raises(InvalidOption, match="coordinator"):
        Coordinator(url)
