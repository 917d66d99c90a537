"""The dashboard's files: one page with its style and its scripts, from this package and nowhere else.

Here lives serving them. Never here: what they show (``dashboard/``). They hold no secrets, so anybody may have them; what the
page then asks for is asked with the secret that its user gives it. The policy lets nothing run that is not one of these files.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from http import HTTPStatus
from pathlib import Path
from typing import Final

from aiohttp import web

from kvcache.transport.http.answers import Refusal

__all__ = ["FILES", "PAGE_PREFIX", "Page"]

PAGE_PREFIX: Final = "/dashboard/"

FILES: Final[Mapping[str, str]] = {
    "index.html": "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "draw.js": "text/javascript; charset=utf-8",
    "operate.js": "text/javascript; charset=utf-8",
}

_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    )
)


class Page:
    """The files in memory; they are read once, when the node starts."""

    def __init__(self) -> None:
        folder = Path(__file__).parent / "dashboard"
        self._bodies = {name: (folder / name).read_bytes() for name in FILES}
        self._tags = {name: f'"{blake2b(body, digest_size=12).hexdigest()}"' for name, body in self._bodies.items()}

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(map(len, self._bodies.values()))

    async def get(self, request: web.BaseRequest) -> web.Response:
        """Answer GET and HEAD."""
        path = request.rel_url.raw_path
        name = "index.html" if path == "/" else path.removeprefix(PAGE_PREFIX)
        body = self._bodies.get(name)
        if body is None:
            raise Refusal(HTTPStatus.NOT_FOUND, f"there is nothing at {path!r:.80}")
        headers = {
            "Content-Security-Policy": _POLICY,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cache-Control": "no-cache",
            "ETag": self._tags[name],
        }
        if request.headers.get("If-None-Match") == self._tags[name]:
            return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
        return web.Response(body=body, headers={**headers, "Content-Type": FILES[name]})

    def __repr__(self) -> str:
        return f"<Page {self.size} B>"
