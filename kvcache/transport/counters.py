"""What the port counts.

Here lives one object of plain counters that the stream connections share; metrics read it, nothing decides by it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

__all__ = ["StreamCounters"]


@dataclass(slots=True)
class StreamCounters:
    """Counters since the start. answered = requests - failed, failed includes faults."""

    accepted: int = 0
    """Connections of any kind."""
    refused: int = 0
    """Connections closed because as many as may be were open, or because their address guesses at secrets."""
    handshakes_failed: int = 0
    """Connections whose TLS handshake failed, or that were gone before their first byte."""
    foreign: int = 0
    """Connections closed because their first byte was neither a message nor HTTP."""
    malformed: int = 0
    """Connections closed for breaking the protocol."""
    overdue: int = 0
    """Connections closed because HELLO, a frame or the reading of replies took too long."""
    crowded: int = 0
    """Connections closed because all together held too much that was unfinished or unread."""
    requests: int = 0
    failed: int = 0
    """Requests answered with an error."""
    faults: int = 0
    """Requests that met a bug; each has a traceback in the log."""

    def as_dict(self) -> dict[str, int]:
        """Return them as plain data."""
        return asdict(self)
