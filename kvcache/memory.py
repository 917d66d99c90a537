"""The memory of this process, as the operating system sees it, and the allocator that serves it.

Here lives which allocator a node runs with, reading resident memory and giving free pages back. Never here: what follows
from the figure (``store.governor``).

Python's own allocator keeps each of its pages for one size of object, so a store whose values grow or shrink can't reuse what it
freed. The C library's lets memory that one size gave up serve another. An allocator is chosen by the environment, before a
process starts; hence ``restart_with_c_allocator``, which imports nothing slow, so that it can be the first thing to run.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from typing import NoReturn

__all__ = ["node_environment", "resident_bytes", "restart_with_c_allocator", "return_free_pages"]

_CHOICE: Final = "PYTHONMALLOC"
_SETTINGS: Final = {
    _CHOICE: "malloc",
    "MALLOC_ARENA_MAX": "1",  # one thread at a time runs Python: more arenas would only be more holes
    # Small pieces that are freed join at once into room for larger ones. More than the usual 7 of each size kept back from that
    # would make a pipelined get 5 % quicker, but where sizes change a small store then gives up a third of what it holds.
    "GLIBC_TUNABLES": "glibc.malloc.mxfast=0",
}
_STATM: Final = "/proc/self/statm"


def node_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return ``environment`` with the allocator that suits a node, unless ``PYTHONMALLOC`` is set there already.

    Only glibc's is known to suit: with any other C library the environment stays as it is.
    """
    if _CHOICE in environment or not _has_glibc():
        return dict(environment)
    return {**_SETTINGS, **environment}


def restart_with_c_allocator(
    replace: Callable[[str, list[str], dict[str, str]], NoReturn] = os.execve,
) -> None:
    """Run this program again from its start, in this process, if ``node_environment`` asks for another environment.

    Call it before any thread starts and any file opens. The process id, the parent and the open standard streams stay.
    Returns when there is nothing to change or it can't be changed: the node then works with the allocator it has.
    """
    wanted = node_environment(os.environ)
    if wanted == os.environ or sys.flags.ignore_environment or not sys.executable:
        return
    replace(sys.executable, [sys.executable, *sys.orig_argv[1:]], wanted)


def _has_glibc() -> bool:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (AttributeError, OSError, ValueError):  # no such call, or no such name
        return False


def resident_bytes() -> int | None:
    """Return the resident memory in bytes; None where the system does not tell (outside Linux)."""
    try:
        with open(_STATM, encoding="ascii") as figures:
            fields = figures.read().split()
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
    import ctypes

    return getattr(ctypes.CDLL(None), "malloc_trim", None)
