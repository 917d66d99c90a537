"""Request bodies: read within a size and a time, or refused before they are read.

Here lives the only reading of bodies. Never here: what a body means (``media``, ``batch``).
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from aiohttp import web

from kvcache.transport.http.answers import Refusal
from kvcache.transport.http.limits import HttpCounters, HttpLimits
from kvcache_client.protocol.errors import KvCacheError, Overloaded, UnsupportedValue

__all__ = ["BodyReader"]

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class BodyReader:
    """Reads bodies for all routes, since they share one budget of bytes."""

    __slots__ = ("_counters", "_limits")

    def __init__(self, limits: HttpLimits, counters: HttpCounters) -> None:
        self._limits = limits
        self._counters = counters

    async def read(self, request: web.BaseRequest, limit: int, too_large: type[KvCacheError]) -> bytes:
        """Return the whole body. Raises ``too_large`` beyond ``limit`` bytes, at once if the header says so."""
        self._check_header(request, limit, too_large)
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                return await self._collect(request, limit, too_large)
        except TimeoutError as error:
            self._counters.late_bodies += 1
            raise Refusal(
                HTTPStatus.REQUEST_TIMEOUT, f"the body was not complete in {self._limits.body_seconds} s"
            ) from error
        except web.RequestPayloadError as error:
            raise Refusal(HTTPStatus.BAD_REQUEST, f"the body is damaged: {error!s:.200}") from error
        except OSError as error:
            raise Refusal(HTTPStatus.BAD_REQUEST, "the connection broke before the body was complete") from error

    def _check_header(self, request: web.BaseRequest, limit: int, too_large: type[KvCacheError]) -> None:
        coding = request.headers.get("Content-Encoding", "identity")
        if coding.lower() != "identity":  # a record has no field for it, and a small body may unpack to gigabytes
            raise UnsupportedValue(f"Content-Encoding {coding!r:.40} is not supported; send the plain bytes")
        if request.content_length is not None and request.content_length > limit:
            raise too_large(f"the body has {request.content_length} bytes, the limit is {limit}", detail=limit)
        expected = request.headers.get("Expect")
        if expected is None:
            return
        if expected.lower() != "100-continue":
            raise Refusal(HTTPStatus.EXPECTATION_FAILED, f"Expect: {expected!r:.40} is not known")
        if request.transport is not None and request.version.minor >= 1:
            request.transport.write(_CONTINUE)

    async def _collect(self, request: web.BaseRequest, limit: int, too_large: type[KvCacheError]) -> bytes:
        body = bytearray()
        try:
            while chunk := await request.content.readany():
                body += chunk
                self._counters.buffered_bytes += len(chunk)
                if len(body) > limit:
                    raise too_large(f"the body has over {limit} bytes, the limit", detail=limit)
                if self._counters.buffered_bytes > self._limits.buffered_bytes:
                    self._counters.shed += 1
                    raise Overloaded("too many bytes are on their way in; ask again later")
            return bytes(body)
        finally:
            self._counters.buffered_bytes -= len(body)

    def __repr__(self) -> str:
        return f"<BodyReader buffered={self._counters.buffered_bytes} of {self._limits.buffered_bytes} B>"
