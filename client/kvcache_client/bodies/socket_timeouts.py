"""How long a blocking socket waits.

Here lives the choice between the kernel's own timeouts and Python's. Never here: how long is too long.

``socket.settimeout`` makes every send and receive two system calls, a poll and the call itself. With SO_RCVTIMEO the kernel
ends the wait (Linux, macOS) and one call is left: half the system calls of a get. A socket that is not the standard
library's own, such as gevent's, never waits in the kernel and keeps Python's timeouts.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Callable
from typing import Final

__all__ = ["WAITED_TOO_LONG", "timeout_setter", "waits_in_kernel"]

WAITED_TOO_LONG: Final = (TimeoutError, BlockingIOError)
"""What a send or a receive raises when its time is over; the second is how the kernel's timeouts look."""

_KERNEL: Final = sys.platform.startswith(("linux", "darwin"))


def waits_in_kernel(sock: socket.socket) -> bool:
    """Say whether a receive on ``sock`` blocks this thread in the kernel, and nothing else: neither gevent's nor TLS."""
    return _KERNEL and type(sock).__module__ == "socket"


def timeout_setter(sock: socket.socket) -> Callable[[float], None]:
    """Return the function that sets how long (seconds) one send or receive on ``sock`` may wait."""
    if not waits_in_kernel(sock):
        return sock.settimeout
    sock.settimeout(None)

    def set_kernel_timeout(seconds: float) -> None:
        whole = int(seconds)
        # Never zero: to the kernel that means "for ever".
        interval = struct.pack("ll", whole, max(int((seconds - whole) * 1_000_000), 1 if whole == 0 else 0))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, interval)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, interval)

    return set_kernel_timeout
