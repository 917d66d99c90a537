"""Reply buffer: the replies of one connection that have not been written yet, in order.

Here lives packing, and how much memory is kept for it. Never here: when replies leave (``stream``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgpack

__all__ = ["ReplyBuffer"]

_PACKER_BYTES: Final = 1024
"""Where a packer's buffer starts; its own default is 256 KiB, for each of ten thousand connections."""


class ReplyBuffer:
    """Replies that come as tuples, to ``pack``, or packed already, to ``add``. One that was over ``limit`` bytes starts anew."""

    __slots__ = ("_limit", "_packed", "_packer", "pack")

    pack: Callable[[Any], object]
    """Adds one reply; the packer's own method, for it is called for each."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._packed: list[bytes] = []
        self._renew()

    def _renew(self) -> None:
        self._packer = msgpack.Packer(autoreset=False, buf_size=_PACKER_BYTES)
        self.pack = self._packer.pack

    def add(self, replies: bytes) -> None:
        """Add replies that are packed already."""
        before = self._packer.bytes()
        if before:
            self._packed.append(before)
            self._packer.reset()
        self._packed.append(replies)

    def take(self) -> bytes:
        """Return all replies, and begin anew."""
        replies: bytes = self._packer.bytes()
        if len(replies) > self._limit:
            self._renew()  # a packer never gives back what it has grown to
        else:
            self._packer.reset()
        if self._packed:
            self._packed.append(replies)
            replies = b"".join(self._packed)
            self._packed.clear()
        return replies

    def __repr__(self) -> str:
        size = len(self._packer.bytes()) + sum(map(len, self._packed))
        return f"<ReplyBuffer {size} B>"
