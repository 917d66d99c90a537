"""Admin operations over HTTP: ``POST /v1/admin/{operation}``, ``GET /v1/admin/status``, ``GET /v1/admin/locks``.

Here lives the form of such a request. Never here: who may send one (``gate``), or the operations (the node does them).
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, Final, Protocol

from aiohttp import web

from kvcache.transport.http.answers import Refusal, json_response
from kvcache.transport.http.body import BodyReader
from kvcache_client.protocol.errors import InvalidOption, UnsupportedValue, ValueTooLarge

__all__ = ["ADMIN_PREFIX", "AdminRoutes", "Operator"]

ADMIN_PREFIX: Final = "/v1/admin/"

_BODY_BYTES: Final = 64 * 1024


class Operator(Protocol):
    """What carries operations out. ``reading`` change nothing; ``changing`` take arguments."""

    @property
    def reading(self) -> Mapping[str, Callable[[], Awaitable[Any]]]:
        """Name -> what is looked up."""

    @property
    def changing(self) -> Mapping[str, Callable[[Mapping[str, Any]], Awaitable[Any]]]:
        """Name -> what is done with the arguments of a request; bad ones raise ``InvalidOption``."""


class AdminRoutes:
    """The routes of operators."""

    __slots__ = ("_bodies", "_operator")

    def __init__(self, operator: Operator, bodies: BodyReader) -> None:
        self._operator = operator
        self._bodies = bodies

    async def get(self, request: web.BaseRequest) -> web.Response:
        """Answer GET."""
        look = self._operator.reading.get(_name(request))
        if look is None:
            raise self._unknown(request, self._operator.reading)
        return _answer(await look())

    async def post(self, request: web.BaseRequest) -> web.Response:
        """Answer POST."""
        carry_out = self._operator.changing.get(_name(request))
        if carry_out is None:
            raise self._unknown(request, self._operator.changing)
        if (
            request.content_type.lower() != "application/json"
        ):  # a form of another site can't say so without being asked
            raise UnsupportedValue(f"an operation is application/json, not {request.content_type!r:.80}")
        body = await self._bodies.read(request, _BODY_BYTES, ValueTooLarge)
        return _answer(await carry_out(_arguments(body)))

    def _unknown(self, request: web.BaseRequest, known: Mapping[str, object]) -> Refusal:
        if _name(request) in {**self._operator.reading, **self._operator.changing}:
            return Refusal(HTTPStatus.METHOD_NOT_ALLOWED, f"{request.method} is not allowed here")
        names = ", ".join(known)
        return Refusal(HTTPStatus.NOT_FOUND, f"there is no operation {_name(request)!r:.60}; there are {names}")

    def __repr__(self) -> str:
        return f"<AdminRoutes {', '.join(self._operator.changing)}>"


def _name(request: web.BaseRequest) -> str:
    return request.rel_url.raw_path.removeprefix(ADMIN_PREFIX)


def _arguments(body: bytes) -> Mapping[str, Any]:
    try:
        arguments = json.loads(body) if body else {}
    except (ValueError, RecursionError) as error:
        raise InvalidOption(f"the body is not JSON: {error}") from error
    if not isinstance(arguments, dict):
        raise InvalidOption("the body is a JSON object with the arguments of the operation")
    return arguments


def _answer(outcome: Any) -> web.Response:
    return json_response(outcome if isinstance(outcome, dict) else {"result": outcome})
