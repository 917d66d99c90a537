"""A whole cluster with its clients in one process, on virtual time, over a simulated network.

Here live real services, stores and links, and in place of sockets a queue of events in virtual time; all choices come from
one seeded ``Random``, so a failure found under a seed is found again under it. Never here: what a test expects. ::

    client.get(k) -> plan -> MemorySession: Round -> Wire: Link.output --(delay, faults)--> MemoryNode: Service.handlers
                                               ^-- slots filled <-- Link.receive <--(delay, faults)-- reply

A client is the public ``Client`` over another session: ``client.get(k)`` runs the network until the call has ended, while
``client.later.get(k)`` returns a ``Call`` that goes on as ``network.run()`` lets time pass, so calls of many clients interleave
at every request. Sessions keep ``brain.health`` as the real bodies do.
"""

from memory_network.calls import Call
from memory_network.flights import Taking
from memory_network.network import MemoryNetwork
from memory_network.nodes import MemoryNode
from memory_network.sessions import MemoryClient, MemorySession
from memory_network.weather import CLEAR, Weather
from memory_network.world import START_MS, cluster_of, placed

__all__ = [
    "CLEAR",
    "START_MS",
    "Call",
    "MemoryClient",
    "MemoryNetwork",
    "MemoryNode",
    "MemorySession",
    "Taking",
    "Weather",
    "cluster_of",
    "placed",
]
