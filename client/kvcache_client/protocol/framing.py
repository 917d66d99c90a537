"""Framing: bytes to messages and back, with every bound checked before memory is spent.

Here lives the only use of msgpack's streaming unpacker. Never here: what a message means.

A message is a flat msgpack array, so msgpack finds its end by itself and there is no length prefix. Hostile
bytes stay cheap: an array over its limit is refused from its header alone, maps and extension types are
refused outright, and a frame that is not complete after ``limit`` bytes is refused however it is sliced (a
bin that claims 4 GiB, text without an end, nested arrays that would be consumed, and grow, for as long as
bytes arrive).

A stranger, who has not said HELLO yet, gets less still: frames are measured exactly, and nothing half-built
is kept between reads. Half-built arrays are how 3 KiB could otherwise hold 16 MiB: every level of nesting may
claim room for the longest message.
"""

from __future__ import annotations

from itertools import islice
from typing import Any, Final

import msgpack

from kvcache_client.protocol.errors import FrameTooLarge, KvCacheError, MalformedFrame
from kvcache_client.protocol.limits import (
    FRAME_SLACK,
    KEYS_PER_FRAME,
    REPLY_BYTES,
    TEXT_BYTES,
    VALUE_BYTES_CAP,
)
from kvcache_client.protocol.verbs import Message

__all__ = ["CLIENT_FRAME_LIMIT", "FrameReader", "is_stream_byte", "pack_message"]

CLIENT_FRAME_LIMIT: Final = REPLY_BYTES + VALUE_BYTES_CAP + FRAME_SLACK
"""Largest reply that a client takes: a GET_MANY reply filled to the brim by one last large value."""

_ELEMENTS: Final = 2 * KEYS_PER_FRAME + 8
"""Elements of the longest message: PUT_MANY with a key and a record each."""

_FIRST_ELEMENTS: Final = 16
"""Elements of the longest message before and with HELLO, which has seven."""

_BUFFER_BYTES: Final = 16 * 1024
"""Where the unpacker's buffer starts. Its own default, 1 MiB, is resident after 1 MiB of traffic."""

# What msgpack raises on bytes that are not for us: ValueErrors, and what its stack and buffer add.
_DECODE_ERRORS: Final = (
    ValueError,
    TypeError,
    msgpack.exceptions.UnpackException,
    msgpack.exceptions.BufferFull,
    RecursionError,
)


def is_stream_byte(byte: int) -> bool:
    """Say whether a connection that begins so speaks the stream protocol: a msgpack array of < 2^16."""
    return 0x90 <= byte <= 0x9F or byte == 0xDC


def pack_message(*fields: Any) -> bytes:
    """Return one message as bytes; for handshakes, tests and generators (the hot path has its own packer)."""
    packed: bytes = msgpack.packb(fields)
    return packed


class FrameReader:
    """Turns what a socket delivers into messages.

    ``feed`` returns every complete message, also those in front of a broken one; what broke is then in
    ``broken`` and the connection must be closed, since there is no way back into step: nothing more is read.

    ``first_limit`` is the limit of one frame for as long as the peer has not introduced itself; setting
    ``limit`` ends that. From then on a frame may exceed its limit by the size of one read, in which it began
    unmeasured.
    """

    __slots__ = ("_fed", "_first", "_frame_limit", "_limit", "_pending", "_resting", "_unpacker", "_whole", "broken")

    def __init__(self, frame_limit: int, *, first_limit: int | None = None) -> None:
        self.broken: KvCacheError | None = None
        self._frame_limit = frame_limit
        self._first = b""
        self._pending = 0
        self._fed = 0
        self._whole = True
        """Whether no frame is under way, as far as that is known."""
        self._resting = False
        # None while the peer is a stranger, while it rests, and again when it broke the rules.
        self._unpacker = _unpacker(frame_limit, _ELEMENTS) if first_limit is None else None
        self._limit = frame_limit if first_limit is None else first_limit

    @property
    def limit(self) -> int:
        """Bytes that one frame may have at present."""
        return self._limit

    @limit.setter
    def limit(self, limit: int) -> None:
        self._limit = limit
        if self._unpacker is None and self.broken is None:
            if not self._first:
                self._resting = True
                return
            self._wake().feed(self._first)  # the beginning of a frame; the next read brings more of it
            self._pending = self._fed = len(self._first)
            self._first, self._whole = b"", False

    def feed(self, data: bytes) -> list[Message]:
        """Take bytes, return the messages that they complete.

        After the introduction a complete msgpack value that is no array comes out as well, for a look at each
        would cost more than it is worth: whoever takes ``message[0]`` and ``message[1]`` must treat a failure
        to do so as a malformed frame.
        """
        unpacker = self._unpacker
        if unpacker is None:
            if not self._resting:
                return self._feed_first(data)
            unpacker = self._wake()
        messages: list[Message] = []
        try:
            unpacker.feed(data)
            self._fed += len(data)
            for message in unpacker:
                messages.append(message)
                break
            # To learn from the unpacker that it has no more costs 0.7 us, three times as much as to unpack a get.
            if messages:
                left = self._fed - unpacker.tell()
                self._whole = not left or self._take_more(unpacker, messages, left, len(data) - left)
            else:
                self._whole = False
        except _DECODE_ERRORS as error:
            self._break(_decode_error(error, self._limit), error)
        # A lower bound of the bytes in the unfinished frame. An upper bound would count complete messages that
        # came in the same read, and refuse a frame of a legal size behind them.
        self._pending = 0 if messages else self._pending + len(data)
        if self._pending > self._limit and self.broken is None:
            self._break(_too_large(self._limit))
        return messages

    def _take_more(self, unpacker: msgpack.Unpacker, messages: list[Message], left: int, taken: int) -> bool:
        """Take what follows the first message of a read; returns whether the read is known to end where a message ends.

        After an attempt that found half a message nobody can tell any more: the unpacker has swallowed it. So as many as there
        surely are, if they are like the first, are taken in one go, and the last ones singly, each time looking first
        whether a byte is left. An error leaves in ``messages`` what came before it.
        """
        sure = left // max(taken, 1) - 1
        if sure > 0:
            expected = len(messages) + sure
            messages.extend(islice(unpacker, sure))
            if len(messages) < expected:
                return False
        while unpacker.tell() < self._fed:
            before = len(messages)
            for message in unpacker:
                messages.append(message)
                break
            if len(messages) == before:
                return False
        return True

    def rest(self) -> None:
        """Let go of the unpacker, 40 KiB, unless a frame is under way; the next read gets another."""
        if self._whole and self._unpacker is not None:
            self._unpacker, self._resting = None, True

    def _wake(self) -> msgpack.Unpacker:
        self._unpacker, self._resting = _unpacker(self._frame_limit, _ELEMENTS), False
        self._fed = 0
        return self._unpacker

    def _feed_first(self, data: bytes) -> list[Message]:
        """Take bytes of a stranger: few, so each read may start afresh at the beginning of the frame."""
        messages: list[Message] = []
        if self.broken is not None:
            return messages
        arrived = self._first + data
        taken = 0
        unpacker = _unpacker(max(self._limit, len(arrived)), _FIRST_ELEMENTS)
        try:
            unpacker.feed(arrived)
            for message in unpacker:
                if not isinstance(message, tuple):
                    raise ValueError("no array")  # noqa: TRY004 - joins what msgpack refuses
                if unpacker.tell() - taken > self._limit:
                    break
                messages.append(message)
                taken = unpacker.tell()
        except _DECODE_ERRORS as error:
            self._break(_decode_error(error, self._limit), error)
        if self.broken is None:
            self._first = arrived[taken:]
            if len(self._first) > self._limit:
                self._break(_too_large(self._limit))
        return messages

    def _break(self, broken: KvCacheError, cause: Exception | None = None) -> None:
        # Without its traceback: that would keep the unpacker, and all that is half built in it, alive.
        broken.__cause__ = cause and cause.with_traceback(None)
        self.broken = broken
        self._unpacker = None
        self._resting = False
        self._first = b""

    def __repr__(self) -> str:
        pending = self._pending + len(self._first)
        return f"<FrameReader limit={self._limit} pending>={pending} broken={self.broken!r}>"


def _unpacker(frame_limit: int, elements: int) -> msgpack.Unpacker:
    return msgpack.Unpacker(
        read_size=min(_BUFFER_BYTES, frame_limit),
        use_list=False,
        raw=False,
        object_hook=_refuse_map,
        ext_hook=_refuse_extension,
        max_array_len=elements,
        max_map_len=0,
        max_ext_len=0,
        max_str_len=TEXT_BYTES,
        max_bin_len=frame_limit,
        # The reads themselves are bounded by the transport; the count of pending bytes is the real bound.
        max_buffer_size=2 * frame_limit + (1 << 20),
    )


def _refuse_map(_: object) -> object:
    """Refuse what ``max_map_len`` lets through: the empty map."""
    raise ValueError("a map")


def _refuse_extension(kind: int, _: bytes) -> object:
    """Refuse what ``max_ext_len`` lets through: an extension without data."""
    raise ValueError(f"extension type {kind}")


def _too_large(limit: int) -> FrameTooLarge:
    return FrameTooLarge(f"a frame of over {limit} bytes", detail=limit)


def _decode_error(error: Exception, limit: int) -> KvCacheError:
    text = str(error) or type(error).__name__
    foreign = "max_map_len" in text or "max_ext_len" in text  # types that no message has, at any size
    if ("exceeds" in text and not foreign) or isinstance(error, msgpack.exceptions.BufferFull):
        return FrameTooLarge(f"refused: {text}", detail=limit)
    return MalformedFrame(f"not a message: {text}")
