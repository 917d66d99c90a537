"""Wire: one connection that asks one node, and nobody in its place.

Here lives what is needed to see each replica as it is. Never here: routing, fail-over or retries, which are the client's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Final, Self

from kvcache_client.placement.topology import Topology
from kvcache_client.protocol.framing import CLIENT_FRAME_LIMIT, FrameReader, pack_message
from kvcache_client.protocol.verbs import PROTOCOL_VERSION, PUSH_ID, Message, Role, Status, Verb

__all__ = ["Wire", "peek", "topology_of"]

_BATCH: Final = 500
_SECONDS: Final = 5.0


class Wire:
    """``async with Wire("127.0.0.1:7700") as wire``. Raises ``OSError`` or ``TimeoutError`` if the node does not answer."""

    def __init__(self, address: str, *, role: Role = Role.CLIENT, name: str = "a judge") -> None:
        self._address = address
        self._hello = (int(Verb.HELLO), PROTOCOL_VERSION, "", int(role), b"", name)
        self._frames = FrameReader(CLIENT_FRAME_LIMIT)

    async def __aenter__(self) -> Self:
        host, _, port = self._address.rpartition(":")
        async with asyncio.timeout(_SECONDS):
            self._reader, self._writer = await asyncio.open_connection(host, int(port))
            await self.ask(*self._hello)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.transport.abort()

    async def ask(self, *fields: Any) -> Message:
        """Return the reply to one request, without its id."""
        return (await self.ask_all([fields]))[0]

    async def ask_all(self, requests: Sequence[Sequence[Any]]) -> list[Message]:
        """Send requests together and return their replies in the same order, without ids."""
        self._writer.write(b"".join(pack_message(number, *it) for number, it in enumerate(requests, start=1)))
        replies: dict[int, Message] = {}
        async with asyncio.timeout(_SECONDS):
            while len(replies) < len(requests):
                data = await self._reader.read(1 << 18)
                if not data:
                    raise ConnectionResetError(f"{self._address} closed the connection")
                replies |= {message[0]: message[1:] for message in self._frames.feed(data) if message[0] != PUSH_ID}
        return [replies[number] for number in range(1, len(requests) + 1)]


async def topology_of(address: str) -> Topology | None:
    """Return the document by which a node answers, None if it does not or has none yet."""
    try:
        async with Wire(address) as wire:
            reply = await wire.ask(int(Verb.TOPOLOGY))
    except (OSError, TimeoutError):
        return None
    return Topology.from_json(reply[2]) if reply[0] == Status.OK else None


async def peek(address: str, keys: Iterable[str]) -> dict[str, bytes | None]:
    """Return the record, or tombstone, that one node holds of each key, None where it holds nothing.

    Raises ``RuntimeError`` if the node refuses to say.
    """
    names = list(keys)
    found: dict[str, bytes | None] = {}
    async with Wire(address) as wire:
        for start in range(0, len(names), _BATCH):
            batch = names[start : start + _BATCH]
            replies = await wire.ask_all([(int(Verb.PEEK), key.encode()) for key in batch])
            for key, reply in zip(batch, replies, strict=True):
                if reply[0] not in (Status.OK, Status.MISS):
                    raise RuntimeError(f"{address} does not say what it holds of {key!r}: {reply}")
                found[key] = reply[1] if reply[0] == Status.OK else None
    return found
