"""Where a key lives: the partition of a key, the owners of a partition, the document that decides both.

Here lives everything that nodes and clients must compute alike to send a key to the same place, as immutable values and
pure functions. Never here: who can be reached right now, retries, sockets, clocks.
"""

__all__: list[str] = []
