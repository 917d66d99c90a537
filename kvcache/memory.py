"""The memory of this process, as the operating system sees it.

Here lives reading resident memory and giving free pages back. Never here: what follows from it (``store.governor``).
"""

from __future__ import annotations

import ctypes
import os
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["resident_bytes", "return_free_pages"]

_STATM = Path("/proc/self/statm")


def resident_bytes() -> int | None:
    """Return the resident memory in bytes; None where the system does not tell (outside Linux)."""
    try:
        fields = _STATM.read_text(encoding="ascii").split()
    except OSError:
        return None
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


def return_free_pages() -> None:
    """Have the C library give back the pages that it keeps free; does nothing where it can't (glibc only)."""
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Any | None:
    return getattr(ctypes.CDLL(None), "malloc_trim", None)
