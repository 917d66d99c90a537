"""Every bound of the protocol in one table, in bytes or counts unless the name says otherwise.

Both ends check against the same numbers, so that what a client may send is what a node accepts.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "CONTAINER_DEPTH",
    "EXTENSION_DEPTH",
    "FRAME_SLACK",
    "HELLO_BYTES",
    "KEYS_PER_BATCH",
    "KEYS_PER_FRAME",
    "KEY_BYTES",
    "LEASE_MS_MAX",
    "LEASE_MS_MIN",
    "NONCE_BYTES",
    "REPLY_BYTES",
    "SECRET_BYTES_MAX",
    "SECRET_BYTES_MIN",
    "SERIALIZER_NAME_BYTES",
    "TEXT_BYTES",
    "TTL_SECONDS",
    "VALUE_BYTES",
    "VALUE_BYTES_CAP",
]

KEY_BYTES: Final = 1024
"""Longest key; the shortest is one byte."""

VALUE_BYTES: Final = 1024 * 1024
"""Largest payload by default; a node may be configured up to ``VALUE_BYTES_CAP``."""

VALUE_BYTES_CAP: Final = 16 * 1024 * 1024
"""Largest payload that any node may be configured to take."""

EXTENSION_DEPTH: Final = 64
"""How deep tuples and sets may stand in each other; lists and dicts between them do not count."""

CONTAINER_DEPTH: Final = 256
"""How deep containers of any kind may stand in each other from a tuple or set on down, itself counted.

Packing needs stack for each: a thread with 1 MiB can pack whatever is taken. Lists and dicts that stand in no tuple or set are
held to what msgpack takes, 1024; to count these too would double what it costs to pack a flat one."""

KEYS_PER_FRAME: Final = 1024
"""Keys in one GET_MANY, PUT_MANY or RESTORE message; clients split larger batches."""

KEYS_PER_BATCH: Final = 100_000
"""Keys in one ``get_many`` / ``set_many`` / ``delete_many`` call, and in one ``POST /v1/batch``. So many take seconds."""

REPLY_BYTES: Final = 8 * 1024 * 1024
"""A node stops filling a GET_MANY reply here; the keys left over are marked ``ReplyFull`` and asked again."""

SERIALIZER_NAME_BYTES: Final = 64
"""Longest name of a serializer, in UTF-8."""

TEXT_BYTES: Final = 4096
"""Longest text field of a message, in UTF-8: names and what an error says. Who sends more than that cuts it."""

FRAME_SLACK: Final = KEYS_PER_FRAME * (KEY_BYTES + 8)
"""What a frame may hold beyond one largest payload: the longest keys of a full batch, or the smaller records before it."""

HELLO_BYTES: Final = 4096
"""The one frame that a connection may send before it has introduced itself."""

NONCE_BYTES: Final = 32
"""Bytes that either end throws into a handshake, and the least that a node takes; HMAC-SHA256 has as many."""

SECRET_BYTES_MIN: Final = 16
SECRET_BYTES_MAX: Final = 1024
"""Bytes of a secret. A shorter one could be guessed from a recorded handshake."""

LEASE_MS_MIN: Final = 10
LEASE_MS_MAX: Final = 3_600_000
"""For how long a lock may be taken at a time, in ms: up to an hour."""

TTL_SECONDS: Final = 10 * 365 * 24 * 3600
"""Longest time to live: ten years. Longer ones are mistakes (milliseconds passed as seconds)."""
