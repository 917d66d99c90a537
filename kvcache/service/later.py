"""Later: a reply that takes its time.

Here lives the signal by which a handler says that its reply needs awaiting. Never here: the awaiting (``transport``).

Handlers are plain functions, and nearly all replies are there at once. The few that need the coordinator or another node are
raised as ``Later``: the connection goes on with what follows, and the reply is sent when it comes, out of order, as ids
allow. An exception costs those many nothing, where looking at what each handler returned would cost them all.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

__all__ = ["Fields", "Later"]

Fields: TypeAlias = tuple[Any, ...]
"""A reply without the id: the status and its fields."""


class Later(Exception):
    """Carries the work, and how its result becomes the reply; the work may raise the errors that have a wire code."""

    def __init__(self, work: Awaitable[Any], fields: Callable[[Any], Fields]) -> None:
        super().__init__()
        self.work = work
        self.fields = fields
