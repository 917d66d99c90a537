"""The life of a node's process: from its start to a signal, or to the end of its place in the cluster.

Here live signals and what an end means for the exit code. Never here: the node (``node``), or how it is told what to do
(``commands``).
"""

from __future__ import annotations

import asyncio
import signal

from kvcache.logs import follow_signals
from kvcache.node import Node
from kvcache.options import NodeOptions
from kvcache_client.protocol.errors import InvalidOption, TopologyError

__all__ = ["run"]


async def run(options: NodeOptions) -> int:
    """Run a node until SIGTERM or SIGINT; returns the exit code of its process.

    Raises ``InvalidOption`` if it cannot listen where it is told to, or another process lives under its id, and
    ``TopologyError`` when another one has taken its place.
    """
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    follow_signals(loop.add_signal_handler)
    node = Node(options)
    starting = loop.create_task(node.start(), name="node start")
    waiting = loop.create_task(stopped.wait(), name="node stop")
    lost = loop.create_task(node.place.lost.wait(), name="node displaced")
    try:
        # Joining waits for coordination as long as it takes; a signal must end that too.
        await asyncio.wait((starting, waiting), return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
        await asyncio.wait((waiting, lost), return_when=asyncio.FIRST_COMPLETED)
        if node.place.reason:
            raise TopologyError(node.place.reason)
    except OSError as error:
        raise InvalidOption(f"cannot listen on {options.listen}: {error.strerror or error}") from error
    finally:
        for task in (starting, waiting, lost):
            task.cancel()
        await asyncio.wait((starting,))
        await node.stop()
    return 0
