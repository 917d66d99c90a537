"""Load tests: real traces and side-by-side measurements against real processes.

Here lives what puts load on a cluster from outside, through the same clients that a program uses, and what
starts the servers it needs. Never here: anything that the product imports, and anything that decides whether
a test passes by time alone (speed is reported as ratios, by ``python -m loadtests.bench``).

    python -m loadtests.replay --start-cluster      a real cache trace through the real client
    python -m loadtests.siege                       what attackers and what keeps them out cost the others
    python -m loadtests.stampede                    200 callers in 4 processes want one missing key
    python -m loadtests.counting                    10^6 incr from 8 clients while the primary is killed
    python -m loadtests.bench                       kvcache beside redis-py, pymemcache, aiomcache and emcache
    python -m loadtests.compare                     the same Locust users on kvcache, Redis Cluster and memcached
    python -m loadtests.curves                      speed and hit ratio against one thing at a time
"""

from __future__ import annotations

__all__ = ["CannotRun"]


class CannotRun(Exception):
    """A load test cannot run here; the message is one line that says what is missing and what to do."""
