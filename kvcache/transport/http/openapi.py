"""The OpenAPI 3.1 document of the node's HTTP, made from the table of routes.

Here lives the form of that document. Never here: a route (``routes``). https://spec.openapis.org/oas/v3.1.0
"""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, Final

from kvcache.transport.http.routes import ROUTES, Parameter, Route

__all__ = ["openapi_document"]

_ALWAYS: Final = (400, 405, 408, 413, 417, 431, 500, 503, 505)
"""Statuses that any request may get: it is malformed, late or too large, or the node is too busy, stopping or at fault."""

_OF_ROLES: Final = (401, 403)
_OF_BODIES: Final = (415,)
_OF_DATA: Final = (421, 504)

_ERROR: Final = {
    "type": "object",
    "required": ["error", "message", "retryable", "detail"],
    "properties": {
        "error": {"type": "string", "description": "The name of the error, as clients have it."},
        "message": {"type": "string"},
        "retryable": {"type": "boolean"},
        "detail": {"type": ["integer", "number", "string", "null"]},
    },
}


def openapi_document(version: str) -> dict[str, Any]:
    """Return the document of a node of that version, as plain data."""
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        methods = paths.setdefault(route.path, {})
        methods[route.method.lower()] = _operation(route)
        if route.method == "GET":
            methods["head"] = _operation(route) | {
                "summary": "As GET, without the body.",
                "operationId": _id("HEAD", route),
            }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "kvcache",
            "version": version,
            "description": "Any node serves any key. Every error is the same JSON.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": {"Error": _ERROR},
            "securitySchemes": {
                "secret": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "One of the node's secrets; asked for only where nodes have any.",
                }
            },
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": _id(route.method, route),
        "summary": route.summary,
        "responses": {str(status): _response(route, status) for status in sorted(_statuses(route))},
    }
    if route.role != "anybody":
        operation["security"] = [{}, {"secret": []}]
    if route.parameters:
        operation["parameters"] = [_parameter(parameter) for parameter in route.parameters]
    if route.takes:
        operation["requestBody"] = {"required": True, "content": {route.takes: {"schema": route.takes_schema or {}}}}
    return operation


def _id(method: str, route: Route) -> str:
    words = route.path.replace("{", "").replace("}", "").replace("-", "/").replace(".", "/").split("/")
    return method.lower() + "".join(word.capitalize() for word in words)


def _statuses(route: Route) -> Iterator[int]:
    yield from {
        *route.answers,
        *_ALWAYS,
        *(_OF_ROLES if route.role != "anybody" else ()),
        *(_OF_BODIES if route.takes else ()),
        *(_OF_DATA if route.routes_data else ()),
    }


def _response(route: Route, status: int) -> dict[str, Any]:
    own = route.answers.get(status)
    response: dict[str, Any] = {"description": own or f"{HTTPStatus(status).phrase}."}
    if status == HTTPStatus.OK:
        response["content"] = {route.gives: {}}
    elif status >= HTTPStatus.BAD_REQUEST:
        response["content"] = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return response


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.place == "path",
        "description": parameter.meaning,
        "schema": dict(parameter.schema),
    }
