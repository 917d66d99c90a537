"""The user classes: which verbs, how often.

Here lives one class for each kind of work. Never here: what a verb does (``user``). Shares of the mixes are YCSB's where it has
one (Cooper et al., "Benchmarking cloud serving systems with YCSB", SoCC 2010).
"""

from __future__ import annotations

from typing import ClassVar

from loadtests.users.user import CacheUser

__all__ = ["Batch", "Counter", "HttpUser", "ReadMostly", "ReadWrite", "SessionStore", "WriteHeavy"]


class ReadMostly(CacheUser):
    """95 % get, 5 % set: most caches (YCSB B)."""

    mix: ClassVar = {"get": 0.95, "set": 0.05}


class ReadWrite(CacheUser):
    """70 % get, 30 % set."""

    mix: ClassVar = {"get": 0.70, "set": 0.30}


class WriteHeavy(CacheUser):
    """20 % get, 70 % set, 10 % delete."""

    mix: ClassVar = {"get": 0.20, "set": 0.70, "delete": 0.10}


class SessionStore(CacheUser):
    """Sessions: read at each request, kept alive by touch, written now and then, ended by delete."""

    mix: ClassVar = {"get": 0.60, "touch": 0.25, "set": 0.12, "delete": 0.03}


class Counter(CacheUser):
    """Adds one to a counter, again and again."""

    mix: ClassVar = {"incr": 1.0}


class Batch(CacheUser):
    """80 % get_many, 20 % set_many, of --batch keys."""

    mix: ClassVar = {"get_many": 0.8, "set_many": 0.2}


class HttpUser(CacheUser):
    """70 % GET, 25 % PUT, 5 % DELETE on the HTTP API."""

    mix: ClassVar = {"get": 0.70, "set": 0.25, "delete": 0.05}
    by = "kvcache-http"
