"""The compiled part: what a node does most often, in C.

Here lives whether it is there: ``native`` is None where it could not be built, or ``KVCACHE_COMPILED=0`` asks to do without.
Never here: anything that is not defined in Python as well (``kvcache.store.rows``, ``kvcache.service``); the same tests
hold both to it.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any, Final

__all__ = ["native"]


def _load() -> Any:
    if os.environ.get("KVCACHE_COMPILED") == "0":
        return None
    try:
        return import_module("kvcache.compiled.native")
    except ImportError:  # no compiler or no headers where this was installed, or another interpreter
        return None


native: Final[Any] = _load()
