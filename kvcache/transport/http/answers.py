"""Answers: errors and documents as HTTP responses.

Here lives the one form that every error takes on HTTP. Never here: what is an error (``protocol.errors`` and the routes).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web

from kvcache_client.protocol.errors import KvCacheError, ProtocolError

__all__ = ["SERVER", "Refusal", "error_name", "error_response", "json_response", "stamp"]

SERVER: Final = "kvcache"
"""The Server header: the product, never its version or that of a library."""

_RETRY_AFTER_SECONDS: Final = "1"


class Refusal(ProtocolError):
    """A request that HTTP itself refuses, for which the error tree has no class of its own.

    Its name in the answer is the status' phrase, such as ``PreconditionFailed``.
    """

    def __init__(
        self,
        status: HTTPStatus,
        message: str,
        *,
        detail: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, detail=detail)
        self.status = status
        self.headers = dict(headers or {})


def error_name(error: KvCacheError) -> str:
    """Return the name under which ``error`` is reported."""
    if isinstance(error, Refusal):
        return "".join(word[0].upper() + word[1:] for word in error.status.phrase.split())
    return type(error).__name__


def error_response(error: KvCacheError) -> web.Response:
    """Return ``error`` with its status and its JSON body."""
    status = error.status if isinstance(error, Refusal) else error.http_status
    response = json_response(
        {
            "error": error_name(error),
            "message": str(error),
            "retryable": error.retryable,
            "detail": error.detail if isinstance(error.detail, int | float | str) else None,
        },
        status,
    )
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers["Retry-After"] = _RETRY_AFTER_SECONDS
    if status == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = 'Bearer realm="kvcache"'
    if isinstance(error, Refusal):
        response.headers.update(error.headers)
    return response


def json_response(document: Mapping[str, Any], status: int = HTTPStatus.OK) -> web.Response:
    """Return ``document`` as JSON that no cache may keep."""
    body = json.dumps(document, ensure_ascii=True, default=str).encode()
    return web.Response(
        body=body, status=status, content_type="application/json", headers={"Cache-Control": "no-store"}
    )


def stamp(response: web.StreamResponse) -> None:
    """Put the Server header on, before aiohttp puts on its own with its version."""
    response.headers["Server"] = SERVER
