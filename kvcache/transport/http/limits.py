"""What an HTTP connection may cost, and the counters that say what it did.

Here live numbers only. Never here: what happens at a limit (``deadlines``, ``body``, ``front_door``).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Final

from kvcache_client.protocol.errors import InvalidOption
from kvcache_client.protocol.limits import KEYS_PER_BATCH, VALUE_BYTES, VALUE_BYTES_CAP

__all__ = ["HEADER_COUNT", "LINE_BYTES", "HttpCounters", "HttpLimits"]

LINE_BYTES: Final = 8190
"""Longest request line or header field: a key of 1024 bytes, every one percent-encoded, needs 3 KiB."""

HEADER_COUNT: Final = 64
"""Most header fields in one request."""


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Bounds of the HTTP front door; sizes in bytes, times in seconds."""

    value_limit: int = VALUE_BYTES
    """Largest value of one key."""
    batch_bytes: int = VALUE_BYTES_CAP
    """Largest body of a batch; the reply to one is not filled any further once it holds this much."""
    batch_keys: int = KEYS_PER_BATCH
    """Most keys in one batch, its gets, sets and deletes together."""
    buffered_bytes: int = 64 * 1024 * 1024
    """Request bodies on their way in, all connections together; beyond it requests are shed."""
    requests_in_flight: int = 1024
    """Requests being served at one time; beyond it they are shed, health checks and metrics excepted."""
    refusal_seconds: float = 0.2
    """How long the answer to a wrong token is kept back."""
    head_seconds: float = 10.0
    """From the first byte of a request to the end of its header."""
    body_seconds: float = 10.0
    """From the end of the header to the end of the body."""
    reply_seconds: float = 10.0
    """How long a client may leave a reply in the socket without taking a byte of it."""
    keepalive_seconds: float = 75.0
    """How long a connection may stay without a request; the longest that anything unfinished can hang on."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not value > 0:
                raise InvalidOption(f"{name}={value!r}: must be over 0")
        if self.value_limit > VALUE_BYTES_CAP:
            raise InvalidOption(f"value_limit={self.value_limit!r}: must be at most {VALUE_BYTES_CAP} bytes")


def _by_class() -> dict[str, int]:
    return {"2xx": 0, "3xx": 0, "4xx": 0, "5xx": 0}


@dataclass(slots=True)
class HttpCounters:
    """What the front door has seen.

    The sum of ``responses`` = requests - in_flight - cut_off + malformed + late_heads.
    """

    connections: int = 0
    """Open now."""
    accepted: int = 0
    """Connections ever opened."""
    requests: int = 0
    """Requests with a whole, well-formed header."""
    in_flight: int = 0
    """Requests being served now."""
    buffered_bytes: int = 0
    """Bytes of unfinished request bodies held now."""
    responses: dict[str, int] = field(default_factory=_by_class)
    """Answers by class of status."""
    malformed: int = 0
    """Bytes that aiohttp's parser refused; each got a 4xx and its connection was closed."""
    shed: int = 0
    """Requests refused because too many were in flight or too many bytes were on their way in."""
    late_heads: int = 0
    """Connections closed because a header was not complete in time."""
    late_bodies: int = 0
    """Requests given up because their body was not complete in time."""
    late_readers: int = 0
    """Connections closed because the client did not take its reply."""
    cut_off: int = 0
    """Requests that had no answer yet when a stop ran out of patience."""
    faults: int = 0
    """Requests that failed in a way nobody foresaw; each has its traceback in the log."""

    def answered(self, status: int) -> None:
        """Count one answer."""
        self.responses[f"{status // 100}xx"] += 1

    def as_dict(self) -> dict[str, Any]:
        """Return the counters as plain data."""
        return asdict(self)
