"""Locust users that put load on a cache and judge every answer.

Here lives what users ask for, and whether what they get is right. Never here: a cache's client (``adapters``), faults, reports.

    mixes     the user classes: which verbs, how often
    user      one operation: due, asked, judged, recorded
    workload  what all users of one process share
    keys  mixture  values   what is asked for: Zipf keys, sizes, times to live
    free_keys which of the keys a write may take
    ledger    what was written, and so what an answer may be
    evictions whether a value that is gone was evicted or lost
"""

from __future__ import annotations

__all__: list[str] = []
