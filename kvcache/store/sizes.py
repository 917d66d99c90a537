"""What a thing costs in real memory, and the running total of it.

Here lives the arithmetic of CPython's allocators. Never here: who holds what, or what to do when it is too much.

An object of up to 512 bytes comes from pymalloc in steps of 16; a larger one from the C library, which adds 8 bytes and
rounds to 16. Counting payload lengths alone would miss more than half of what a small record takes.
"""

from __future__ import annotations

from typing import Any, Final

__all__ = ["DICT_BYTES", "Ledger", "bytes_cost", "dict_cost", "entry_cost"]

_BYTES_HEADER: Final = 33
_PYMALLOC_LIMIT: Final = 512

DICT_BYTES: Final = 32
"""What a dict costs beyond its ``__sizeof__``: the collector's header, and the rounding of its two blocks."""


def bytes_cost(length: int) -> int:
    """Return the memory that a ``bytes`` of this length takes, in bytes."""
    size = length + _BYTES_HEADER
    return (size + 15) & -16 if size <= _PYMALLOC_LIMIT else (size + 23) & -16


def entry_cost(key: bytes, record: bytes) -> int:
    """Return the memory that a key and its record take together, in bytes, without the structures around them."""
    key_size = len(key) + _BYTES_HEADER
    size = len(record) + _BYTES_HEADER
    return ((key_size + 15) & -16 if key_size <= _PYMALLOC_LIMIT else (key_size + 23) & -16) + (
        (size + 15) & -16 if size <= _PYMALLOC_LIMIT else (size + 23) & -16
    )


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
