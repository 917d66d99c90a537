"""Records: the one form in which a value travels, lies in memory and is streamed.

Here lives the layout of the 15-byte header and the flags. Never here: what a payload means to Python (``codec``).

::

    | 8 bytes: version | 6 bytes: expiry, ms since 1970 | 1 byte: flags | payload |
                         (all ones = never)               | 7: tombstone | 6-4: compression | 3-0: payload type |

All numbers are big-endian, so comparing two records as bytes compares their versions first: "newer wins" is one ``>``.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final

__all__ = [
    "COMPRESSION_MASK",
    "COMPRESSION_SHIFT",
    "EXPIRY",
    "FLAGS",
    "HEADER_BYTES",
    "MARKED",
    "MARK_BYTES",
    "NEVER",
    "SOFT_BYTES",
    "TOMBSTONE",
    "TOMBSTONE_MS",
    "VERSION",
    "PayloadType",
    "brought_over",
    "describe",
    "expiry_of",
    "fence_of",
    "fenced",
    "flags_of",
    "is_soft",
    "is_tombstone",
    "make_record",
    "payload_of",
    "restamp",
    "restored",
    "soft",
    "stale_from",
    "tombstone",
    "unfenced",
    "unrestored",
    "unsoftened",
    "version_of",
    "with_expiry",
]

HEADER_BYTES: Final = 15
VERSION: Final = slice(0, 8)
EXPIRY: Final = slice(8, 14)
FLAGS: Final = 14
"""The index of the flags byte."""

NEVER: Final = (1 << 48) - 1
"""The expiry of a record that does not expire."""

TOMBSTONE: Final = 0x80
"""The flag of a record that says "deleted"; its expiry is when the tombstone itself may be forgotten."""

TOMBSTONE_MS: Final = 30 * 60 * 1000
"""How long a tombstone is kept: longer than any node may be away without wiping itself."""

COMPRESSION_MASK: Final = 0x70
COMPRESSION_SHIFT: Final = 4
"""Where in the flags the number of the compression stands; 0 is none."""

# Expiry is 48 bits wide; struct knows no such field, so it is packed as 16 + 32.
_HEADER: Final = struct.Struct(">QHIB")
_VERSION_OF: Final = struct.Struct(">Q").unpack_from


class PayloadType(IntEnum):
    """The type of a payload, in the low four bits of the flags."""

    MSGPACK = 0
    BYTES = 1
    TEXT = 2
    INTEGER = 3
    """A decimal number in ASCII; the only payload that a node reads (incr)."""
    JSON = 4
    SERIALIZED = 5
    """By a serializer of the caller's own: 1 byte length of its name, its name, what it made of the value."""
    SOFT = 13
    """May be refreshed before it expires: 6 bytes time from which it is stale, 1 byte flags of the value, its payload."""
    RESTORED = 14
    """Brought back by a restore over a flush: 8 bytes version up to which that hides, 1 byte flags, the payload."""
    FENCED = 15
    """Written by the holder of a lock: 8 bytes fence, 1 byte with the flags of the value, the value's payload."""


_FENCED: Final = int(PayloadType.FENCED)
_RESTORED: Final = int(PayloadType.RESTORED)

_SOFT: Final = int(PayloadType.SOFT)

SOFT_BYTES: Final = 7
"""What a soft expiry adds to a payload: itself and the flags of the value."""

MARKED: Final = (_RESTORED, _FENCED)
"""The types that put something before the value; a value may have both, RESTORED outside."""

MARK_BYTES: Final = 9
"""What such a type adds to a payload: its number and the flags of the value."""

_PAYLOAD_NAMES: Final = {int(kind): kind.name.lower() for kind in PayloadType}


def make_record(version: int, expiry_ms: int, flags: int, payload: bytes) -> bytes:
    """Return the record of ``payload``; ``expiry_ms`` is milliseconds since 1970 or ``NEVER``."""
    return _HEADER.pack(version, expiry_ms >> 32, expiry_ms & 0xFFFFFFFF, flags) + payload


def tombstone(version: int, forget_ms: int) -> bytes:
    """Return the record that deletes every older version, itself forgotten at ``forget_ms``."""
    return make_record(version, forget_ms, TOMBSTONE, b"")


def restamp(record: bytes, version: int) -> bytes:
    """Return ``record`` under another version."""
    return version.to_bytes(8, "big") + record[8:]


def with_expiry(record: bytes, version: int, expiry_ms: int) -> bytes:
    """Return ``record`` under another version and expiry, its payload untouched."""
    return _HEADER.pack(version, expiry_ms >> 32, expiry_ms & 0xFFFFFFFF, record[FLAGS]) + record[HEADER_BYTES:]


def version_of(record: bytes) -> int:
    """Return the version, an unsigned 64-bit number."""
    version: int
    (version,) = _VERSION_OF(record)
    return version


def expiry_of(record: bytes) -> int:
    """Return the expiry in milliseconds since 1970, or ``NEVER``."""
    return int.from_bytes(record[EXPIRY], "big")


def flags_of(record: bytes) -> int:
    """Return the flags byte."""
    return record[FLAGS]


def fenced(fence: int, flags: int, payload: bytes) -> tuple[int, bytes]:
    """Return flags and payload of a value that is written under ``fence``."""
    return PayloadType.FENCED, fence.to_bytes(8, "big") + bytes((flags,)) + payload


def fence_of(record: bytes) -> int:
    """Return the fence that a record was written under, 0 if under none."""
    written = unrestored(record)
    return _mark(written) if written[FLAGS] == _FENCED else 0


def unfenced(record: bytes) -> bytes:
    """Return the record of the value alone: what it would be had it been written without a fence, and never restored."""
    return _without(_FENCED, unrestored(record))


def restored(record: bytes, hidden_to: int) -> bytes:
    """Return a record that is seen although what is not newer than ``hidden_to`` is hidden. It keeps its version."""
    plain = unrestored(record)
    return plain[:FLAGS] + bytes((_RESTORED,)) + hidden_to.to_bytes(8, "big") + plain[FLAGS:]


def unrestored(record: bytes) -> bytes:
    """Return the record as it was before it was restored."""
    return _without(_RESTORED, record)


def brought_over(record: bytes) -> int:
    """Return up to which version a flush leaves this record to be seen, however old it is; -1 if it was never restored."""
    return _mark(record) if record[FLAGS] == _RESTORED else -1


def _mark(record: bytes) -> int:
    return int.from_bytes(record[HEADER_BYTES : HEADER_BYTES + 8], "big")


def _without(mark: int, record: bytes) -> bytes:
    if record[FLAGS] != mark or len(record) < HEADER_BYTES + MARK_BYTES:
        return record
    return record[:FLAGS] + record[HEADER_BYTES + 8 :]


def soft(stale_ms: int, flags: int, payload: bytes) -> tuple[int, bytes]:
    """Return flags and payload of a value that is stale from ``stale_ms`` on (ms since 1970) and kept for longer."""
    return PayloadType.SOFT, stale_ms.to_bytes(6, "big") + bytes((flags,)) + payload


def is_soft(record: bytes) -> bool:
    """Say whether a record has a soft expiry."""
    plain = unrestored(record)
    return plain[FLAGS] == _SOFT and len(plain) >= HEADER_BYTES + SOFT_BYTES


def stale_from(record: bytes) -> int:
    """Return when a record's soft expiry is, in ms since 1970: its expiry where it has no other."""
    return expiry_of(unsoftened(record))


def unsoftened(record: bytes) -> bytes:
    """Return the record of the value alone, which expires when it would have become stale."""
    return record[VERSION] + unrestored(record)[HEADER_BYTES:] if is_soft(record) else record


def payload_of(record: bytes) -> bytes:
    """Return the payload."""
    return record[HEADER_BYTES:]


def is_tombstone(record: bytes) -> bool:
    """Say whether the record is a delete."""
    return record[FLAGS] >= TOMBSTONE


def describe(record: bytes) -> str:
    """Return a short human form that never shows the value."""
    kind = "tombstone" if is_tombstone(record) else _PAYLOAD_NAMES.get(record[FLAGS] & 0x0F, "unknown")
    if record[FLAGS] & COMPRESSION_MASK:
        kind = f"compressed {kind}"
    expiry = expiry_of(record)
    until = "never" if expiry == NEVER else f"{expiry} ms"
    return f"<record {kind} version={version_of(record):#x} expiry={until} payload={len(record) - HEADER_BYTES} B>"
