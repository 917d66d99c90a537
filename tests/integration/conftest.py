"""Node processes as an operator starts them, and raw connections that say what no client would.

A node dies with the test run even when that is killed; its log goes to a file that a test may read.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from kvcache.cluster import launcher
from kvcache_client.protocol.framing import CLIENT_FRAME_LIMIT, FrameReader, pack_message
from kvcache_client.protocol.verbs import Message, Verb

PATIENCE = 20.0
"""Seconds after which a test that waits for something gives up."""

HELLO = pack_message(1, int(Verb.HELLO), 1, "", 0, b"", "a test")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], object], what: str) -> None:
    """Return when ``condition`` holds; fail when it does not for too long."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"this did not happen within {PATIENCE:g} s: {what}")
        time.sleep(0.005)


class RawWire:
    """A blocking connection. What cannot be sent because the node has closed is not sent."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.frames = FrameReader(CLIENT_FRAME_LIMIT)
        self.pending: list[Message] = []
        self.reset = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, *data: bytes) -> None:
        try:
            self.socket.sendall(b"".join(data))
        except OSError:  # it has closed, or we have
            self.reset = True

    def introduce(self) -> Self:
        self.send(HELLO)
        assert self.message()[1] == 0
        return self

    def message(self) -> Message:
        """Return the next message."""
        while not self.pending:
            data = self.socket.recv(1 << 18)
            assert data, "the node closed the connection"
            self.pending += self.frames.feed(data)
        return self.pending.pop(0)

    def ask(self, *fields: Any) -> Message:
        """Send one request and return its reply without the id."""
        self.send(pack_message(7, *fields))
        reply = self.message()
        assert reply[0] == 7
        return reply[1:]

    def rest(self) -> bytes:
        """Return what comes until the node closes."""
        return b"".join(self._pieces())

    def _pieces(self) -> Iterator[bytes]:
        try:
            while piece := self.socket.recv(1 << 18):
                yield piece
        except ConnectionResetError:
            self.reset = True

    def say_no_more(self) -> bytes:
        """Close our direction, and return what comes until the node closes its own."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)
        return self.rest()

    def messages_to_the_end(self) -> list[Message]:
        """Return all messages until the node closes."""
        found, self.pending = self.pending, []
        for piece in self._pieces():
            found += self.frames.feed(piece)
        assert self.frames.broken is None
        return found


class NodeProcess:
    """``python -m kvcache node`` on a port of 127.0.0.1."""

    def __init__(self, *options: str, port: int = 0, python: tuple[str, ...] = ()) -> None:
        self.log_file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._port = port
        node = (sys.executable, *python, "-m", "kvcache", "node", "--listen", f"127.0.0.1:{port}", "--memory", "64MiB")
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(launcher.__file__)), str(os.getpid()), *node, *options],
            stdin=subprocess.DEVNULL,
            stdout=self.log_file,
            stderr=subprocess.STDOUT,
            env={name: value for name, value in os.environ.items() if not name.startswith("KVCACHE_")},
        )

    @property
    def log(self) -> str:
        size = os.fstat(self.log_file.fileno()).st_size
        return os.pread(self.log_file.fileno(), size, 0).decode(errors="replace")

    @property
    def port(self) -> int:
        if not self._port:
            found = re.search(r"serves cluster \S+ at 127\.0\.0\.1:(\d+)", self.log)
            assert found, self.log
            self._port = int(found[1])
        return self._port

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def serving(self) -> Self:
        """Return when the node has joined its cluster."""
        wait_for(lambda: "serves cluster" in self.log or self.process.poll() is not None, "the node serves")
        assert self.process.poll() is None, self.log
        return self

    def wire(self) -> RawWire:
        return RawWire(self.port)

    def http(self, request: bytes) -> tuple[int, bytes]:
        """Send a request and return status and body."""
        with self.wire() as wire:
            wire.send(request)
            head, _, body = wire.rest().partition(b"\r\n\r\n")
        return int(head.split(b" ", 2)[1]), body

    def get(self, path: str) -> tuple[int, bytes]:
        return self.http(f"GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n".encode())

    def statistics(self) -> dict[str, Any]:
        status, body = self.get("/v1/stats")
        assert status == 200
        counted: dict[str, Any] = json.loads(body)
        return counted

    def memory(self, field: str = "VmRSS") -> int:
        """Return a figure of the process in bytes: VmRSS is resident now, VmHWM the most that ever was."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"{field}:\s+(\d+) kB", text)[1]) * 1024  # type: ignore[index]

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ended(self) -> int:
        """Return the exit code once the process has ended."""
        return self.process.wait(PATIENCE)

    def kill(self) -> None:
        """End it whatever it does."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE)
        self.log_file.close()


@contextlib.contextmanager
def started_processes() -> Iterator[Callable[..., NodeProcess]]:
    """Start node processes; none outlives the block."""
    with contextlib.ExitStack() as stack:

        def start(*options: str, **how: Any) -> NodeProcess:
            process = NodeProcess(*options, **how)
            stack.callback(process.kill)
            return process

        yield start


@pytest.fixture
def start_process() -> Iterator[Callable[..., NodeProcess]]:
    """Start node processes; none outlives the test."""
    with started_processes() as start:
        yield start


@pytest.fixture(scope="module")
def start_processes() -> Iterator[Callable[..., NodeProcess]]:
    """Start node processes that the tests of a module share."""
    with started_processes() as start:
        yield start


@pytest.fixture(scope="module")
def node_process() -> Iterator[NodeProcess]:
    """One node that the tests of a module share. It must stop cleanly at the end."""
    process = NodeProcess()
    try:
        process.serving()
        yield process
        process.signal(signal.SIGTERM)
        assert process.ended() == 0
    finally:
        process.kill()


@pytest.fixture
def free() -> Callable[[], int]:
    """Find a port that nobody has."""
    return free_port


@pytest.fixture
def eventually() -> Callable[[Callable[[], object], str], None]:
    return wait_for
