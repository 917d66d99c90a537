"""Stream: one connection of the fast protocol.

Here lives bytes in, replies out, and every reason to close. Never here: what a verb does (``service``), or which protocol a
connection speaks (``listener``).

Replies leave in one write for every sixteen requests of a read. One write for all would have peer and node wait for each
other in turn; so the peer works on the first replies while the node makes the next (half as many gets again per second at 50
tasks; with fewer to a write, system calls eat the gain). If the peer does not take them, the messages that are still
unanswered wait here and nothing more is read: a connection holds one read's worth of requests and a bounded output, never more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final, cast

import msgpack

from kvcache.events import journal
from kvcache.service.checks import shown
from kvcache.service.later import Fields, Held, Later
from kvcache.transport.handshake import Handshake
from kvcache.transport.reply_buffer import ReplyBuffer
from kvcache.transport.stream_port import StreamPort
from kvcache.transport.watch import SAMPLED
from kvcache_client.protocol.errors import (
    Forbidden,
    HelloRequired,
    KvCacheError,
    MalformedFrame,
    NodeFault,
    NotReady,
    Overloaded,
    UnknownVerb,
)
from kvcache_client.protocol.framing import FrameReader
from kvcache_client.protocol.limits import FRAME_SLACK, HELLO_BYTES, TEXT_BYTES
from kvcache_client.protocol.verbs import PUSH_ID, Message, Push, Role, Verb

__all__ = ["StreamConnection"]

_TEXT: Final = TEXT_BYTES // 4
"""Characters of an error's text that surely fit its bytes in UTF-8."""

_SLICE: Final = 16
"""Messages whose replies leave together. A rest of less than half as many goes with the last of them, so 23 large values are
the most by which the output can be over its limit."""

_SILENCE_SECONDS: Final = 0.05
"""After what silence a peer is taken to send nothing more."""


class StreamConnection(asyncio.Protocol):
    """A peer that speaks the stream protocol. Nothing but HELLO is answered before HELLO."""

    def __init__(self, port: StreamPort, on_close: Callable[[StreamConnection], None], network: str = "?") -> None:
        self._port = port
        self._service = port.service
        self._limits = limits = port.limits
        self._counters = port.counters
        self._watch = port.watch
        self._overload = port.overload
        self._awake = port.awake
        self._now = port.now
        self._on_close = on_close
        self._frame_limit = limits.value_limit + FRAME_SLACK
        self._reader = FrameReader(self._frame_limit, first_limit=HELLO_BYTES)
        self._replies = ReplyBuffer(limits.output_bytes)
        self._transport: asyncio.Transport | None = None
        handshake = Handshake(port.service, port.guard, network, limits.refusal_seconds, self._admit)
        self._handlers = handshake.handlers
        self._introduced = False
        self._may_run = False
        self._quiet = False
        self._sheddable = True
        self._held: list[Message] = []
        self._delayed = 0
        self._closed = False
        self._finished_at = 0.0
        self._unread_since = 0.0
        self._unread_bytes = 0
        self._unread_held = 0
        self._partial_since = 0.0
        self._partial_bytes = 0
        self._since = port.now()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport, from the loop or from the listener."""
        self._transport = full = cast(asyncio.Transport, transport)
        full.set_write_buffer_limits(high=self._limits.output_bytes)

    def data_received(self, data: bytes) -> None:
        """Answer every complete message; after ``finish`` none."""
        if self._finished_at:
            self._finished_at = self._now()
            return
        self._quiet = False
        messages = self._reader.feed(data)
        if messages:
            if self._partial_since:
                self._whole_again()
            if self._held:
                self._held += messages
            else:
                self._answer(messages)
        else:
            self._still_partial(len(data))
        if self._reader.broken is not None and not self._held and not self._closed:
            self._break_off(self._reader.broken)

    def _still_partial(self, size: int) -> None:
        """Hold bytes of a frame that is not complete, unless all connections together hold too many."""
        self._partial_since = self._partial_since or self._now()
        self._partial_bytes += size
        holding = self._port.holding
        holding.partial += size
        if holding.partial > self._limits.partial_bytes_total and self._reader.broken is None:
            self._counters.crowded += 1
            self._replies.pack((PUSH_ID, Overloaded.code, "too much of unfinished frames is held already", None))
            self.close()

    def _whole_again(self) -> None:
        self._port.holding.partial -= self._partial_bytes
        self._partial_since, self._partial_bytes = 0.0, 0

    def _answer(self, messages: list[Message]) -> None:
        self._service.tick()
        if self._overload.active and self._shed(messages):
            return
        answered = 0
        while len(messages) - answered >= _SLICE + _SLICE // 2:
            self._execute(messages[answered : answered + _SLICE])
            self._send()
            answered += _SLICE
            if self._closed or self._transport is None:
                return
            if self._unread_since:
                self._held = messages[answered:]
                return
            if self._overload.active and self._shed(messages[answered:]):
                return
        self._execute(messages[answered:] if answered else messages)
        self._send()
        if not self._awake.turning:
            self._awake.replied()

    def _shed(self, messages: list[Message]) -> bool:
        """Answer all of them in the same way, at a fraction of the cost, if they have waited too long; says whether."""
        refusal = self._overload.refuses(len(messages)) if self._sheddable else None
        if refusal is None:
            return False
        self._counters.requests += len(messages)
        for message in messages:
            if self._refuse(message, refusal):
                return True
        self._send()
        return True

    def _execute(self, messages: list[Message]) -> None:
        self._counters.requests = requests = self._counters.requests + len(messages)
        started = 0.0 if requests % SAMPLED else self._watch.clock()
        runs = self._service.runs if self._may_run else None
        at = 0
        while at < len(messages):
            if runs is not None and (after := runs.answer(messages, at, self._replies.add)) != at:
                at = after
                continue
            message = messages[at]
            at += 1
            try:
                self._replies.pack(self._handlers[message[1] if message[1].__class__ is int else -1](message))
            except Later as later:
                self._reply_later(message, later)
            except Held as held:
                held.take(self, partial(self._reply_held, message))
            except Exception as error:  # noqa: BLE001  # the edge: every failure becomes a reply
                if self._refuse(message, error):
                    self._counters.requests -= len(messages) - at
                    return
        if started:
            self._watch.sampled(messages, self._watch.clock() - started)

    def _reply_later(self, message: Message, later: Later) -> None:
        """Send the reply when it comes; what follows on this connection does not wait for it."""
        limits, holding = self._limits, self._port.holding
        if self._delayed >= limits.delayed_replies or holding.delayed >= limits.delayed_replies_total:
            asyncio.ensure_future(later.work).cancel()
            whose = "of this connection" if self._delayed >= limits.delayed_replies else "of all connections"
            self._refuse(message, Overloaded(f"as many requests {whose} wait for others as may: {self._delayed}"))
            return
        self._delayed += 1
        holding.delayed += 1
        asyncio.ensure_future(later.work).add_done_callback(
            partial(self._reply_now, message, later, self._watch.clock())
        )

    def _reply_now(self, message: Message, later: Later, since: float, work: asyncio.Future[Any]) -> None:
        self._delayed -= 1
        self._port.holding.delayed -= 1
        self._watch.replied(message[1], self._watch.clock() - since)
        if self._transport is None or self._closed:
            if not work.cancelled():
                work.exception()  # nobody is left to be told
            return
        if work.cancelled():
            self._refuse(message, NotReady("the node is stopping"))
        elif (error := work.exception()) is None:
            self._replies.pack((message[0], *later.fields(work.result())))
        elif isinstance(error, Exception):
            self._refuse(message, error)
        self._send()
        self._end_output()

    def _reply_held(self, message: Message, reply: Fields | KvCacheError) -> None:
        """Send a reply that something outside of this connection has decided on."""
        if self._transport is None or self._closed:
            return
        if isinstance(reply, KvCacheError):
            self._refuse(message, reply)
        else:
            self._replies.pack((message[0], *reply))
        self._send()

    def _admit(self, role: int) -> None:
        self._handlers = self._service.handlers_of(role)
        self._sheddable = role == Role.CLIENT  # what keeps the cluster whole is not what must wait
        self._introduced = True
        self._may_run = {Verb.GET, Verb.PUT} <= self._handlers.keys()
        self._reader.limit = self._frame_limit

    def _refuse(self, message: Any, error: Exception) -> bool:
        """Answer a message that failed; returns whether that was the last one of this connection."""
        whole = isinstance(message, tuple) and len(message) > 1
        if not (whole and isinstance(message[0], int) and message[1].__class__ is int):
            error = MalformedFrame(f"a message is an array of id, verb and fields, not {shown(message)}")
        elif not isinstance(error, KvCacheError):
            error = self._explain(message, error)
        self._counters.failed += 1
        number = message[0] if isinstance(message, tuple) and message and isinstance(message[0], int) else PUSH_ID
        detail = error.detail if isinstance(error.detail, int | bytes) else None
        self._replies.pack((number, error.code or NodeFault.code, str(error)[:_TEXT], detail))
        if error.closes_connection:
            self._counters.malformed += isinstance(error, MalformedFrame)
            self.close()
        return error.closes_connection

    def _explain(self, message: Message, error: Exception) -> KvCacheError:
        """Say what a failure that is no error of ours means: an unknown verb, a wrong number of fields, or a bug."""
        verb = message[1]
        if not self._introduced and verb not in self._handlers:
            return HelloRequired("the first message of a connection must be HELLO, then AUTH if the node asks for it")
        if verb in self._service.handlers and verb not in self._handlers:
            return Forbidden(f"{Verb(verb).name} is not for the role of this connection")
        if verb not in self._service.handlers:
            return UnknownVerb(f"verb {verb!r:.40} is not known here")
        if isinstance(error, ValueError) and "unpack" in str(error):
            return MalformedFrame(f"{Verb(verb).name} with {len(message) - 2} fields")
        self._counters.faults += 1
        journal.say("request_bug", verb=Verb(verb).name, error_info=error)
        return NodeFault(f"the node failed in {Verb(verb).name}: {type(error).__name__}")

    def _send(self) -> None:
        if self._transport is None or self._closed:
            return
        replies = self._replies.take()
        if replies:  # nothing may be written after an end, not even nothing
            self._transport.write(replies)

    def push_epoch(self, epoch: int) -> None:
        """Tell the peer that there is a newer topology."""
        if self._introduced and self._transport is not None and not self._closed and not self._finished_at:
            self._transport.write(msgpack.packb((PUSH_ID, int(Push.EPOCH), epoch)))

    def pause_writing(self) -> None:
        """The peer does not read its replies: take no more requests from it."""
        self._unread_since = self._now()
        if self._transport is None:
            return
        self._unread_bytes = self._unread_held = self._transport.get_write_buffer_size()
        holding = self._port.holding
        holding.unread += self._unread_held
        self._transport.pause_reading()
        if holding.unread > self._limits.unread_bytes_total:
            self._counters.crowded += 1
            self.abort()

    def resume_writing(self) -> None:
        """The peer has caught up: answer what was held back, then read on."""
        self._forget_unread()
        held, self._held = self._held, []
        if held:
            self._answer(held)
        if self._unread_since or self._closed or self._transport is None:
            return
        if self._reader.broken is not None:
            self._break_off(self._reader.broken)
        else:
            self._transport.resume_reading()
            self._end_output()

    def _forget_unread(self) -> None:
        self._port.holding.unread -= self._unread_held
        self._unread_since, self._unread_held = 0.0, 0

    def overdue(self, now: float) -> str | None:
        """Return why this connection must be closed by now, if it must. One that has been quiet since the last time rests."""
        limits = self._limits
        if self._transport is None:
            return None
        if self._quiet:
            self._reader.rest()
        self._quiet = True
        if not self._introduced and now - self._since > limits.hello_seconds:
            return f"no HELLO within {limits.hello_seconds:g} s"
        if self._partial_since and now - self._partial_since > limits.frame_seconds:
            return f"a frame took over {limits.frame_seconds:g} s"
        if self._unread_since and self._transport is not None:
            unread = self._transport.get_write_buffer_size()
            if unread < self._unread_bytes:  # slow, but reading
                self._unread_bytes, self._unread_since = unread, now
            elif now - self._unread_since > limits.unread_seconds:
                return f"replies unread for over {limits.unread_seconds:g} s"
        return None

    def _break_off(self, error: KvCacheError) -> None:
        """Say why, and close: after a broken frame there is no way back into step."""
        self._counters.malformed += 1
        self._replies.pack((PUSH_ID, error.code, str(error), None))
        self.close()

    def finish(self) -> None:
        """Take no more requests, answer those that were read, and say that nothing more will come.

        Closing at once would lose replies that are still on their way if the peer sends one request more (the system
        answers what nobody reads with a reset); so its requests are read, and dropped, until it has seen the end.
        """
        self._finished_at = self._now()
        self._end_output()

    def _end_output(self) -> None:
        """Say that nothing more will come, if so: once finished, all is taken and what takes its time is there."""
        transport, waiting = self._transport, self._unread_since or self._delayed
        if not self._finished_at or transport is None or self._closed or waiting:
            return
        self._finished_at, self._closed = self._now(), True
        if transport.can_write_eof():  # TLS can't say so; there the close alone does
            try:
                transport.write_eof()
            except (OSError, RuntimeError):  # so say asyncio and uvloop that it is gone, before we were told
                transport.abort()

    def settled(self, now: float) -> bool:
        """Say whether a finished connection may be closed: all is sent, and the peer has been silent since."""
        waiting = self._unread_since or self._delayed or (self._transport and self._transport.get_write_buffer_size())
        return not waiting and now - self._finished_at > _SILENCE_SECONDS

    def close(self) -> None:
        """Send what is packed and close."""
        if self._transport is not None:
            self._send()
            self._closed = True
            self._held = []
            self._transport.close()

    def abort(self) -> None:
        """Close without sending what the peer does not read anyway."""
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget everything."""
        self._transport = None
        self._whole_again()
        self._forget_unread()
        self._held = []
        self._service.leases.lost(self)
        self._on_close(self)

    def __repr__(self) -> str:
        peer = self._transport.get_extra_info("peername") if self._transport else "gone"
        return f"<StreamConnection {peer} introduced={self._introduced} held={len(self._held)}>"
