"""Waiting for something to come true, with a deadline; nothing here sleeps for a guessed time.

Here lives the polling that tests share. Never here: a server or a client.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

import pytest

__all__ = ["PATIENCE", "until", "wait_until"]

PATIENCE: Final = 20.0
"""Seconds after which a test that waits for something gives up."""

_POLL: Final = 0.002


def wait_until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Return when ``condition`` holds; fail when it does not for ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"this did not come true within {seconds} s: {condition}")
        time.sleep(_POLL)


async def until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Return when ``condition`` holds; fail when it does not for ``seconds``. The event loop goes on meanwhile."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"this did not come true within {seconds} s: {condition}")
        await asyncio.sleep(_POLL)
