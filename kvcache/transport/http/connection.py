"""One HTTP connection: aiohttp's protocol, with deadlines for what it waits for without end, and answers like ours.

Here lives the only subclass of a class of aiohttp. Never here: routes, or how long is too long (``deadlines``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from http import HTTPStatus
from typing import Any, cast

from aiohttp import StreamReader, web
from aiohttp.http_exceptions import LineTooLong

from kvcache.events import journal
from kvcache.transport.http.answers import SERVER, Refusal, error_response, stamp
from kvcache.transport.http.deadlines import ConnectionDeadlines
from kvcache.transport.http.limits import HEADER_COUNT, LINE_BYTES, HttpCounters, HttpLimits
from kvcache_client.protocol.errors import NodeFault

__all__ = ["HttpConnection", "OpenConnections"]

_log = logging.getLogger("kvcache.http")

_LINGER_SECONDS = 2.0
"""How long the rest of a refused body is read and dropped, so that the client sees its answer and not a reset."""

_LATE_BODY = (
    b'{"error": "RequestTimeout", "message": "the header was not complete in time", "retryable": true, "detail": null}'
)
_LATE_HEAD = (
    b"HTTP/1.1 408 Request Timeout\r\nServer: %s\r\nContent-Type: application/json\r\nCache-Control: no-store\r\n"
    b"Connection: close\r\nContent-Length: %d\r\n\r\n%s" % (SERVER.encode(), len(_LATE_BODY), _LATE_BODY)
)
_TOO_MANY_HEADERS = "Too many headers"  # how the parser's message begins; it has no class of its own


class OpenConnections:
    """The connections that are open, and when the last of them is gone."""

    __slots__ = ("_gone", "_members")

    def __init__(self) -> None:
        self._members: set[HttpConnection] = set()
        self._gone = asyncio.Event()
        self._gone.set()

    def add(self, connection: HttpConnection) -> None:
        """Take one in."""
        self._members.add(connection)
        self._gone.clear()

    def discard(self, connection: HttpConnection) -> None:
        """Forget one, known or not."""
        self._members.discard(connection)
        if not self._members:
            self._gone.set()

    async def wait_gone(self, seconds: float) -> None:
        """Return when there are none, or after ``seconds``."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._gone.wait()

    def __iter__(self) -> Iterator[HttpConnection]:
        """Iterate over those open now, also while they close."""
        return iter(tuple(self._members))

    def __len__(self) -> int:
        return len(self._members)

    def __repr__(self) -> str:
        return f"<OpenConnections {len(self._members)}>"


class HttpConnection(web.RequestHandler):
    """A connection that the listener has handed over, or is about to.

    A handler is not cancelled when its client goes away (aiohttp's default, kept): a write that has begun goes to all
    owners of its key, and the embedded client's own deadline ends whatever hangs.
    """

    __slots__ = ("_body", "_counters", "_family", "_on_close", "_socket", "deadlines")

    def __init__(
        self,
        server: web.Server,
        limits: HttpLimits,
        counters: HttpCounters,
        family: OpenConnections,
        on_close: Callable[[], None],
    ) -> None:
        loop = asyncio.get_running_loop()
        options: dict[str, Any] = {
            "keepalive_timeout": limits.keepalive_seconds,
            "lingering_time": min(_LINGER_SECONDS, limits.body_seconds),
            "max_line_size": LINE_BYTES,
            "max_field_size": LINE_BYTES,
            "max_headers": HEADER_COUNT,
            "auto_decompress": False,
            "logger": _log,
            "access_log": None,
        }
        super().__init__(server, loop=loop, **options)
        self._counters = counters
        self._family = family
        self._on_close = on_close
        self._socket: asyncio.Transport | None = None
        self._body: StreamReader | None = None
        self.deadlines = ConnectionDeadlines(loop.call_later, limits, self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection over."""
        self._socket = cast(asyncio.Transport, transport)
        self._family.add(self)
        self._counters.accepted += 1
        self._counters.connections = len(self._family)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Let go of everything."""
        if self._socket is not None:
            self._on_close()
        self._family.discard(self)
        self._counters.connections = len(self._family)
        self.deadlines.closed()
        self._socket = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Pass bytes on to the parser. aiohttp calls this with nothing to go on with what it held back."""
        if data:
            self.deadlines.received(data)
        super().data_received(data)
        # Whatever follows a body says that it is over. If it is not, the parser has lost its way in it, and told nobody.
        if self._messages and (newest := self._messages[-1][1]) is not self._body:
            body, self._body = self._body, newest
            if body is not None and not body.is_eof():
                body.set_exception(web.RequestPayloadError("what should be a chunk is none"))
                body.feed_eof()  # nobody need wait for the rest

    def answered(self, body: StreamReader) -> None:
        """The request with that body is answered: what still comes of it is nobody's concern."""
        if self._body is body:
            self._body = None

    def pause_writing(self) -> None:
        """The client reads more slowly than we answer."""
        super().pause_writing()
        self.deadlines.stalled()

    def resume_writing(self) -> None:
        """The client has caught up."""
        super().resume_writing()
        self.deadlines.flowing()

    def late_head(self) -> None:
        """Say so and close."""
        self._counters.late_heads += 1
        if self._socket is not None:
            self._counters.answered(HTTPStatus.REQUEST_TIMEOUT)
            self._socket.write(_LATE_HEAD)
        self.force_close()

    def late_reader(self) -> None:
        """Drop the connection; what it has not taken would stay in memory for ever."""
        self._counters.late_readers += 1
        self.abort()

    def unsent_bytes(self) -> int:
        """Return what the socket still holds."""
        return 0 if self._socket is None else self._socket.get_write_buffer_size()

    def close_if_idle(self) -> None:
        """Close unless a request is being served or has begun to arrive."""
        if self.deadlines.idle:
            self.force_close()

    def abort(self) -> None:
        """Close at once; what was not sent is lost."""
        if self._socket is not None:
            self._socket.abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what the parser refused. It is counted, not logged: anybody can send garbage as fast as they like."""
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:  # the front door lets nothing through: a fault of aiohttp's
            self._counters.faults += 1
            journal.say("http_bug", method="a request", path="outside its route", error_info=exc)
            response = error_response(NodeFault())
        else:
            self._counters.malformed += 1
            response = error_response(_as_refusal(exc, message or ""))
        response.force_close()
        stamp(response)
        self._counters.answered(response.status)
        return response

    def __repr__(self) -> str:
        return f"<HttpConnection {self.deadlines!r} unsent={self.unsent_bytes()} B>"


def _as_refusal(exc: BaseException | None, message: str) -> Refusal:
    if isinstance(exc, LineTooLong):
        return Refusal(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
            f"the request line or a header field has over {LINE_BYTES} bytes",
            detail=LINE_BYTES,
        )
    if message.startswith(_TOO_MANY_HEADERS):
        return Refusal(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"over {HEADER_COUNT} header fields", detail=HEADER_COUNT
        )
    text = message.partition("\n")[0].rstrip(":")
    return Refusal(HTTPStatus.BAD_REQUEST, f"not an HTTP/1.1 request: {text:.200}")
