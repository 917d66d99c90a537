"""Siege: what attackers, and what keeps them out, cost those who only want their values.

Here lives ``python -m loadtests.siege``. Never here: judging how fast a cache is (``loadtests.bench``).

A node in a process of its own is asked at a modest, steady rate by a bystander, alternately in peace and under an attack that
runs in a third process. What counts is the ratio of the bystander's p99s, and the node's memory for each connection. The
price of authentication and TLS is the ratio of the node's CPU seconds per request, with and without.
"""

__all__: list[str] = []
