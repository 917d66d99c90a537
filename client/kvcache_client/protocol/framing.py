"""Framing: bytes to messages and back, with every bound checked before memory is spent.

Here lives the only use of msgpack's streaming packer and unpacker. Never here: what a message means.

A message is a flat msgpack array, so msgpack finds its end by itself and there is no length prefix. Three bounds keep a
hostile peer cheap: the unpacker refuses any single element or array over its limit from the header alone, maps and
extension types are refused outright, and a frame that is still not complete after ``frame_limit`` bytes is refused
however it is sliced (nested arrays would otherwise be consumed, and grow, for as long as bytes arrive).
"""

from __future__ import annotations

from typing import Any, Final

import msgpack

from kvcache_client.protocol.errors import FrameTooLarge, KvCacheError, MalformedFrame
from kvcache_client.protocol.limits import FRAME_SLACK, KEYS_PER_FRAME, REPLY_BYTES, VALUE_BYTES_CAP
from kvcache_client.protocol.verbs import Message

__all__ = ["CLIENT_FRAME_LIMIT", "FrameReader", "is_stream_byte", "pack_message"]

CLIENT_FRAME_LIMIT: Final = REPLY_BYTES + VALUE_BYTES_CAP + FRAME_SLACK
"""Largest reply that a client takes: a GET_MANY reply filled to the brim by one last large value."""

_ELEMENTS: Final = 2 * KEYS_PER_FRAME + 8
"""Elements of the longest message: PUT_MANY with a key and a record each."""

# What msgpack raises on bytes that are not for us: its own tree is rooted in ValueError, plus its stack and buffer errors.
_DECODE_ERRORS: Final = (
    ValueError,
    TypeError,
    msgpack.exceptions.UnpackException,
    msgpack.exceptions.BufferFull,
    RecursionError,
)


def is_stream_byte(byte: int) -> bool:
    """Say whether a connection whose first byte is this speaks the stream protocol (a msgpack array of < 2^16)."""
    return 0x90 <= byte <= 0x9F or byte == 0xDC


def pack_message(*fields: Any) -> bytes:
    """Return one message as bytes; for handshakes, tests and generators (the hot path keeps its own packer)."""
    packed: bytes = msgpack.packb(fields)
    return packed


class FrameReader:
    """Turns what a socket delivers into messages.

    ``feed`` returns every complete message, also those in front of a broken one; what broke is then in ``broken`` and
    the connection must be closed, since there is no way back into step. ``limit`` may be lowered below ``frame_limit``
    for as long as the peer has not introduced itself.
    """

    __slots__ = ("_pending", "_unpacker", "broken", "limit")

    def __init__(self, frame_limit: int, *, first_limit: int | None = None) -> None:
        self.limit = frame_limit if first_limit is None else first_limit
        self._pending = 0
        self.broken: KvCacheError | None = None
        self._unpacker = msgpack.Unpacker(
            use_list=False,
            raw=False,
            max_array_len=_ELEMENTS,
            max_map_len=0,
            max_ext_len=0,
            max_str_len=min(frame_limit, 4096),
            max_bin_len=frame_limit,
            # The reads themselves are bounded by the transport; the pending count below is the real bound.
            max_buffer_size=2 * frame_limit + (1 << 20),
        )

    def feed(self, data: bytes) -> list[Message]:
        """Take bytes, return the messages that they complete."""
        messages: list[Message] = []
        try:
            self._unpacker.feed(data)
            messages.extend(self._unpacker)  # keeps what came before an error
        except _DECODE_ERRORS as error:
            self._break(error)
        # An upper bound of the bytes in the unfinished frame: whatever came with or after the last complete one.
        self._pending = len(data) if messages else self._pending + len(data)
        if self._pending > self.limit and not messages and self.broken is None:
            self.broken = FrameTooLarge(f"a frame of over {self.limit} bytes", detail=self.limit)
        return messages

    def _break(self, error: Exception) -> None:
        text = str(error) or type(error).__name__
        foreign = "max_map_len" in text or "max_ext_len" in text  # types that no message has, at any size
        too_large = ("exceeds" in text and not foreign) or isinstance(error, msgpack.exceptions.BufferFull)
        self.broken = (
            FrameTooLarge(f"refused from its header: {text}", detail=self.limit)
            if too_large
            else MalformedFrame(f"not a message: {text}")
        )
        self.broken.__cause__ = error

    def __repr__(self) -> str:
        return f"<FrameReader limit={self.limit} pending<={self._pending} broken={self.broken!r}>"
