"""The gate of HTTP: bearer tokens, the role that each path asks for, and requests that come from other sites' pages.

Here lives who may ask for what. Never here: what is answered.

A token is one of the node's secrets, sent as it is (``Authorization: Bearer SECRET``, RFC 6750), because that is what curl and
Prometheus can do. So unlike the stream, which never says a secret, HTTP beyond one machine wants TLS.
"""

from __future__ import annotations

import asyncio
import ipaddress
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from kvcache.transport.guard import Guard, network_of
from kvcache.transport.http.answers import Refusal
from kvcache.transport.http.routes import is_open
from kvcache_client.protocol.errors import Forbidden, Unauthenticated
from kvcache_client.protocol.verbs import Role

__all__ = ["Gate"]

_SAFE: Final = frozenset({"GET", "HEAD"})


class Gate:
    """Lets requests in, or raises why not. ``refusal_seconds`` is what a wrong token must wait for its answer."""

    __slots__ = ("_guard", "_refusal_seconds")

    def __init__(self, guard: Guard, refusal_seconds: float) -> None:
        self._guard = guard
        self._refusal_seconds = refusal_seconds

    async def admit(self, request: web.BaseRequest, *, admin: bool) -> None:
        """Return if the request may go on. ``admin`` says that its path is one of operators'."""
        changes = admin and request.method not in _SAFE
        if changes:
            self._require_own_site(request)
        if self._guard.asks and not is_open(request.rel_url.raw_path):
            await self._require_role(request, Role.ADMIN if changes else Role.CLIENT)

    async def _require_role(self, request: web.BaseRequest, needed: Role) -> None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("this node asks for a secret, as Authorization: Bearer SECRET")
        transport = request.transport
        peer = transport.get_extra_info("peername") if transport else None
        role = self._guard.role_of(token.strip().encode("utf-8", "surrogateescape"), network_of(peer))
        if role is None:
            await asyncio.sleep(self._refusal_seconds)
            raise Unauthenticated("the token is none of this node's secrets")
        if role < needed:
            raise Forbidden(f"this is for the role {needed.name.lower()}; the token's is {role.name.lower()}")

    def _require_own_site(self, request: web.BaseRequest) -> None:
        """Refuse what a page of another origin had a browser send (cross-site request forgery).

        Without secrets a name is no proof of origin: whoever owns one can make it point at this machine when the page is
        loaded already (DNS rebinding). An address, or localhost, can't be made to.
        """
        origin = request.headers.get("Origin")
        if origin is None and request.headers.get("Sec-Fetch-Site", "none") in ("none", "same-origin"):
            return  # no browser, or a page of ours
        host = request.headers.get("Host")
        own = origin is not None and urlsplit(origin).netloc == host
        if not own or not (self._guard.asks or _is_fixed(host or "")):
            raise Refusal(HTTPStatus.FORBIDDEN, f"requests from {origin or 'other sites'!r:.80} are not taken here")

    def __repr__(self) -> str:
        return f"<Gate {self._guard!r}>"


def _is_fixed(host: str) -> bool:
    name = urlsplit(f"//{host}").hostname or ""
    if name == "localhost":
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
