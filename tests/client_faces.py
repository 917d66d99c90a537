"""One face for both clients, for tests of what they do alike.

Here lives the adapter that makes every verb awaitable. Never here: what either client promises.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Final

from kvcache_client import AsyncClient, Client

__all__ = ["CLIENTS", "Face"]

CLIENTS: Final[dict[str, type[Any]]] = {"asyncio": AsyncClient, "blocking": Client}


class Face:
    """A client whose every verb is awaited, whichever client it is. A blocking one blocks the loop meanwhile."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        verb = getattr(self.client, name)

        async def call(*arguments: Any, **options: Any) -> Any:
            result = verb(*arguments, **options)
            return await result if inspect.isawaitable(result) else result

        return call

    def namespace(self, prefix: str | bytes, **options: Any) -> Face:
        """Return the face of the client's namespace."""
        return Face(self.client.namespace(prefix, **options))

    def __repr__(self) -> str:
        return f"<Face {self.client!r}>"
