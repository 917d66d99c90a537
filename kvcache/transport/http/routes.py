"""The table of routes: what can be asked over HTTP, by whom, with what, and how it may be answered.

Here lives data from which the front door makes its routes, ``/openapi.json`` its document and the tests their requests. Never
here: what a route does. Every GET answers HEAD too. Schemas are JSON Schema, as OpenAPI 3.1 has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from kvcache_client.protocol.limits import TTL_SECONDS

__all__ = ["ROUTES", "Parameter", "Route", "Schema", "is_open", "prefix_of"]

Schema: TypeAlias = Mapping[str, Any]

_FILES: Final = "/dashboard/"
_FILE_NAMES: Final = ("app.js", "draw.js", "operate.js", "style.css")
_JSON: Final = "application/json"
_MSGPACK: Final = "application/msgpack"
_ANY: Final = "*/*"


@dataclass(frozen=True, slots=True)
class Parameter:
    """Something beside the body. ``place`` is path, query or header."""

    name: str
    place: str
    meaning: str
    schema: Schema


@dataclass(frozen=True, slots=True)
class Route:
    """One operation. ``answers`` are the statuses of its own; those that any request can get come on top (``openapi``)."""

    method: str
    path: str
    handler: str
    """Who answers: a name that the front door knows."""
    summary: str
    answers: Mapping[int, str]
    role: str = "client"
    """Whose secret it asks for, where secrets are asked for: ``client``, ``admin``, or ``anybody``, who needs none."""
    parameters: tuple[Parameter, ...] = ()
    takes: str = ""
    """Media type of the request body; none without."""
    takes_schema: Schema | None = None
    gives: str = _JSON
    """Media type of what a 200 carries."""
    routes_data: bool = False
    """Whether it goes to the owners of keys, and so can fail as they can."""


def prefix_of(path: str) -> str:
    """Return the part of a path before its first parameter."""
    return path.partition("{")[0]


_KEY: Final = Parameter(
    "key", "path", "The key: 1 to 1024 bytes, percent-encoded.", {"type": "string", "minLength": 1, "maxLength": 1024}
)
_DURATION: Final = {
    "anyOf": [
        {"type": "number", "exclusiveMinimum": 0, "maximum": TTL_SECONDS},
        {"type": "string", "pattern": "^[1-9][0-9]{0,2}(d|h|m|s|ms)$"},
    ]
}
_TTL: Final = Parameter(
    "ttl",
    "query",
    "How long the value lives: seconds, or numbers with units (w, d, h, m, s, ms), the largest first.",
    _DURATION,
)
_ETAG: Final = {"type": "string", "pattern": r'^(\*|"[0-9]{1,20}")$'}
_MATCH: Final = Parameter("If-Match", "header", "Only if the value has this version (its ETag), or * any.", _ETAG)
_NONE_MATCH: Final = Parameter("If-None-Match", "header", "GET: 304 if it still has this version.", _ETAG)
_ABSENT: Final = Parameter("If-None-Match", "header", "Only if the key is absent.", {"type": "string", "enum": ["*"]})

_NAME: Final = {"type": "string", "minLength": 1, "maxLength": 64}


def _object(required: tuple[str, ...] = (), **properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


_KEYS: Final = {"type": "array", "items": {"type": "string", "minLength": 1, "maxLength": 256}, "maxItems": 100}
_ROWS: Final = {
    "type": "array",
    "maxItems": 100,
    "items": {
        "type": "array",
        "prefixItems": [{"type": "string", "minLength": 1, "maxLength": 256}, {"type": "string"}],
        "items": False,
        "minItems": 2,
    },
}
_BATCH: Final = _object(get=_KEYS, set=_ROWS, delete=_KEYS)
"""The common form; ``batch_form`` has all of it. In msgpack keys and values may be binary."""

_OPERATIONS: Final[tuple[tuple[str, str, Schema], ...]] = (
    ("flush", "Forget everything.", _object(("confirm",), confirm={"const": True})),
    ("purge", "Forget what is under a prefix.", _object(("prefix",), prefix={"type": "string", "maxLength": 1024})),
    ("drain", "Have a node hand everything over and leave.", _object(("id",), id=_NAME)),
    ("remove", "Take out a node that is dead.", _object(("id",), id=_NAME, force={"type": "boolean"})),
    (
        "reweight",
        "Give a node another share.",
        _object(("id", "weight"), id=_NAME, weight={"type": "integer", "minimum": 1}),
    ),
    (
        "replicas",
        "Keep another number of copies.",
        _object(("count",), count={"type": "integer", "minimum": 1, "maximum": 7}),
    ),
    ("throttle", "Bound the running move.", _object(("rate",), rate={"type": "integer", "minimum": 0})),
    ("cancel", "Give the running move up.", _object()),
    (
        "repair",
        "Compare copies and copy what differs.",
        _object(partitions={"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 16383}}),
    ),
    ("dry-run", "Tell what would move.", {"type": "object"}),
)
_CONFLICT: Final = "Somebody else holds the lock, or has changed the cluster meanwhile."


def _operation(name: str, summary: str, arguments: Schema) -> Route:
    return Route(
        "POST",
        f"/v1/admin/{name}",
        "admin.post",
        summary,
        {200: "Done; what came of it.", 409: _CONFLICT},
        role="admin",
        takes=_JSON,
        takes_schema=arguments,
        routes_data=True,
    )


def _look(path: str, handler: str, summary: str, told: str, *, role: str = "client", gives: str = _JSON) -> Route:
    return Route("GET", path, handler, summary, {200: told}, role=role, gives=gives)


ROUTES: Final[tuple[Route, ...]] = (
    Route(
        "GET",
        "/v1/kv/{key}",
        "kv.get",
        "Read a value; its type is the Content-Type, its version the ETag, its serializer, if it has one, KvCache-Serializer.",
        {
            200: "The value.",
            304: "It still has that version.",
            404: "The key is absent.",
            412: "It has another version.",
            501: "It is compressed, and this node lacks the package that expands it.",
        },
        parameters=(_KEY, _NONE_MATCH, _MATCH),
        gives=_ANY,
        routes_data=True,
    ),
    Route(
        "PUT",
        "/v1/kv/{key}",
        "kv.put",
        "Write a value. If-Match is compare-and-set, If-None-Match: * is add.",
        {201: "Added.", 204: "Written.", 409: "The clocks are apart.", 412: "The condition does not hold."},
        parameters=(_KEY, _TTL, _MATCH, _ABSENT),
        takes="application/octet-stream",
        takes_schema={},
        routes_data=True,
    ),
    Route(
        "DELETE",
        "/v1/kv/{key}",
        "kv.delete",
        "Delete a key.",
        {204: "Deleted.", 404: "The key was absent already.", 409: "The clocks are apart."},
        parameters=(_KEY,),
        routes_data=True,
    ),
    Route(
        "POST",
        "/v1/batch",
        "batch.post",
        "Read, write and delete many keys in one msgpack body; each key has its own outcome.",
        {200: "The outcomes, in the order of the request."},
        takes=_MSGPACK,
        takes_schema=_BATCH,
        gives=_MSGPACK,
        routes_data=True,
    ),
    Route(
        "GET",
        "/v1/events",
        "events",
        "The overview of the cluster once a second, as server-sent events.",
        {200: "A stream of events named overview (JSON) or failure (text)."},
        gives="text/event-stream",
    ),
    _look("/v1/topology", "topology", "The topology document.", "Members, layout, move, epoch."),
    _look("/v1/stats", "statistics", "The node's counters.", "Numbers, in sections."),
    _look("/metrics", "metrics", "The same for Prometheus.", "The text format that Accept prefers.", gives=_ANY),
    _look("/healthz", "alive", "Whether the event loop runs.", "It does.", role="anybody"),
    _look("/readyz", "ready", "Whether the node can serve.", "It can; else 503 with the reason.", role="anybody"),
    _look("/", "page", "The dashboard.", "A page.", role="anybody", gives=_ANY),
    Route(
        "GET",
        "/dashboard/{file}",
        "page",
        "What the dashboard consists of.",
        {200: "The file.", 304: "It is still the same.", 404: "There is no such file."},
        role="anybody",
        parameters=(Parameter("file", "path", "The name of the file.", {"type": "string", "enum": list(_FILE_NAMES)}),),
        gives=_ANY,
    ),
    _look("/openapi.json", "openapi", "This document.", "OpenAPI 3.1.", role="anybody"),
    *(
        Route("GET", f"/v1/admin/{name}", "admin.get", summary, {200: "What there is."}, routes_data=True)
        for name, summary in (("status", "Members, move, health."), ("locks", "Who holds which lock."))
    ),
    *(_operation(*row) for row in _OPERATIONS),
)

_OPEN: Final = frozenset(route.path for route in ROUTES if route.role == "anybody")


def is_open(path: str) -> bool:
    """Say whether a path is answered without a secret: what watches over the process has none, and learns none."""
    return path in _OPEN or path.startswith(_FILES)
