"""Marks: what stands before a value that was written under a fence, or brought back by a restore.

Here lives what a node asks of such a record before it keeps it. Never here: the layout of marks (``protocol.record``), or the
fences of commands (``fences``).
"""

from __future__ import annotations

from kvcache.service.fences import Fences
from kvcache_client.protocol.errors import InvalidRecord, StaleFence
from kvcache_client.protocol.record import HEADER_BYTES, MARK_BYTES, brought_over, fence_of

__all__ = ["check_mark"]


def check_mark(record: bytes, standing: bytes | None, horizon: bytes, fences: Fences) -> None:
    """Refuse a value under a lower fence than the one that stands: its writer has lost the lock.

    And one that claims to be restored over a flush at or after ``horizon`` (a version, 8 bytes): that is still to come, and
    no flush could hide the value again. What is restored is as old as it is: fences are not compared.
    """
    if len(record) < HEADER_BYTES + MARK_BYTES:
        raise InvalidRecord("a fenced or restored record has a number and the flags of its value")
    if brought_over(record) >= 0:
        if record[HEADER_BYTES : HEADER_BYTES + len(horizon)] >= horizon:
            raise InvalidRecord("the record claims to be restored over a flush of the future")
        return
    if standing is not None and fence_of(standing) > fence_of(record):
        fences.refused += 1
        stands = fence_of(standing)
        raise StaleFence(f"fence {fence_of(record)}: a holder with fence {stands} wrote already", detail=stands)
