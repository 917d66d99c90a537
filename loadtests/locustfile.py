"""The locustfile: users of a cache, for Locust.

Here lives what Locust looks for: user classes and listeners. Never here: what they do (``users``, ``run``). ::

    locust -f loadtests/locustfile.py --start-cluster --headless -u 50 -r 50 -t 30s --report report.html ReadWrite
"""

from __future__ import annotations

import sys
from pathlib import Path

# Locust puts the folder of this file on the path, where its own modules are found, but not the package's.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from locust import events

from loadtests.run.events import register
from loadtests.users.mixes import Batch, Counter, HttpUser, ReadMostly, ReadWrite, SessionStore, WriteHeavy
from loadtests.users.stampede import Stampede
from loadtests.users.trace_user import TraceUser

__all__ = [
    "Batch",
    "Counter",
    "HttpUser",
    "ReadMostly",
    "ReadWrite",
    "SessionStore",
    "Stampede",
    "TraceUser",
    "WriteHeavy",
]

register(events)
