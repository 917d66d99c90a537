"""Events: what happens to a node that somebody may have to act on, said by name.

Here lives the journal that every part says its events to. Never here: which events there are (``event_table``), how a line looks
(``logs``), or what the parts do. ::

    journal.say("node_serving", node="n1", cluster="shop", address="10.0.0.1:7700")
        -> a record of the logger that the row names, with the fields beside the sentence
        -> the counter of that event (metrics) and, from INFO on, the recent events (dashboard), whatever the log level

An event that a peer can cause at will is said ``rarely``: once a second at most, the next line telling how many were left out.
Field values are cut to ``FIELD_CHARS`` characters; nothing of a value ever gets here, and of a key no more than ``shown_key``.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Final

from kvcache.event_table import EVENTS, Event

__all__ = ["FIELD_CHARS", "Journal", "journal", "shown_key"]

FIELD_CHARS: Final = 500
_KEY_BYTES: Final = 48
_RECENT: Final = 40
_RARELY_SECONDS: Final = 1.0


class Journal:
    """What was said in this process. ``now`` is a monotonic clock, ``wall`` tells seconds since 1970."""

    def __init__(self, now: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        self.counts: Counter[str] = Counter()
        self._recent: deque[dict[str, Any]] = deque(maxlen=_RECENT)
        self._now = now
        self._wall = wall
        self._said_at: dict[str, float] = {}
        self._left_out: Counter[str] = Counter()
        self._life = secrets.token_hex(4)
        self._number = 0

    def say(
        self, name: str, /, *, error_info: BaseException | None = None, at: float | None = None, **fields: object
    ) -> None:
        """Say that an event has happened; ``error_info`` is an exception whose traceback is to be logged.

        ``at`` is the monotonic time in seconds for whoever has just looked, or has a clock of its own.
        """
        event = EVENTS[name]
        self.counts[name] += 1
        if event.rarely:
            now = self._now() if at is None else at
            if now - self._said_at.get(name, -_RARELY_SECONDS) < _RARELY_SECONDS:
                self._left_out[name] += 1
                return
            self._said_at[name] = now
            if left_out := self._left_out.pop(name, 0):
                fields["left_out"] = left_out
        plain = {key: _plain(value) for key, value in fields.items()}
        sentence = event.text.format(**plain)
        if event.level >= logging.INFO:
            self._remember(event, sentence, plain.get("epoch"))
        logging.getLogger(event.logger).log(
            event.level, "%s", sentence, exc_info=error_info, extra={"event": name, "fields": plain}
        )

    def _remember(self, event: Event, sentence: str, epoch: object) -> None:
        self._number += 1
        self._recent.append(
            {
                "id": f"{self._life}-{self._number}",
                "at": round(self._wall(), 3),
                "level": logging.getLevelName(event.level).lower(),
                "event": event.name,
                "text": sentence,
                "advice": event.advice,
                "epoch": epoch,
            }
        )

    def forget(self) -> None:
        """Begin anew, as a process does that has said nothing yet."""
        self.counts.clear()
        self._recent.clear()
        self._said_at.clear()
        self._left_out.clear()

    def as_dict(self) -> dict[str, Any]:
        """Return counts and the most recent events, the oldest first, as plain data."""
        return {"said": dict(self.counts), "recent": list(self._recent)}

    def __repr__(self) -> str:
        return f"<Journal {sum(self.counts.values())} events>"


journal: Final = Journal()
"""The one journal of the process, as there is one log."""


def shown_key(key: object) -> str:
    """Return a key for a log: escaped, and cut, because keys can be long and may hold what is not for everybody."""
    if not isinstance(key, bytes):
        return f"a {type(key).__name__}"
    text = repr(key[:_KEY_BYTES])[2:-1]
    return text if len(key) <= _KEY_BYTES else f"{text}... ({len(key)} bytes)"


def _plain(value: object) -> object:
    """Return a field as it may stand in a log: a number, or one line of bounded text."""
    if value is None or isinstance(value, int | float):
        return value
    text = f"{type(value).__name__}: {value}" if isinstance(value, BaseException) else str(value)
    if not text.isprintable():
        text = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text[: FIELD_CHARS + 1])
    return text if len(text) <= FIELD_CHARS else text[:FIELD_CHARS] + "..."
