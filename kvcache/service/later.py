"""Later: a reply that takes its time.

Here live the signals by which a handler says that its reply is not there yet. Never here: the waiting (``transport``).

Handlers are plain functions, and nearly all replies are there at once. The few that need the coordinator or another node are
raised as ``Later``: the connection goes on with what follows, and the reply is sent when it comes, out of order, as ids
allow. Those that wait for what another client does, or that bind a connection to what it was given, are raised as ``Held``.
An exception costs all the others nothing, where looking at what each handler returned would cost every one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from kvcache_client.protocol.errors import KvCacheError

__all__ = ["Answer", "Fields", "Held", "Later", "Peer"]

Fields: TypeAlias = tuple[Any, ...]
"""A reply without the id: the status and its fields."""

Peer: TypeAlias = object
"""A connection, as far as a handler may know it: something that is only itself, and that may be lost."""

Answer: TypeAlias = Callable[[Fields | KvCacheError], None]
"""Sends the reply, or the error in its place. To be called once; nothing happens if the connection has ended."""


class Later(Exception):
    """Carries the work, and how its result becomes the reply; the work may raise the errors that have a wire code."""

    def __init__(self, work: Awaitable[Any], fields: Callable[[Any], Fields]) -> None:
        super().__init__()
        self.work = work
        self.fields = fields


class Held(Exception):
    """Carries what takes over the request: it is called with the connection and with what answers, now or some time."""

    def __init__(self, take: Callable[[Peer, Answer], None]) -> None:
        super().__init__()
        self.take = take
