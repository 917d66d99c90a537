"""The limits of a node's port, as one frozen table.

Here lives every bound on connections and time; bounds on messages are in ``kvcache_client.protocol.limits``.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["StreamLimits"]


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Bounds of the stream protocol; sizes in bytes, times in seconds."""

    value_limit: int = 1024 * 1024
    """Largest payload; a frame may hold ``FRAME_SLACK`` more."""
    connections: int = 10_000
    """Connections at once, HTTP included; more are closed at once."""
    connections_per_address: int = 4096
    """Of these, from one IPv4 address or one IPv6 /64."""
    accepts_at_once: int = 32
    """Connections taken before those that are open have their turn again."""
    accept_pause_seconds: float = 0.01
    """How long others have it before more connections are taken: with the row above, what a flood of connects may cost."""
    hello_seconds: float = 5.0
    """What the first byte and the HELLO may take."""
    refusal_seconds: float = 0.2
    """How long the answer to a wrong secret is kept back; a client must still hear it while it connects."""
    frame_seconds: float = 10.0
    """What one frame may take from its first byte to its last."""
    unread_seconds: float = 10.0
    """How long a client may leave its replies unread."""
    delayed_replies: int = 64
    """Requests of one connection that may wait for the coordinator or for other nodes."""
    delayed_replies_total: int = 4096
    """The same of all connections together."""
    partial_bytes_total: int = 256 * 1024 * 1024
    """Bytes of unfinished frames that all connections may hold together; who is over that is closed."""
    unread_bytes_total: int = 256 * 1024 * 1024
    """Bytes of replies that all connections may leave unread together; who is over that is closed."""
    queue_seconds: float = 0.05
    """How long requests may wait for the event loop before load is shed: half of a client's first attempt."""
    shed_after_seconds: float = 0.2
    """For how long they must have waited that long, without a break."""
    retry_after_seconds: float = 0.1
    """What ``Overloaded`` tells a client to wait."""
    output_bytes: int = 256 * 1024
    """Replies that are packed before they are handed to the socket, and what the socket may hold unread."""
