"""One run of Locust, from its options to its report.

Here lives what happens around the users: options, arrivals, shapes, recording, sampling the nodes, SLOs, the end. Never here:
what a user does (``users``), how a report looks (``report``).
"""

from __future__ import annotations

__all__: list[str] = []
