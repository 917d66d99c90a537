"""Coordinator: the one connection of a process to Redis or Valkey, which all of the control plane shares.

Here live building the client, the bound on every exchange, and the translation of foreign errors into ours. Never here:
what is kept there (``registry``, ``lock_store``, ``heartbeat``), and never a retry: whoever asks decides that.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Final
from urllib.parse import urlsplit

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from kvcache.option_values import parse_coordinator, parse_name
from kvcache_client.protocol.errors import ControlPlaneUnavailable, InvalidOption

__all__ = ["COORDINATOR_SECONDS", "Coordinator", "Subscription", "checked_cluster"]

COORDINATOR_SECONDS: Final = 0.6
"""What one exchange with the server may take, so that an operator is told within a second that it does not answer."""


class Coordinator:
    """A Redis or Valkey server: ask it, or listen to one of its channels.

    ``url`` is ``redis://``, ``rediss://`` or ``unix://`` (``valkey://`` and ``valkeys://`` mean the first two).
    ``timeout`` bounds each exchange in seconds, connecting included. Raises ``InvalidOption`` for a bad URL.

    Every method raises ``ControlPlaneUnavailable`` when the server does not answer or refuses. In the second case its
    ``detail`` is the word with which the server says why (``b"WRONGTYPE"``), otherwise None: the request may have
    been applied.
    """

    def __init__(self, url: str, *, timeout: float = COORDINATOR_SECONDS) -> None:
        self._redis = _client(_checked(parse_coordinator, "coordinator", url), timeout)
        self.server = _without_secrets(url)
        self.timeout = timeout

    async def ask(self, *command: str | bytes | int) -> Any:
        """Send one command and return what the server answers: bytes, numbers, lists of them, or None."""
        with self.translated():
            async with asyncio.timeout(self.timeout):
                return await self._redis.execute_command(*command)  # type: ignore[no-untyped-call]

    @asynccontextmanager
    async def subscription(self, channel: str) -> AsyncIterator[Subscription]:
        """Listen to a channel for as long as the block runs."""
        events = self._redis.pubsub()
        try:
            with self.translated():
                await events.subscribe(channel)
            yield Subscription(self, events)
        finally:
            with suppress(ControlPlaneUnavailable), self.translated():
                await events.aclose()  # type: ignore[no-untyped-call]

    @contextmanager
    def translated(self) -> Iterator[None]:
        """The one place where errors of redis and of the system become ours.

        It also revives a cancellation that was swallowed inside: ``asyncio.wait_for``, on which redis-py builds, loses
        one that comes in the moment of success (until Python 3.12), and who cancelled would wait for ever.
        """
        task = asyncio.current_task()
        cancellations = task.cancelling() if task else 0
        try:
            yield
        except ResponseError as error:
            raise ControlPlaneUnavailable(
                f"coordination at {self.server} refused: {error}", detail=str(error).partition(" ")[0].encode()
            ) from error
        except (RedisError, OSError) as error:
            silent = isinstance(error, TimeoutError | redis.TimeoutError)
            reason = f"not within {self.timeout:g} s" if silent else str(error) or type(error).__name__
            raise ControlPlaneUnavailable(f"coordination at {self.server} does not answer: {reason}") from error
        finally:
            if task and task.cancelling() > cancellations:
                raise asyncio.CancelledError

    async def close(self) -> None:
        """Close the connections. Safe to call again."""
        await self._redis.aclose()

    def __repr__(self) -> str:
        return f"<Coordinator {self.server} timeout={self.timeout}s>"


class Subscription:
    """A channel that is being listened to; comes from ``Coordinator.subscription``."""

    def __init__(self, coordinator: Coordinator, events: Any) -> None:
        self._coordinator = coordinator
        self._events = events

    async def next(self, timeout: float) -> bytes | None:  # noqa: ASYNC109  the server's client waits by itself
        """Return the next message, or None when none came in ``timeout`` seconds (or earlier, so look at a clock)."""
        with self._coordinator.translated():
            message = await self._events.get_message(ignore_subscribe_messages=True, timeout=timeout)
        return message["data"] if message else None

    def __repr__(self) -> str:
        channels = b" ".join(self._events.channels).decode(errors="replace")
        return f"<Subscription {channels} at {self._coordinator.server}>"


def checked_cluster(name: str) -> str:
    """Return the name of a cluster, or raise ``InvalidOption``. It has no colon, so no two clusters share a key."""
    return _checked(parse_name, "cluster", name)


def _client(url: str, timeout: float) -> redis.Redis:
    """Return a client that neither retries nor waits on its own: both are decided here."""
    try:
        return redis.Redis.from_url(
            url.replace("valkey", "redis", 1) if url.startswith("valkey") else url,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
            client_name="kvcache",
        )
    except ValueError as error:
        raise InvalidOption(f"coordinator: {error}") from error


def _checked(parse: Callable[[object], str | None], option: str, raw: str) -> str:
    try:
        value = parse(raw)
    except ValueError as error:
        raise InvalidOption(f"{option}: {error}") from error
    if not value:
        raise InvalidOption(f"{option} is empty")
    return value


def _without_secrets(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
