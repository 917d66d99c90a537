"""Shown: what a caller passed, as an error message shows it.

Here lives the one way to put an arbitrary object into a message. Never here: what crosses the wire, which is of few types.

``repr`` is the object's own code, and raises for an int of more than 4300 digits, so that the message about a wrong argument
would be lost to an error about the message.
"""

from __future__ import annotations

from typing import Any

__all__ = ["shown"]


def shown(value: Any, length: int = 80) -> str:
    """Return the first ``length`` characters of the ``repr`` of ``value``, or of what it is if it has none. Never raises."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001  # the caller's own code: it may raise anything
        name = type(value).__name__
        text = f"<{name} of {value.bit_length()} bits>" if type(value) is int else f"<{name} that cannot be shown>"
    return text[:length]
