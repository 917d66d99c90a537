"""Cache traces: where they lie and what a line of one means.

Here lives finding and reading a trace file. Never here: what is done with its requests (``replay``), and no
trace: the files are not part of the project, and are read only when asked for.

A trace is gzip'd CSV with the header ``key,size``: one request a line in order of time, the key a dense
integer, the size in bytes or empty where the trace has none. There are no quotes, so no line can swallow the next.
"""

from __future__ import annotations

import gzip
import time
import zlib
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final

from loadtests import CannotRun

__all__ = [
    "DEFAULT_SIZE",
    "FOLDER_VARIABLE",
    "Damage",
    "Trace",
    "find_trace",
    "key_of",
    "read_trace",
    "trace_folder",
    "value_of",
]

FOLDER_VARIABLE: Final = "KVCACHE_TRACES"
"""The environment variable that names the folder of the traces."""

DEFAULT_SIZE: Final = 100
"""Bytes of a value whose size the trace does not tell."""

_BREATH: Final = 10_000
"""Lines that are read at a stretch."""

_KEY_AT_MOST: Final = (1 << 64) - 1
_SIZE_AT_MOST: Final = (1 << 32) - 1
_DAMAGES_TOLD: Final = 10

_SUFFIX: Final = ".csv.gz"
_COLUMNS: Final = ["key", "size"]


@dataclass(frozen=True, slots=True)
class Trace:
    """Requests as two packed columns, 12 bytes each, so that a replay does not wait for the file."""

    name: str
    keys: array[int]
    sizes: array[int]

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self.keys, self.sizes, strict=True)


@dataclass(slots=True)
class Damage:
    """What of a file was no request. ``largest`` is the size in bytes above which a line counts as damaged."""

    largest: int = _SIZE_AT_MOST
    lines: int = 0
    told: list[str] = field(default_factory=list)
    """The first of them, by number and content."""
    cut: str = ""
    """Why the rest of the file could not be read; empty for a whole one."""

    def note(self, what: str) -> None:
        """Count a line."""
        self.lines += 1
        if self.lines <= _DAMAGES_TOLD:
            self.told.append(what)


def trace_folder(environment: Mapping[str, str]) -> Path:
    """Return the folder of the traces: ``KVCACHE_TRACES``, else ``../shared/data`` beside the checkout."""
    named = environment.get(FOLDER_VARIABLE)
    return Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"


def find_trace(name: str, folder: Path) -> Path:
    """Return the file that ``name`` means: a path, or (the beginning of) one file name in ``folder``."""
    if Path(name).is_file():
        return Path(name)
    if not folder.is_dir():
        raise CannotRun(f"no trace folder at {folder}; set {FOLDER_VARIABLE} to the folder that holds the traces")
    present = sorted(path for path in folder.iterdir() if path.name.endswith(_SUFFIX))
    exact = [path for path in present if path.name in (name, name + _SUFFIX)]
    matching = exact or [path for path in present if path.name.startswith(name)]
    if len(matching) == 1:
        return matching[0]
    names = ", ".join(path.name.removesuffix(_SUFFIX) for path in present) or "nothing"
    what = "no trace is" if not matching else "more than one trace is"
    raise CannotRun(f"{what} called {name!r} in {folder}; there is: {names}")


def read_trace(path: Path, requests: int | None = None, *, damage: Damage | None = None) -> Trace:
    """Return the first ``requests`` requests of the file, or all.

    Raises ``CannotRun`` on a damaged file; with ``damage``, what is no request is noted there and left out, and of a file that
    ends in the middle there is what came before.
    """
    trace = Trace(path.name.removesuffix(_SUFFIX), array("Q"), array("I"))
    try:
        # Whatever is no ASCII is then no number either, and so damage of its own line only.
        with gzip.open(path, "rt", encoding="ascii", errors="replace") as lines:
            _fill(trace, lines, requests, damage)
    except (OSError, EOFError, zlib.error) as error:
        if damage is None or not trace:
            raise CannotRun(f"{path} cannot be read as a trace: {error}") from error
        damage.cut = f"{trace.name} ends in the middle, after {len(trace):,} requests: {error}"
    if not trace:
        raise CannotRun(f"{path} holds no requests")
    return trace


def _fill(trace: Trace, lines: Iterator[str], requests: int | None, damage: Damage | None) -> None:
    header = _row(next(lines, ""))
    if header != _COLUMNS:
        raise CannotRun(f"{trace.name} begins with {header!r:.200}; a trace begins with the columns key,size")
    add_key, add_size, largest = trace.keys.append, trace.sizes.append, damage.largest if damage else _SIZE_AT_MOST
    for number, line in enumerate(islice(lines, requests), start=2):
        if number % _BREATH == 0:
            time.sleep(0)  # a process that also answers others (a Locust worker its master) gets to it
        try:
            key, size = _request(line, largest)
        except ValueError as error:
            what = f"{trace.name}, line {number}: {_row(line)!r:.200} is not a key and a size ({error!s:.200})"
            if damage is None:
                raise CannotRun(what) from error
            damage.note(what)
        else:
            add_key(key)
            add_size(size)


def _row(line: str) -> list[str]:
    return line.rstrip("\n").split(",")


def _request(line: str, largest: int) -> tuple[int, int]:
    key_text, size_text = _row(line)
    key, size = int(key_text), int(size_text) if size_text else DEFAULT_SIZE
    if 0 <= key <= _KEY_AT_MOST and 0 <= size <= largest:
        return key, size
    raise ValueError(f"a key is from 0 to {_KEY_AT_MOST}, a size from 0 to {largest}")


def key_of(number: int) -> bytes:
    """Return the cache key of a traced key."""
    return b"%d" % number


def value_of(key: bytes, size: int) -> bytes:
    """Return a value of ``size`` bytes that tells whose it is, and is never shorter than that mark."""
    return (key + b":").ljust(size, b".")
