"""The locustfile: users of a cache, for Locust.

Here lives what Locust looks for: user classes and listeners. Never here: what they do (``users``, ``run``). ::

    locust -f loadtests/locustfile.py --start-cluster --headless -u 50 -r 50 -t 30s ReadWrite
"""

from __future__ import annotations

from loadtests.users.mixes import Batch, Counter, ReadMostly, ReadWrite, SessionStore, WriteHeavy

__all__ = ["Batch", "Counter", "ReadMostly", "ReadWrite", "SessionStore", "WriteHeavy"]
