"""Slices: a large batch goes as a series of small ones, one after the other, until the time of the call is up.

Here lives where a batch is cut, and what is said of the keys that were not begun. Never here: what is done with a slice
(``batches``, ``batch_writes``). ::

    100,000 keys --> 1024 keys or 2 MiB: frames, their answers, what they left open --> the next slice --> ... --time is up-->
        all others: DeadlineExceeded, never sent

So a deadline leaves a few keys in doubt and not the whole batch, no node has more than a frame or so of it to do at a time, and
between two slices whoever shares the event loop has his turn. A batch of one slice pays nothing for this.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final, TypeVar

from kvcache_client.core.brain import Brain
from kvcache_client.core.effects import Pause
from kvcache_client.protocol.errors import DeadlineExceeded
from kvcache_client.protocol.limits import KEYS_PER_FRAME

__all__ = ["BREATH", "LONG", "not_begun", "parts_of", "record_slices", "stretches"]

T = TypeVar("T")

_SLICE_BYTES: Final = 2 * 1024 * 1024
"""A slice of records is closed before it holds more than this, unless one record alone does."""

LONG: Final = 4096
"""Keys that are encoded in one go; after so many others have their turn."""

BREATH: Final = Pause(0.0)
"""Let others have their turn."""


def record_slices(records: Mapping[bytes, bytes]) -> Iterator[Mapping[bytes, bytes]]:
    """Yield the slices of a batch of records."""
    if len(records) <= KEYS_PER_FRAME and sum(map(len, records.values())) <= _SLICE_BYTES:
        yield records
        return
    part: dict[bytes, bytes] = {}
    room = _SLICE_BYTES
    for name, record in records.items():
        if part and (len(part) >= KEYS_PER_FRAME or len(record) > room):
            yield part
            part, room = {}, _SLICE_BYTES
        part[name] = record
        room -= len(record)
    yield part


def parts_of(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield parts of ``size`` items."""
    return (items[start : start + size] for start in range(0, len(items), size))


def stretches(items: Iterable[T], count: int) -> Iterator[Iterator[T]]:
    """Yield iterators over the next items, ``LONG`` at a time, until so many are taken; each must be used up before the next."""
    taking = iter(items)
    return (islice(taking, LONG) for _ in range(0, count, LONG))


def not_begun(brain: Brain, done: int, count: int) -> DeadlineExceeded:
    """Return the error of all keys of a batch for which there was no time."""
    return DeadlineExceeded(
        f"not asked: the {brain.config.timeout} s of the call were over after {done} of {count} keys of the batch;"
        " give the client a longer timeout or the batch fewer keys"
    )
