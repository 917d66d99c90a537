"""What a thing costs in real memory, and the running total of it.

Here lives the arithmetic of the allocator. Never here: who holds what, or what to do when it is too much.

A node takes all its memory from the C library, which adds 8 bytes to each object and rounds to 16. (Python's own allocator
adds none up to 512 bytes; where a node has to run with it, a small object counts 8 bytes too many on average.)
Counting payload lengths alone would miss more than half of what a small record takes.
"""

from __future__ import annotations

from typing import Any, Final

__all__ = ["DICT_BYTES", "Ledger", "bytes_cost", "dict_cost", "entry_cost"]

_BYTES_HEADER: Final = 33
_ROUNDED: Final = _BYTES_HEADER + 8 + 15  # cut down to a multiple of 16

DICT_BYTES: Final = 40
"""What a dict costs beyond its ``__sizeof__``: the collector's header, and the rounding of its two blocks."""


def bytes_cost(length: int) -> int:
    """Return the memory that a ``bytes`` of this length takes, in bytes."""
    return (length + _ROUNDED) & -16


def entry_cost(key: bytes, record: bytes) -> int:
    """Return the memory that a key and its record take together, in bytes, without the structures around them."""
    return ((len(key) + _ROUNDED) & -16) + ((len(record) + _ROUNDED) & -16)


def dict_cost(table: dict[Any, Any]) -> int:
    """Return the memory that a dict takes, without its keys and values, in bytes."""
    return table.__sizeof__() + DICT_BYTES


class Ledger:
    """The bytes in use. Each part of the store adds and subtracts what it takes and gives back."""

    __slots__ = ("used",)

    def __init__(self) -> None:
        self.used = 0

    def __repr__(self) -> str:
        return f"<Ledger used={self.used} B>"
