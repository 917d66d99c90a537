"""Values that say where they belong: ``key|run|sequence|filler|checksum``.

Here lives making and reading them. Never here: whether reading one is right (``ledger``).

A value is unique in its run, so every answer shows whose it is, how old it is and whether it is whole. The checksum is CRC-32
over all before it, in 8 hexadecimal digits.
"""

from __future__ import annotations

from random import Random
from typing import Final, NamedTuple
from zlib import crc32

__all__ = ["Stamp", "make_value", "read_value"]

_CHECKSUM: Final = 8
# Bytes that do not compress, so that a cache that does gains nothing by it; never the separator.
_FILLER: Final = bytes(byte if byte != ord("|") else 0 for byte in Random(2011).randbytes(1 << 16))


class Stamp(NamedTuple):
    """What a value says of itself."""

    key: bytes
    run: bytes
    sequence: int


def make_value(key: str, run: str, sequence: int, size: int) -> bytes:
    """Return a value of ``size`` bytes, or a little more where the stamp alone is longer."""
    head = f"{key}|{run}|{sequence}|".encode()
    space = size - len(head) - _CHECKSUM - 1
    if space > 0:
        filler = _FILLER[:space] if space <= len(_FILLER) else (_FILLER * (space // len(_FILLER) + 1))[:space]
        head += filler
    head += b"|"
    return head + b"%08x" % crc32(head)


def read_value(value: object) -> Stamp | None:
    """Return what the value says of itself, None if it is not one of ours or was changed on its way."""
    if not isinstance(value, bytes):
        return None
    try:
        if int(value[-_CHECKSUM:], 16) != crc32(value[:-_CHECKSUM]):
            return None
        key, run, sequence, _ = value.split(b"|", 3)
        return Stamp(key, run, int(sequence))
    except ValueError:
        return None
