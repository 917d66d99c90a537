"""Leftovers: the private directories of snapshots whose process was killed.

Here lives telling an abandoned one from one that somebody is writing, and its removal. Never here: writing (``staging``).

A writer holds a lock of the system on its directory (flock), which ends with its process, however that ends. What can't be
locked, is no such directory, holds a file that no snapshot has, or is younger than a minute, is left alone: a file too many does
less harm than one too few.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from contextlib import suppress
from typing import Final

from kvcache.events import journal

__all__ = ["PREFIX", "SUFFIX", "claim", "remove_abandoned"]

PREFIX: Final = ".snapshot-"
SUFFIX: Final = ".partial"

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OURS: Final = re.compile(r"segment-[0-9]{6,}\.msgpack|manifest\.msgpack(\.unfinished)?")
_AGE_SECONDS: Final = 60.0
"""So old must one be: between its making and its lock there is a moment in which it looks abandoned."""


def claim(directory: int) -> None:
    """Say that the open ``directory`` is being written, for as long as it is open; where locks are not to be had, say nothing."""
    with suppress(OSError):
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)


def remove_abandoned(parent: str) -> list[str]:
    """Remove what killed writers have left in ``parent``; returns the paths. What can't be removed stays."""
    removed = []
    with suppress(OSError):
        for name in os.listdir(parent):
            path = os.path.join(parent, name)
            if name.startswith(PREFIX) and name.endswith(SUFFIX) and _removed(path):
                journal.say("snapshot_cleared", left=path)
                removed.append(path)
    return removed


def _removed(path: str) -> bool:
    try:
        directory = os.open(path, _DIRECTORY)
    except OSError:
        return False
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        state = os.fstat(directory)
        names = os.listdir(directory)
        if state.st_uid != os.geteuid() or time.time() - state.st_mtime < _AGE_SECONDS:
            return False
        if not all(_OURS.fullmatch(name) for name in names):
            return False
        for name in names:
            os.unlink(name, dir_fd=directory)
        os.rmdir(path)
    except OSError:
        return False
    finally:
        os.close(directory)
    return True
