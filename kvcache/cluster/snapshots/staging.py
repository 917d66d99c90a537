"""Staging: a private directory beside the target that becomes the target as a whole, or disappears.

Here lives the order of writes, fsyncs and renames that makes a snapshot durable before it is visible. Never here: what
the files hold. OSErrors pass through; the writer translates them.

Plan: files are written and synced in a directory of a name nobody asks for; the last file gets its name by a rename when
it is synced; then the directory is synced and renamed to the target, and its parent synced. A process that is killed
leaves at most a ``.snapshot-*.partial`` directory, which has no manifest or is never looked at; the next snapshot beside it
removes it (``leftovers``).
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from kvcache.cluster.snapshots.leftovers import PREFIX, SUFFIX, claim, remove_abandoned
from kvcache_client.protocol.errors import InvalidOption

__all__ = ["Staging", "free_target"]

_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_UNFINISHED: Final = ".unfinished"


def free_target(directory: str | os.PathLike[str]) -> str:
    """Return the absolute path of a directory that does not exist yet or is empty. Raises ``InvalidOption``."""
    shown = os.fspath(directory)
    try:
        parent, name = os.path.split(os.path.abspath(shown) if shown else "")
        target = os.path.join(os.path.realpath(parent), name)
        if not name or not os.path.isdir(parent):
            raise InvalidOption(f"{shown!r} cannot become a snapshot: {parent or 'it'} is no directory")
        _check_empty(target)
    except FileNotFoundError:
        return target
    except (OSError, ValueError) as error:
        if isinstance(error, InvalidOption):
            raise
        raise InvalidOption(f"{shown!r} cannot become a snapshot: {error}") from error
    return target


def _check_empty(target: str) -> None:
    if not stat.S_ISDIR(os.lstat(target).st_mode):
        raise InvalidOption(f"{target} exists and is no directory; a snapshot needs a new or an empty one")
    if os.path.ismount(target):
        raise InvalidOption(f"{target} is a mount point and cannot be replaced; name a directory inside it")
    with os.scandir(target) as entries:
        if next(entries, None) is not None:
            raise InvalidOption(f"{target} exists and is not empty; a snapshot needs a new or an empty directory")


class Staging:
    """The private directory. One file is open at a time."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._names: list[str] = []
        self._file = -1
        self._position = 0
        parent = os.path.dirname(target)
        remove_abandoned(parent)
        self._path = tempfile.mkdtemp(prefix=PREFIX, suffix=SUFFIX, dir=parent)
        try:
            self._directory = os.open(self._path, _DIRECTORY)
            claim(self._directory)
        except BaseException:
            os.rmdir(self._path)
            raise

    @property
    def place(self) -> str:
        """Where the next byte goes, for an error."""
        return f"{self._names[-1]}, byte {self._position}" if self._names else self._path

    def begin(self, name: str) -> None:
        """Open a new file."""
        self._file = os.open(name, _CREATE, 0o600, dir_fd=self._directory)
        self._names.append(name)
        self._position = 0

    def write(self, data: bytes) -> None:
        """Write all of ``data`` to the open file."""
        rest = memoryview(data)
        while rest:
            written = os.write(self._file, rest)
            self._position += written
            rest = rest[written:]

    def end(self) -> None:
        """Make the open file durable and close it."""
        os.fsync(self._file)
        self._close_file()

    def publish(self, name: str, data: bytes, ready: Callable[[], None]) -> None:
        """Write the last file and give the directory its name, once ``ready`` has raised nothing.

        Now there is a snapshot, and not before.
        """
        unfinished = name + _UNFINISHED
        self.begin(unfinished)
        self.write(data)
        self.end()
        os.rename(unfinished, name, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        self._names[-1] = name
        os.fsync(self._directory)
        ready()
        os.rename(self._path, self._target)
        self._path = self._target
        _sync_directory(os.path.dirname(self._target))
        os.close(self._directory)

    def remove(self) -> None:
        """Remove everything that was written, the last file first: a directory without it is no snapshot."""
        try:
            self._close_file()
        finally:
            try:
                for name in reversed(self._names):
                    with suppress(FileNotFoundError):
                        os.unlink(name, dir_fd=self._directory)
            finally:
                os.close(self._directory)
        os.rmdir(self._path)

    def _close_file(self) -> None:
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)

    def __repr__(self) -> str:
        return f"<Staging {self._path} files={len(self._names)} position={self._position}>"


def _sync_directory(path: str) -> None:
    descriptor = os.open(path, _DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
