"""Faults on schedule: a cluster of our own that is broken in the middle of a run.

Here lives the cluster that can be broken, the schedule, and the process that keeps both apart from Locust. Never here: load.

    schedule  faults.toml: what, when, to whom
    cluster   what can be done to a cluster
    plays     one fault after the other, done and undone
    host      the process that owns the cluster, and the pipe to it
"""

from __future__ import annotations

__all__: list[str] = []
