"""One key over HTTP: GET, HEAD, PUT, DELETE of ``/v1/kv/{key}``, with HTTP's own semantics.

Here lives what a method, its conditions and its headers mean for a key (RFC 9110). Never here: routing to owners (the
embedded client), or reading a body (``body``).

* The key is everything after ``/v1/kv/``, percent-decoded to bytes: ``%2F``, ``%00`` and bytes that are no UTF-8 are
  as good as any. A plain ``/`` stands for itself; ``?`` and ``#`` must be encoded.
* The ETag is the record's version in decimal, the number that ``Entry.version`` shows in Python.
* A plain PUT answers 204: it replaces whatever is there without asking, so it can't know whether it created anything.
  PUT with ``If-None-Match: *`` (add) answers 201, since then it does.
* ``Cache-Control: no-cache``: a copy may be kept but must be revalidated, which If-None-Match makes cheap (304). A
  ``max-age`` would let somebody's proxy serve what was deleted here. For the same reason there is no ``Expires``:
  KvCache-TTL holds the seconds that the key has left to live, and is absent when it does not expire.
* What a client has compressed is sent expanded. What was written by a serializer of somebody's own is sent as it is, and
  KvCache-Serializer names the serializer, percent-encoded.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any, Final, Protocol, TypeVar
from urllib.parse import quote, unquote_to_bytes

from aiohttp import ETag, web

from kvcache.option_values import parse_duration
from kvcache.transport.http.answers import Refusal
from kvcache.transport.http.body import BodyReader
from kvcache.transport.http.media import MEDIA_TYPES, check_payload, payload_type_for, shown
from kvcache_client.core import plans
from kvcache_client.core.brain import Brain
from kvcache_client.core.durations import seconds_in
from kvcache_client.core.effects import Plan
from kvcache_client.protocol.codec import encode_key
from kvcache_client.protocol.errors import InvalidKey, InvalidOption, KeyNotFound, ValueTooLarge
from kvcache_client.protocol.record import NEVER, expiry_of, version_of
from kvcache_client.protocol.verbs import ABSENT, PRESENT
from kvcache_client.protocol.version import MAX_VERSION

__all__ = ["KV_PREFIX", "KeyRoutes", "RecordClient", "key_of", "remaining_seconds"]

T = TypeVar("T")

KV_PREFIX: Final = "/v1/kv/"

_BROKEN_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_ANY: Final = "*"


class RecordClient(Protocol):
    """What the routes need of the embedded client: its brain, and somebody who drives plans."""

    @property
    def brain(self) -> Brain:
        """What the client knows."""

    async def run(self, plan: Plan[T]) -> T:
        """Drive a plan to its result."""


def key_of(request: web.BaseRequest) -> bytes:
    """Return the key that the path names. Raises ``InvalidKey``."""
    if "#" in request.raw_path:  # the parser cuts it off, and another key would be meant than the one that was sent
        raise InvalidKey("a # in a key must be sent as %23")
    # The parser made text of the bytes in this way; this is the way back.
    name = request.rel_url.raw_path[len(KV_PREFIX) :].encode("utf-8", "surrogateescape")
    if _BROKEN_ESCAPE.search(name):
        raise InvalidKey(f"a % without two hex digits behind it in {name[:80]!r}; send it as %25")
    return encode_key(unquote_to_bytes(name))


def remaining_seconds(record: bytes, now_ms: int) -> float | None:
    """Return the seconds that a record has left, or None if it does not expire."""
    expiry = expiry_of(record)
    return None if expiry == NEVER else max(expiry - now_ms, 0) / 1000


class KeyRoutes:
    """The routes of a single key."""

    __slots__ = ("_bodies", "_client", "_value_limit")

    def __init__(self, client: RecordClient, bodies: BodyReader, value_limit: int) -> None:
        self._client = client
        self._bodies = bodies
        self._value_limit = value_limit

    async def get(self, request: web.BaseRequest) -> web.Response:
        """Answer GET and HEAD."""
        key = key_of(request)
        _refuse_parameters(request, allowed=())
        record = await self._client.run(plans.fetch(self._client.brain, self._client.brain.spaces.whole, key))
        if record is None:
            if request.if_match is not None:
                raise _failed_precondition(0)
            raise KeyNotFound(f"{key!r:.80} is not there")
        version = version_of(record)
        headers = {"ETag": _etag(version), "Cache-Control": "no-cache"}
        if request.if_match is not None and not _matches(request.if_match, version, weakly=False):
            raise _failed_precondition(version)
        if request.if_none_match is not None and _matches(request.if_none_match, version, weakly=True):
            return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
        value = shown(record)
        headers["Content-Type"] = MEDIA_TYPES[value.kind]
        if value.serializer is not None:
            headers["KvCache-Serializer"] = quote(value.serializer)
        headers["X-Content-Type-Options"] = "nosniff"  # stored text must not run as a page of this origin
        seconds = remaining_seconds(record, self._client.brain.hlc.now_ms())
        if seconds is not None:
            headers["KvCache-TTL"] = f"{seconds:.3f}"
        return web.Response(body=value.body, headers=headers)

    async def put(self, request: web.BaseRequest) -> web.Response:
        """Answer PUT. Everything that can be wrong with the request is found before the body is read."""
        key = key_of(request)
        brain = self._client.brain
        ttl = _ttl(request)
        condition = _condition(request)
        kind = payload_type_for(request.content_type, request.charset)
        if "Content-Range" in request.headers:
            raise InvalidOption("a value is written whole; Content-Range is not supported")
        payload = await self._bodies.read(request, self._value_limit, ValueTooLarge)
        check_payload(kind, payload)
        expiry_ms = plans.expiry_in(brain, ttl)
        if condition is None:
            version = await self._client.run(plans.store(brain, brain.spaces.whole, key, kind, payload, expiry_ms))
            return web.Response(status=HTTPStatus.NO_CONTENT, headers={"ETag": _etag(version)})
        applied, version = await self._client.run(
            plans.store_if(brain, brain.spaces.whole, key, condition, kind, payload, expiry_ms)
        )
        if not applied:
            raise _failed_precondition(version)
        status = HTTPStatus.CREATED if condition == ABSENT else HTTPStatus.NO_CONTENT
        return web.Response(status=status, headers={"ETag": _etag(version)})

    async def delete(self, request: web.BaseRequest) -> web.Response:
        """Answer DELETE."""
        key = key_of(request)
        _refuse_parameters(request, allowed=())
        if request.if_match is not None or request.if_none_match is not None:
            raise InvalidOption("DELETE takes no condition; it deletes whatever is there")
        if not await self._client.run(plans.delete(self._client.brain, self._client.brain.spaces.whole, key)):
            raise KeyNotFound(f"{key!r:.80} is not there")
        return web.Response(status=HTTPStatus.NO_CONTENT)

    def __repr__(self) -> str:
        return f"<KeyRoutes value_limit={self._value_limit} {self._client!r}>"


def _refuse_parameters(request: web.BaseRequest, allowed: tuple[str, ...]) -> None:
    """A parameter that is misspelt or given twice would be ignored in silence, and a key would live for ever."""
    query = request.query
    for name in query:
        if name not in allowed:
            raise InvalidOption(
                f"unknown parameter {name!r:.40} of {request.method}; known: {', '.join(allowed) or 'none'}"
            )
        if len(query.getall(name)) > 1:
            raise InvalidOption(f"the parameter {name} stands more than once")


def _ttl(request: web.BaseRequest) -> float | None:
    _refuse_parameters(request, allowed=("ttl",))
    text = request.query.get("ttl")
    if text is None:
        return None
    return seconds_in("ttl", parse_duration(text))


def _condition(request: web.BaseRequest) -> int | None:
    """Return the condition of SWAP that a PUT's headers ask for, or None. Raises what can't be expressed or can't hold."""
    match, none_match = request.if_match, request.if_none_match
    if match is not None and none_match is not None:
        raise InvalidOption("If-Match and If-None-Match contradict each other; send one")
    if none_match is not None:
        if [tag.value for tag in none_match] != [_ANY]:
            raise InvalidOption("If-None-Match of a PUT must be *, which writes only if the key is absent")
        return ABSENT
    if match is None:
        return None
    if len(match) > 1:
        raise InvalidOption(f"If-Match names {len(match)} versions; a write can be compared with one")
    if match and match[0].value == _ANY:
        return PRESENT
    version = _version(match[0]) if match and not match[0].is_weak else None
    if version is None:  # not a tag that we ever gave out, so it matches nothing
        raise _failed_precondition(0)
    return version


def _version(tag: ETag) -> int | None:
    text = tag.value
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        return None
    version = int(text)
    return version if PRESENT < version <= MAX_VERSION else None


def _matches(tags: tuple[ETag, ...], version: int, *, weakly: bool) -> bool:
    return any(tag.value == _ANY or ((weakly or not tag.is_weak) and _version(tag) == version) for tag in tags)


def _etag(version: int) -> str:
    return f'"{version}"'


def _failed_precondition(version: int) -> Refusal:
    """Return the 412; its ETag and ``detail`` are the version that is there instead, if there is one."""
    headers: dict[str, Any] = {"ETag": _etag(version)} if version else {}
    there = f"its version is {version}" if version else "it is not there in any such version"
    return Refusal(
        HTTPStatus.PRECONDITION_FAILED,
        f"the key is not in the state that the condition asks for: {there}",
        detail=str(version) if version else None,
        headers=headers,
    )
