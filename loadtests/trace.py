"""Cache traces: where they lie and what a line of one means.

Here lives finding and reading a trace file. Never here: what is done with its requests (``replay``), and no
trace: the files are not part of the project, and are read only when asked for.

A trace is gzip'd CSV with the header ``key,size``: one request a line in order of time, the key a dense
integer, the size in bytes or empty where the trace has none.
"""

from __future__ import annotations

import csv
import gzip
import time
import zlib
from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from loadtests import CannotRun

__all__ = [
    "DEFAULT_SIZE",
    "FOLDER_VARIABLE",
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


def read_trace(path: Path, requests: int | None = None, *, on_damage: Callable[[str], None] | None = None) -> Trace:
    """Return the first ``requests`` requests of the file, or all.

    Raises ``CannotRun`` on a damaged file; with ``on_damage``, a line that is no request is told to it by number and content,
    and left out.
    """
    trace = Trace(path.name.removesuffix(_SUFFIX), array("Q"), array("I"))
    try:
        with gzip.open(path, "rt", encoding="ascii", newline="") as lines:
            rows = csv.reader(lines)
            _fill(trace, rows, requests, on_damage)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise CannotRun(f"{path} cannot be read as a trace: {error}") from error
    if not trace:
        raise CannotRun(f"{path} holds no requests")
    return trace


def _fill(
    trace: Trace, rows: Iterator[list[str]], requests: int | None, on_damage: Callable[[str], None] | None
) -> None:
    header = next(rows, None)
    if header != _COLUMNS:
        raise CannotRun(f"{trace.name} begins with {header!r}; a trace begins with the columns key,size")
    for number, row in enumerate(islice(rows, requests), start=2):
        if number % _BREATH == 0:
            time.sleep(0)  # a process that also answers others (a Locust worker its master) gets to it
        try:
            key, size = row
            request = array("Q", [int(key)]), array("I", [int(size) if size else DEFAULT_SIZE])
        except (ValueError, OverflowError) as error:
            damage = f"{trace.name}, line {number}: {row!r:.200} is not a key and a size ({error})"
            if on_damage is None:
                raise CannotRun(damage) from error
            on_damage(damage)
            continue
        trace.keys.append(request[0][0])
        trace.sizes.append(request[1][0])


def key_of(number: int) -> bytes:
    """Return the cache key of a traced key."""
    return b"%d" % number


def value_of(key: bytes, size: int) -> bytes:
    """Return a value of ``size`` bytes that tells whose it is, and is never shorter than that mark."""
    return (key + b":").ljust(size, b".")
