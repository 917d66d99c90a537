"""The messages between a master and its workers, beside Locust's own.

Here live their names. Never here: sending or hearing them (``worker``, ``workers``).
"""

from __future__ import annotations

from typing import Final

__all__ = ["BEGUN", "CONCLUDE", "CONCLUDED", "REPORT_KEY"]

CONCLUDE: Final = "kvcache_conclude"
"""To workers: hold your users and look for what they wrote."""

BEGUN: Final = "kvcache_begun"
"""To the master: all keys are written, the users begin."""

CONCLUDED: Final = "kvcache_concluded"
"""To the master: the last part of the record."""

REPORT_KEY: Final = "kvcache"
"""Under which a worker's report to its master carries its record."""
