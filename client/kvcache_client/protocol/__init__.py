"""The agreement between nodes and clients: frames, verbs, records, versions, errors, limits.

Here lives everything that two processes must agree on to understand each other, as values and pure functions.
Never here: sockets, clocks, randomness, retry or routing decisions. ``WIRE.md`` tells it in prose; its examples run as tests.
"""

__all__: list[str] = []
