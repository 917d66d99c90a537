"""Logs: how a line of the log looks, and how much of it there is.

Here lives the format of records, for people or as JSON, and the level, which two signals change while a node runs. Never here:
what is said (``events``). A record is one line, whatever is in it; only a traceback goes on below, and in JSON not even that.
"""

from __future__ import annotations

import json
import logging
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, Final, TextIO

from kvcache.events import journal

__all__ = ["FORMATS", "LEVELS", "JsonFormatter", "TextFormatter", "configure_log", "follow_signals", "step_level"]

LEVELS: Final = ("debug", "info", "warning", "error")
"""From the most talkative to the quietest."""

FORMATS: Final = ("text", "json")


class TextFormatter(logging.Formatter):
    """``2026-01-31T12:00:00.123Z WARNING cache-1 stood_still: this process stood still for 900 ms; ...``."""

    def __init__(self, node: str) -> None:
        super().__init__()
        self._node = node

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        event = getattr(record, "event", record.name)
        left_out = getattr(record, "fields", {}).get("left_out")
        more = f" (and {left_out} more since)" if left_out else ""
        line = f"{_time(record)} {record.levelname} {self._node} {event}: {_one_line(record.getMessage())}{more}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One JSON object in ASCII: time, level, node, event, message, the event's own fields, and perhaps a traceback."""

    def __init__(self, node: str) -> None:
        super().__init__()
        self._node = node

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "node": self._node,
            "event": getattr(record, "event", "log"),
            "logger": record.name,
            "message": record.getMessage(),
            "fields": getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def configure_log(level: str, form: str, node: str, stream: TextIO | None = None) -> None:
    """Send the log of this process to ``stream``, by default standard error, in one of ``FORMATS``."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter(node) if form == "json" else TextFormatter(node))
    root = logging.getLogger()
    for old in tuple(root.handlers):
        if isinstance(old.formatter, TextFormatter | JsonFormatter):  # ours; whoever else listens goes on listening
            root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())


def step_level(quieter: int, by: str) -> str:
    """Move the level by so many of ``LEVELS``, as far as there are any; returns it."""
    root = logging.getLogger()
    at = next((at for at, name in enumerate(LEVELS) if logging.getLevelName(name.upper()) >= root.level), 0)
    level = LEVELS[min(max(at + quieter, 0), len(LEVELS) - 1)]
    root.setLevel(level.upper())
    journal.say("log_level_changed", to=level, by=by)
    return level


def follow_signals(on_signal: Callable[..., object]) -> None:
    """Have SIGUSR1 make the log a level more talkative, and SIGUSR2 a level quieter. ``on_signal`` is the loop's."""
    on_signal(signal.SIGUSR1, step_level, -1, "SIGUSR1")
    on_signal(signal.SIGUSR2, step_level, 1, "SIGUSR2")


def _time(record: logging.LogRecord) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z"


def _one_line(text: str) -> str:
    """Escape line ends and control characters: a peer must not be able to write lines of its own."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
