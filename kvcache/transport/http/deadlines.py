"""Deadlines of one HTTP connection: a header that does not come, a reply that is not taken.

Here lives the time that aiohttp does not keep: it would wait for the rest of a header as long as for the next request.
Never here: sockets or parsing; the connection tells what happens, and is told when it has been patient enough. ::

        bytes            header complete             answered
    idle -----> header ------------------> serving ------------> idle
                  |  head_seconds pass                  `-------> header, if bytes of the next one came already
                  v
              late_head

A header begins with the first byte after a request and its body. Bytes in one segment *with* the end of a body can't be
told from that body here (only the parser knows where a chunked one ends), so half a header hidden there, followed by
silence, is left to the idle limit; its next byte starts the clock.
"""

from __future__ import annotations

from asyncio import TimerHandle
from collections.abc import Callable
from typing import Protocol

from kvcache.transport.http.limits import HttpLimits

__all__ = ["Body", "ConnectionDeadlines", "Patience"]

_HEAD_END = b"\r\n\r\n"


class Body(Protocol):
    """A request's body, as far as time is concerned."""

    def is_eof(self) -> bool:
        """Say whether all of it has arrived."""


class Patience(Protocol):
    """Who is told that time is up, and asked how much of a reply is still in the socket."""

    def late_head(self) -> None:
        """A header was not complete in time."""

    def late_reader(self) -> None:
        """The client has taken nothing of its reply for too long."""

    def unsent_bytes(self) -> int:
        """Return what the socket still holds."""


class ConnectionDeadlines:
    """The timers of one connection. ``call_later`` is the event loop's."""

    __slots__ = ("_body", "_call_later", "_head", "_limits", "_next_begun", "_owner", "_recent", "_reply", "serving")

    def __init__(self, call_later: Callable[..., TimerHandle], limits: HttpLimits, owner: Patience) -> None:
        self._call_later = call_later
        self._limits = limits
        self._owner = owner
        self._head: TimerHandle | None = None
        self._reply: TimerHandle | None = None
        self._body: Body | None = None
        self._recent = b""
        self._next_begun = False
        self.serving = False

    @property
    def idle(self) -> bool:
        """No request is being served and none has begun to arrive."""
        return not self.serving and self._head is None

    def received(self, data: bytes) -> None:
        """Bytes came; call it before the parser sees them."""
        self._recent = (self._recent + data[-4:])[-4:]
        if self._body is not None and not self._body.is_eof():
            return
        if self.serving:
            self._next_begun = True
        elif self._head is None:
            self._head = self._call_later(self._limits.head_seconds, self._head_is_late)

    def began(self, body: Body | None) -> None:
        """A header is complete and its request is being served; ``body`` is None if it has none."""
        self._disarm_head()
        self.serving = True
        self._body = body
        self._next_begun = body is None and self._recent != _HEAD_END

    def ended(self) -> None:
        """The request is answered."""
        self.serving = False
        if self._next_begun:
            self._head = self._call_later(self._limits.head_seconds, self._head_is_late)

    def stalled(self) -> None:
        """The socket takes no more of the reply."""
        self._await_progress(self._owner.unsent_bytes())

    def flowing(self) -> None:
        """The socket takes more again."""
        if self._reply is not None:
            self._reply.cancel()
            self._reply = None

    def closed(self) -> None:
        """The connection is gone."""
        self._disarm_head()
        self.flowing()
        self._next_begun = False

    def _disarm_head(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _head_is_late(self) -> None:
        self._head = None
        self._owner.late_head()

    def _await_progress(self, unsent: int) -> None:
        self._reply = self._call_later(self._limits.reply_seconds, self._check_progress, unsent)

    def _check_progress(self, before: int) -> None:
        self._reply = None
        unsent = self._owner.unsent_bytes()
        if unsent < before:  # slow, but reading
            self._await_progress(unsent)
        else:
            self._owner.late_reader()

    def __repr__(self) -> str:
        state = "serving" if self.serving else "idle" if self.idle else "header"
        return f"<ConnectionDeadlines {state} stalled={self._reply is not None}>"
