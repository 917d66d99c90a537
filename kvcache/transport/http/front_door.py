"""The HTTP front door: from a request to a route to an answer, whatever happens in between.

Here lives the table of routes, the one place where errors become answers, start and stop. Never here: what a route does
(``kv``, ``batch``, ``metrics``), or connections (``connection``).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, Final, Protocol, TypeAlias, cast

from aiohttp import web

from kvcache.events import journal
from kvcache.transport.guard import Guard, open_guard
from kvcache.transport.http.admin import ADMIN_PREFIX, AdminRoutes, Operator
from kvcache.transport.http.answers import Refusal, error_response, json_response, stamp
from kvcache.transport.http.batch import BatchRoute
from kvcache.transport.http.body import BodyReader
from kvcache.transport.http.connection import HttpConnection, OpenConnections
from kvcache.transport.http.event_stream import EventStreams
from kvcache.transport.http.gate import Gate
from kvcache.transport.http.kv import KV_PREFIX, KeyRoutes, RecordClient
from kvcache.transport.http.limits import HttpCounters, HttpLimits
from kvcache.transport.http.openapi import openapi_document
from kvcache.transport.http.page import PAGE_PREFIX, Page
from kvcache.transport.http.routes import ROUTES, prefix_of
from kvcache.transport.http.serving_times import ServingTimes
from kvcache.transport.metrics import NodeMetrics
from kvcache_client.placement.topology import Topology
from kvcache_client.protocol.errors import KvCacheError, NodeFault, NotReady, Overloaded

__all__ = ["HttpFrontDoor", "NodeView"]

_Handler: TypeAlias = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

_CLOSING_SECONDS: Final = 0.1
"""What a request that has outlived the grace of a stop gets to notice that it is cancelled."""

_UNSHED: Final = frozenset({"/healthz", "/readyz", "/metrics"})
"""Paths that answer under any load: they tell an operator, or a load balancer, that there is load."""


class NodeView(Protocol):
    """What HTTP needs of the node."""

    @property
    def client(self) -> RecordClient:
        """The embedded client, which carries any key to its owners."""

    def ready(self) -> bool:
        """Say whether the node has joined and loaded."""

    def topology(self) -> Topology:
        """Return the newest topology that the node knows."""

    def statistics(self) -> dict[str, Any]:
        """Return the node's counters, in sections, fit for JSON."""

    @property
    def operator(self) -> Operator:
        """What carries admin operations out."""


class HttpFrontDoor:
    """Serves HTTP on connections that somebody else accepts. Belongs to the event loop that ``start`` ran on."""

    def __init__(self, node: NodeView, limits: HttpLimits | None = None, guard: Guard | None = None) -> None:
        self._node = node
        self._limits = limits or HttpLimits()
        self._gate = Gate(guard or open_guard(time.monotonic), self._limits.refusal_seconds)
        self.counters = HttpCounters()
        self._times = ServingTimes()
        self._connections = OpenConnections()
        self._server: web.Server | None = None
        self._stopping = False
        self.overloaded: Callable[[], bool] = lambda: False
        """Says whether the node sheds load at the moment."""
        self._metrics = NodeMetrics(self.statistics)
        self._routes: Mapping[str, Mapping[str, _Handler]] = {}
        self._events: EventStreams

    async def start(self) -> None:
        """Get ready to serve. The node's client must be there by now."""
        client = self._node.client
        bodies = BodyReader(self._limits, self.counters)
        keys = KeyRoutes(client, bodies, self._limits.value_limit)
        operations = AdminRoutes(self._node.operator, bodies)
        self._events = EventStreams(client)
        self._routes = _table(
            {
                "kv.get": keys.get,
                "kv.put": keys.put,
                "kv.delete": keys.delete,
                "batch.post": BatchRoute(client, bodies, self._limits).post,
                "admin.get": operations.get,
                "admin.post": operations.post,
                "topology": self._topology,
                "statistics": self._statistics,
                "metrics": self._prometheus,
                "alive": self._alive,
                "ready": self._ready,
                "openapi": self._openapi,
                "events": self._events.get,
                "page": Page().get,
            }
        )
        self._server = web.Server(self._serve)
        self._stopping = False

    @property
    def open_connections(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    def connection(self, on_close: Callable[[], None] = lambda: None) -> HttpConnection:
        """Return the protocol for one new connection, whose first bytes may have been read already."""
        if self._server is None:
            raise NotReady("the HTTP front door has not been started")
        return HttpConnection(self._server, self._limits, self.counters, self._connections, on_close)

    async def stop(self, grace: float) -> None:
        """Close idle connections, let requests finish for up to ``grace`` seconds, then close what is left.

        Whoever accepts connections should have stopped before. Answers given meanwhile say ``Connection: close``.
        """
        server, self._stopping = self._server, True
        if server is None:
            return
        self._events.stop()
        for connection in self._connections:
            connection.close_if_idle()
        await self._connections.wait_gone(grace)
        await server.shutdown(_CLOSING_SECONDS)
        for connection in self._connections:
            connection.abort()
        self._server = None

    def statistics(self) -> dict[str, Any]:
        """Return the node's counters with a section ``http`` of our own."""
        http = {**self.counters.as_dict(), "serving_seconds": self._times.as_dict()}
        return {**self._node.statistics(), "http": http}

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; aiohttp calls this, one request of a connection at a time."""
        connection, content = cast(HttpConnection, request.protocol), request.content
        connection.deadlines.began(content if request.body_exists else None)
        self.counters.requests += 1
        self.counters.in_flight += 1
        began = time.perf_counter()
        try:
            response = await self._answer(request)
            if self._stopping or not content.is_eof() or content.exception() is not None:
                response.force_close()
            stamp(response)
            self.counters.answered(response.status)
            self._times.served(request.method, request.rel_url.raw_path, time.perf_counter() - began)
            return response
        except asyncio.CancelledError:
            self.counters.cut_off += 1
            raise
        finally:
            self.counters.in_flight -= 1
            connection.deadlines.ended()
            connection.answered(content)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            handler = self._handler(request)
            await self._gate.admit(request, admin=request.rel_url.raw_path.startswith(ADMIN_PREFIX))
            return await handler(request)
        except KvCacheError as error:
            if isinstance(error, NodeFault):
                journal.say("http_fault", method=request.method, path=request.path, error=error)
            return error_response(error)
        except Exception as error:  # noqa: BLE001 - a bug in one route must cost one answer, not the connection
            self.counters.faults += 1
            journal.say("http_bug", method=request.method, path=f"{request.raw_path:.200}", error_info=error)
            return error_response(NodeFault())

    def _handler(self, request: web.BaseRequest) -> _Handler:
        """Return the handler for a request. Raises for unknown paths, methods and versions, and under too much load."""
        if request.version.major != 1:
            raise Refusal(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "this port speaks HTTP/1.0 and HTTP/1.1")
        path = request.rel_url.raw_path
        prefix = next((prefix for prefix in (KV_PREFIX, ADMIN_PREFIX, PAGE_PREFIX) if path.startswith(prefix)), path)
        methods = self._routes.get(prefix)
        if methods is None:
            raise Refusal(HTTPStatus.NOT_FOUND, f"there is nothing at {path!r:.80}")
        handler = methods.get(request.method)
        if handler is None:
            allowed = ", ".join(methods)
            raise Refusal(
                HTTPStatus.METHOD_NOT_ALLOWED,
                f"{request.method} is not allowed here; allowed: {allowed}",
                headers={"Allow": allowed},
            )
        if path in _UNSHED:
            return handler
        if self.overloaded():
            self.counters.shed += 1
            raise Overloaded("the node is behind with what it was asked; ask again later")
        if self.counters.in_flight > self._limits.requests_in_flight:
            self.counters.shed += 1
            raise Overloaded(f"over {self._limits.requests_in_flight} HTTP requests in flight; ask again later")
        return handler

    async def _topology(self, _request: web.BaseRequest) -> web.Response:
        document = self._node.topology().to_json()
        return web.Response(body=document, content_type="application/json", headers={"Cache-Control": "no-store"})

    async def _statistics(self, _request: web.BaseRequest) -> web.Response:
        return json_response(self.statistics())

    async def _prometheus(self, request: web.BaseRequest) -> web.Response:
        content_type, text = self._metrics.render(request.headers.get("Accept", ""))
        return web.Response(body=text, headers={"Content-Type": content_type, "Cache-Control": "no-store"})

    async def _openapi(self, _request: web.BaseRequest) -> web.Response:
        return json_response(openapi_document(version("kvcache")))

    async def _alive(self, _request: web.BaseRequest) -> web.Response:
        return json_response({"status": "alive"})

    async def _ready(self, _request: web.BaseRequest) -> web.Response:
        if self._stopping:
            raise NotReady("the node is stopping")
        if not self._node.ready():
            raise NotReady
        return json_response({"status": "ready"})

    def __repr__(self) -> str:
        state = "stopping" if self._stopping else "new" if self._server is None else "serving"
        return f"<HttpFrontDoor {state} connections={len(self._connections)} in_flight={self.counters.in_flight}>"


def _table(handlers: Mapping[str, _Handler]) -> Mapping[str, Mapping[str, _Handler]]:
    """Return who answers which methods of which path, or of all paths that begin with it."""
    table: dict[str, dict[str, _Handler]] = {}
    for route in ROUTES:
        path = ADMIN_PREFIX if route.path.startswith(ADMIN_PREFIX) else prefix_of(route.path)
        table.setdefault(path, {})[route.method] = handlers[route.handler]
        if route.method == "GET":
            table[path]["HEAD"] = handlers[route.handler]
    return table
