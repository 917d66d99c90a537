"""Failpoints: named places at which a test can have a process die, to prove that any other may take over there.

Here lives the reading of the file that ``KVCACHE_FAILPOINTS`` names: the active failpoints, one on a line. Never here: anything
that happens when it is not set, which is always outside of tests. After etcd's robustness tests, which kill a process at named
lines of its code.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Final

__all__ = ["VARIABLE", "reached"]

VARIABLE: Final = "KVCACHE_FAILPOINTS"

_FILE: Final = os.environ.get(VARIABLE)


def reached(name: str) -> None:
    """Die at once, as by ``kill -9``, if the failpoint ``name`` is active; who dies takes it off the list."""
    if not _FILE:
        return
    file = Path(_FILE)
    active = file.read_text().split() if file.exists() else []
    if name in active:
        file.write_text("\n".join(other for other in active if other != name))
        os.kill(os.getpid(), signal.SIGKILL)
