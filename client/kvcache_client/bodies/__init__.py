"""The bodies: what drives the brain's plans over real sockets, once for asyncio and once for threads.

Here lives all waiting and all I/O of the client. Never here: a decision about keys, nodes or retries (``core``).
"""

__all__: list[str] = []
