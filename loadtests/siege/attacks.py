"""The attacks: ``python -m loadtests.siege.attacks NAME PORT`` runs one until it is told to stop, and prints what it did.

Here lives what an attacker does. Never here: measuring what others notice of it (``bystander``).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import socket
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from kvcache_client.protocol.framing import pack_message
from kvcache_client.protocol.verbs import Verb

__all__ = ["ATTACKS", "HELD", "VALUE_KEY"]

HELD: Final = 10_000
"""Idle connections."""

VALUE_KEY: Final = b"siege:large"
"""Where the node holds a value that is large enough to be left unread."""

_HELLO: Final = pack_message(1, int(Verb.HELLO), 1, "", 0, b"", "siege")
_HEAD: Final = b"GET /v1/kv/a HTTP/1.1\r\nHost: siege\r\nX-Slow: "
_sources = itertools.cycle(f"127.0.0.{last}" for last in range(1, 11))

Attack = Callable[[int, Counter[str]], Awaitable[None]]


async def _connect(port: int) -> socket.socket:
    sock = socket.socket()
    sock.setblocking(False)
    try:
        sock.bind((next(_sources), 0))
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    except BaseException:
        sock.close()
        raise
    return sock


async def _idle(port: int, done: Counter[str]) -> None:
    """Hold ten thousand connections that have said HELLO and then nothing."""
    held: list[socket.socket] = []
    loop = asyncio.get_running_loop()
    while len(held) < HELD:
        sock = await _connect(port)
        await loop.sock_sendall(sock, _HELLO)
        await loop.sock_recv(sock, 4096)
        held.append(sock)
        done["held"] = len(held)
    await asyncio.Event().wait()


async def _slow_loris(port: int, done: Counter[str]) -> None:
    """Hold a thousand connections that send a byte of a HELLO, or of a header, every second."""

    async def drip(number: int) -> None:
        data = _HELLO if number % 2 else _HEAD + b"x" * 1000
        while True:
            with contextlib.suppress(OSError), await _connect(port) as sock:
                done["connections"] += 1
                for byte in data:
                    await asyncio.get_running_loop().sock_sendall(sock, bytes([byte]))
                    await asyncio.sleep(1)
            await asyncio.sleep(0.1)

    await asyncio.gather(*(drip(number) for number in range(1000)))


async def _never_reading(port: int, done: Counter[str]) -> None:
    """Ask for large values on a hundred connections, and read none."""

    async def ask() -> None:
        request = pack_message(2, int(Verb.GET), VALUE_KEY) * 200
        while True:
            with contextlib.suppress(OSError), await _connect(port) as sock:
                done["connections"] += 1
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                await asyncio.get_running_loop().sock_sendall(sock, _HELLO)
                while True:
                    await asyncio.get_running_loop().sock_sendall(sock, request)
                    done["requests"] += 200
                    await asyncio.sleep(0.05)
            await asyncio.sleep(0.1)

    await asyncio.gather(*(ask() for _ in range(100)))


async def _connects(port: int, done: Counter[str]) -> None:
    """Connect ten thousand times a second, or as often as this machine can, and hang up."""
    loop = asyncio.get_running_loop()
    started = loop.time()

    async def knock() -> None:
        while True:
            if done["connects"] > (loop.time() - started) * 10_000:
                await asyncio.sleep(0.001)
                continue
            done["connects"] += 1
            try:
                (await _connect(port)).close()
            except OSError:
                done["failed"] += 1
                await asyncio.sleep(0.001)

    await asyncio.gather(*(knock() for _ in range(64)))


async def _guesses(port: int, done: Counter[str]) -> None:
    """Guess at the secret as fast as the node lets us, on 512 connections at once."""
    loop = asyncio.get_running_loop()
    hello = pack_message(1, int(Verb.HELLO), 1, "", 2, b"n" * 32, "siege")

    async def guess() -> None:
        while True:
            try:
                with await _connect(port) as sock:
                    await loop.sock_sendall(sock, hello)
                    if not await loop.sock_recv(sock, 4096):
                        done["turned away"] += 1
                        continue
                    await loop.sock_sendall(sock, pack_message(2, int(Verb.AUTH), os.urandom(32)))
                    done["guesses"] += 1
                    reply = await loop.sock_recv(sock, 4096)
                    done["accepted"] += reply[:3] == b"\x99\x02\x00"
            except OSError:
                done["turned away"] += 1

    await asyncio.gather(*(guess() for _ in range(512)))


ATTACKS: Final[Mapping[str, Attack]] = {
    "idle": _idle,
    "slow-loris": _slow_loris,
    "never-reading": _never_reading,
    "connects": _connects,
    "guesses": _guesses,
}
"""Name -> what is done to the node at a port, counted in a counter."""


async def _main(name: str, port: int) -> None:
    done: Counter[str] = Counter()
    attack = asyncio.ensure_future(ATTACKS[name](port, done))
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, attack.cancel)
    started = loop.time()
    while name == "idle" and done["held"] < HELD and not attack.done():  # noqa: ASYNC110  it only counts
        await asyncio.sleep(0.05)
    print(json.dumps(done), flush=True)  # now it is in full swing
    with contextlib.suppress(asyncio.CancelledError):
        await attack
    print(json.dumps({**done, "seconds": round(loop.time() - started, 3)}), flush=True)


if __name__ == "__main__":
    os.nice(10)  # an attacker has machines of its own; here it must not take the bystander's core
    import uvloop

    uvloop.run(_main(sys.argv[1], int(sys.argv[2])))
