"""Server-sent events: ``GET /v1/events``, the overview of the cluster once a second.

Here lives the collector that all pages of a node share, and the streams that carry what it finds. Never here: what is in an
overview (``overview``). However many pages are open, the nodes are asked once a second; when none is, not at all. A page that
reads slowly misses overviews, it does not pile them up. https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from aiohttp import web

from kvcache.events import journal
from kvcache.transport.http.kv import RecordClient
from kvcache.transport.http.overview import Sample, overview
from kvcache_client.core.inspecting import node_statistics
from kvcache_client.protocol.errors import KvCacheError, Overloaded

__all__ = ["EventStreams"]

_EVERY_SECONDS: Final = 1.0
_STREAMS: Final = 32
"""Pages that one node serves at once."""


class EventStreams:
    """The open streams of one node, and what is told on them. ``now`` is a monotonic clock."""

    def __init__(
        self,
        client: RecordClient,
        *,
        every: float = _EVERY_SECONDS,
        streams: int = _STREAMS,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._every = every
        self._limit = streams
        self._now = now
        self._open: set[asyncio.Event] = set()
        self._collecting: asyncio.Task[None] | None = None
        self._before = Sample(0.0)
        self._message = b""
        self._stopped = False

    async def get(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer GET with a stream that ends when the page closes, or the node stops. HEAD gets its headers alone."""
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        )
        if request.method == "HEAD":
            return response
        if len(self._open) >= self._limit:
            raise Overloaded(f"{self._limit} pages are open at this node already; close one, or ask another node")
        news = asyncio.Event()
        self._open.add(news)
        try:
            await response.prepare(request)
            self._begin()
            with suppress(ConnectionError):
                await self._feed(response, news)
        finally:
            self._open.discard(news)
        return response

    async def _feed(self, response: web.StreamResponse, news: asyncio.Event) -> None:
        while not self._stopped:
            await news.wait()
            news.clear()
            if self._message:
                await response.write(self._message)

    def _begin(self) -> None:
        if self._collecting is None or self._collecting.done():
            self._collecting = asyncio.ensure_future(self._collect())

    async def _collect(self) -> None:
        """Ask the nodes and tell all pages, until there are none."""
        while self._open and not self._stopped:
            started = self._now()
            try:
                self._message = b"event: overview\ndata: " + json.dumps(await self._look()).encode() + b"\n\n"
            except KvCacheError as error:
                self._message = b"event: failure\ndata: " + json.dumps(str(error)).encode() + b"\n\n"
            except Exception as error:  # noqa: BLE001  # a bug here must not leave pages without an answer for ever
                journal.say("http_bug", method="GET", path="/v1/events", error_info=error)
                self._message = b'event: failure\ndata: "the node failed"\n\n'
            self._tell()
            await asyncio.sleep(max(0.0, self._every - (self._now() - started)))
        self._message = b""
        self._before = Sample(0.0)

    async def _look(self) -> dict[str, Any]:
        brain = self._client.brain
        told = await self._client.run(node_statistics(brain))
        sample = Sample(self._now(), told)
        before, self._before = self._before, sample
        return overview(brain.require_view(), before, sample)

    def _tell(self) -> None:
        for news in self._open:
            news.set()

    def stop(self) -> None:
        """End all streams: a page that stays open must not keep the node from stopping."""
        self._stopped = True
        self._message = b""
        self._tell()

    def __repr__(self) -> str:
        return f"<EventStreams open={len(self._open)} of {self._limit}>"
