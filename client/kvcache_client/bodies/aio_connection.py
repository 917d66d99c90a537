"""One asyncio connection to a node, from its HELLO to its end.

Here lives the socket side of a ``Link``: one write per loop turn, sweeping for silence. Never here: connecting again
(``aio_link``), which node is asked, or what a reply means.

What tasks ask for in one turn of the event loop leaves in one write (auto-pipelining): ``post`` only packs and schedules one
flush. Where nothing else waits for an answer it sends at once: a lone task shares no write with anybody, and saves a turn of
the loop. Deadlines are swept per connection: a tick every eighth of an attempt remembers the newest request id, and what is
still unanswered eight ticks later is given up; so a call costs no timer.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final, cast

from kvcache_client.bodies.aio_pace import Pace
from kvcache_client.bodies.aio_round import Direct
from kvcache_client.bodies.awake import AwakeLoop
from kvcache_client.bodies.tls import current_context, refused_handshake
from kvcache_client.core.brain import Brain
from kvcache_client.core.config import ClientConfig
from kvcache_client.core.effects import Outcome
from kvcache_client.core.introduction import Greeting, introduce
from kvcache_client.core.link import Link, Waiter
from kvcache_client.protocol.errors import ConnectFailed, ConnectionLost, KvCacheError, NoAnswer
from kvcache_client.protocol.verbs import Request, Verb
from kvcache_client.seeds import split_address

__all__ = ["AsyncConnection", "connect"]

_TICKS: Final = 8
"""Ticks in an attempt: a request is given up between one attempt and an eighth more after it was sent."""


async def connect(
    brain: Brain,
    address: str,
    *,
    node: str = "",
    on_epoch: Callable[[int], None] = lambda epoch: None,
    on_end: Callable[[AsyncConnection], None] = lambda connection: None,
    on_silence: Callable[[], None] = lambda: None,
) -> tuple[AsyncConnection, Greeting]:
    """Return an introduced connection. Raises ``ConnectFailed``, or the error with which the node refused the HELLO."""
    loop = asyncio.get_running_loop()
    connection = AsyncConnection(brain, node, address, on_epoch, on_end, on_silence)
    try:
        async with asyncio.timeout(brain.config.connect_timeout):
            host, port = split_address(address)
            await loop.create_connection(lambda: connection, host, port, **_secured(brain.config, host))
            greeting = await connection.introduce()
    except (OSError, ConnectionLost, TimeoutError) as error:
        connection.end(error)
        rejected = refused_handshake(address, node, error, brain.config.tls)
        if rejected is not None:
            raise rejected from error
        silent = isinstance(error, TimeoutError) and not isinstance(error, KvCacheError)
        reason = "no connection in time" if silent else _in_words(error)
        raise ConnectFailed(f"{address}: {reason}", node=node or None) from error
    except BaseException as error:
        connection.end(error)
        raise
    return connection, greeting


def _secured(config: ClientConfig, host: str) -> dict[str, Any]:
    if config.tls is None:
        return {}
    return {
        "ssl": current_context(config.tls),
        "server_hostname": config.tls.server_name or host,
        "ssl_handshake_timeout": config.connect_timeout,
    }


def _in_words(error: BaseException) -> str:
    """Return the system's words for ``error``: asyncio's own repeat the address and hide what is wrong with it."""
    number = getattr(error, "errno", None)
    return os.strerror(number) if number and number > 0 else getattr(error, "strerror", None) or str(error)


class AsyncConnection(asyncio.Protocol):
    """A connection in use. ``post`` never raises: the waiter gets the reply, or the error in its place."""

    def __init__(
        self,
        brain: Brain,
        node: str,
        address: str,
        on_epoch: Callable[[int], None],
        on_end: Callable[[AsyncConnection], None],
        on_silence: Callable[[], None],
    ) -> None:
        self.address = address
        self.node = node
        self.in_use = False
        """Whether it serves calls; before that, getting to know each other may take as long as connecting."""
        self.link = Link(node, on_epoch)
        self._brain = brain
        self._loop = asyncio.get_running_loop()
        self._on_end = on_end
        self._on_silence = on_silence
        self._transport: asyncio.Transport | None = None
        self._ended: BaseException | None = None
        self._flushing = False
        self._awake = AwakeLoop(self.link, self._loop, brain.config.busy_polling)
        self._marks: deque[int] = deque()
        self._ticker: asyncio.TimerHandle | None = None
        self._pace: Pace | None = None

    def use(self) -> None:
        """Serve calls from now on, and measure how long they take."""
        self.in_use = True
        self._pace = Pace(self._brain, self.link, self._loop)

    async def introduce(self) -> Greeting:
        """Say who we are, prove it if asked to, and return what the node says of itself."""
        steps = introduce(self._brain, self.address, self.node)
        try:
            request = next(steps)
            while True:
                request = steps.send(await self.ask(request))
        except StopIteration as done:
            greeting: Greeting = done.value
        self.node = self.link.node = greeting.node
        return greeting

    def ask(self, request: Request) -> asyncio.Future[Outcome]:
        """Send ``request`` and return the future of its outcome."""
        waiter = Direct(self._loop)
        self.post(request, waiter)
        return waiter.future

    def post(self, request: Request, waiter: Waiter) -> None:
        """Send ``request`` with the next flush; its outcome goes to ``waiter``."""
        if self._ended is not None:
            waiter.set_result(self._lost())
            return
        link = self.link
        link.enqueue(request, waiter)
        if self._flushing:
            return
        if link.waiting == 1:
            self._flush()
        else:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def post_patiently(self, request: Request, waiter: Waiter) -> None:
        """Send ``request``, which may take longer than an attempt. A PING goes with it, and that must be answered in one.

        So a node that takes its time is waited for, and one that is silent is not.
        """
        self.post(request, waiter)
        if self._ended is None:
            number: int = request[0]
            self.link.set_aside(number)
            self.ask([0, Verb.PING]).add_done_callback(partial(self._pinged, number))

    def _pinged(self, number: int, ping: asyncio.Future[Outcome]) -> None:
        outcome = ping.result()
        if isinstance(outcome, NoAnswer):
            self.link.give_up(number, outcome)

    def _flush(self) -> None:
        self._flushing = False
        if self._transport is not None and self._ended is None:
            self._transport.write(self.link.output())
            if self._pace is not None:
                self._pace.sent()
                self._awake.sent()
            if self._ticker is None:
                self._tick()

    def _tick(self) -> None:
        """Remember the newest id; give up what was the newest an attempt ago; stop when nothing waits."""
        self._ticker = None
        link = self.link
        if not link.waiting:
            self._marks.clear()
            link.heard = True
            return
        self._marks.append(link.newest)
        if len(self._marks) > _TICKS:
            expired = link.expire(self._marks.popleft(), self._no_answer)
            if expired and not link.heard:
                self._on_silence()
            link.heard = False
        self._ticker = self._loop.call_later(self._patience() / _TICKS, self._tick)

    def _patience(self) -> float:
        """Return the seconds that an answer may take."""
        return self._brain.attempt if self.in_use else self._brain.config.connect_timeout

    def _no_answer(self) -> NoAnswer:
        return NoAnswer(f"no answer within {self._patience():.3g} s", node=self.node)

    def _lost(self) -> ConnectionLost:
        reason = str(self._ended) or type(self._ended).__name__
        error = ConnectionLost(f"{self.address}: {reason}", node=self.node or None)
        error.__cause__ = self._ended
        return error

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast(asyncio.Transport, transport)
        if self._ended is not None:
            transport.close()

    def data_received(self, data: bytes) -> None:
        """Hand replies to whoever waits for them."""
        broken = self.link.receive(data)
        if self._pace is not None:
            self._pace.received()
        if broken is not None:
            self.end(broken)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell everyone who waits."""
        self.end(exc or ConnectionError("the node closed the connection"))

    def end(self, cause: BaseException) -> None:
        """Close, and give everyone who waits ``ConnectionLost``. Only the first call counts."""
        if self._ended is not None:
            return
        self._ended = cause
        if self._ticker is not None:
            self._ticker.cancel()
        if self._pace is not None:
            self._pace.stop()
        if self._transport is not None:
            self._transport.abort()
        self._brain.counters.late_replies += self.link.late
        self.link.fail(self._lost)
        self._on_end(self)

    def __repr__(self) -> str:
        return f"<AsyncConnection {self.address} {'ended' if self._ended else 'open'} {self.link!r}>"
