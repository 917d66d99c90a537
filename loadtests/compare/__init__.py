"""The same Locust users on three caches: ``python -m loadtests.compare``, or ``make compare``.

kvcache (three nodes, two copies), Redis Cluster (three nodes, redis-py) and memcached (three servers, pymemcache's HashClient),
all started by the run, all behind the same adapter contract, with the same keys, values and mix.

    systems       how each is started
    users         one process of Locust users, as the run drives it
    user_process  that process
    figures       medians, ratios, goals
    report        the page and the summary

How it is measured:

- Each cache has a Locust process of its own, started once, so that none pays for another's garbage. In each round they take
  turns, and another begins each round; the figure is the median of the rounds.
- A turn begins with a warm-up that is not counted (a fifth of its length). Users are closed: each waits for its answer. So on a
  busy machine p99 says as much of the rate as of the cache; the p99 of all caches is taken under the same number of users.
- Every answer is judged by what was written, whichever cache gave it. kvcache writes to two nodes before it says yes, the
  others to one: it has the copies, they have not.
- ``operations per CPU second`` is per second that the Locust process spent on a core, so neighbours on the machine do not count.
"""

from __future__ import annotations

__all__: list[str] = []
