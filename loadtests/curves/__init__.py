"""Curves: how a figure changes with one thing at a time: ``python -m loadtests.curves``, or ``make curves``.

Throughput and p99 of a kvcache cluster against its nodes, value size, tasks, copies and keys; hit ratio against memory on real
traces, for kvcache, Redis and memcached. One HTML page, CSV and JSON.

    budgets     how many bytes each system gets, and why that is equal
    servers     one server of each system with such a budget
    hit_ratio   a trace through a server, in its order
    axes        the table of what is varied, and over which values
    load        one point of a throughput curve
    report      the page, the CSV files, the summary

What the figures mean:

- Throughput is that of one asyncio client (uvloop) whose tasks each await one call after another: 95 % get, 5 % set, uniform
  keys, everything preloaded. It is the client's core that is the limit, on two cores often shared with the nodes.
- A hit ratio is of gets; a miss is followed by a set. Requests go out in batches of up to 32 consecutive requests whose keys
  differ: a get_many, then a set_many of what was missing. A repeated key ends its batch, so no request is ever answered before
  the one that it depends on; the order between different keys is kept to within a batch.
"""

from __future__ import annotations

__all__: list[str] = []
