"""Child servers: started, measured, stopped, and never left behind."""

from __future__ import annotations

import os
import socket
import sys
import time

import pytest

from loadtests import CannotRun
from loadtests.local_cluster import ClusterOptions, LocalCluster
from loadtests.server_process import ServerProcess, accepts, free_ports, on_core

_SLEEPER = [sys.executable, "-S", "-c", "import time; print('up', flush=True); time.sleep(60)"]


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_server_that_ends_at_once_is_reported_with_its_last_words() -> None:
    process = ServerProcess("broken", [sys.executable, "-S", "-c", "import sys; sys.exit('no room\\nport taken')"])
    try:
        with pytest.raises(CannotRun, match=r"broken ended with code 1: port taken"):
            process.wait_until(lambda: False)
    finally:
        process.stop()


def test_a_server_that_never_gets_ready_is_reported_and_stopped() -> None:
    process = ServerProcess("slow", _SLEEPER)
    try:
        process.wait_until(lambda: process.last_line() == "up")
        with pytest.raises(CannotRun, match=r"slow was not ready within 0\.05 s: up"):
            process.wait_until(lambda: False, seconds=0.05)
    finally:
        process.stop()
    assert not _is_alive(process.pid)
    process.stop()  # a second time does no harm
    assert "ended" in repr(process)


def test_a_server_that_ignores_the_polite_signal_is_killed() -> None:
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    )
    process = ServerProcess("deaf", [sys.executable, "-S", "-c", deaf])
    process.wait_until(lambda: process.last_line() == "deaf")
    process.stop(grace=0.1)
    assert not _is_alive(process.pid)


def test_a_program_that_does_not_exist_says_so() -> None:
    process = ServerProcess("ghost", ["/nowhere/ghost"])
    try:
        with pytest.raises(CannotRun, match="cannot start /nowhere/ghost"):
            process.wait_until(lambda: False)
    finally:
        process.stop()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")
def test_memory_and_time_of_a_server_are_read_while_it_runs() -> None:
    process = ServerProcess("busy", [sys.executable, "-S", "-c", "while True: pass"])
    try:
        process.wait_until(lambda: process.cpu_seconds() > 0.05)
        assert 1 << 20 < process.memory_bytes() <= process.memory_bytes("VmHWM") < 1 << 30
        with pytest.raises(CannotRun, match="VmNothing"):
            process.memory_bytes("VmNothing")
    finally:
        process.stop()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores can be chosen on Linux only")
def test_a_server_started_on_a_core_stays_there_and_the_starter_keeps_its_own() -> None:
    before = os.sched_getaffinity(0)
    core = max(before)
    process = ServerProcess("pinned", _SLEEPER, core=core)
    try:
        process.wait_until(lambda: process.last_line() == "up")
        assert os.sched_getaffinity(process.pid) == {core}
        assert os.sched_getaffinity(0) == before
    finally:
        process.stop()
    with on_core(None):
        assert os.sched_getaffinity(0) == before


def test_free_ports_are_different_and_free() -> None:
    ports = free_ports(5)
    assert len(set(ports)) == 5
    assert not any(accepts(port) for port in ports)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert accepts(listener.getsockname()[1])


def test_a_cluster_without_nodes_is_refused() -> None:
    with pytest.raises(CannotRun, match="at least one node, not 0"):
        LocalCluster(ClusterOptions(nodes=0))


async def test_a_cluster_whose_nodes_cannot_start_says_why_and_leaves_nothing_behind() -> None:
    cluster = LocalCluster(ClusterOptions(nodes=1, memory="none at all"))
    with pytest.raises(CannotRun, match="kvcache node n1 ended with code"):
        await cluster.__aenter__()
    deadline = time.monotonic() + 10
    while any(_is_alive(node.pid) for node in cluster.nodes) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(_is_alive(node.pid) for node in cluster.nodes)
