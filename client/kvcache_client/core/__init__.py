"""The brain of both clients: what to ask whom, what to make of the answers, when to give up.

Here lives every decision of the client, written once, as generators and plain objects. Never here: event loops, sockets,
clocks or randomness of their own; those are arguments, so a whole cluster can run in one process on virtual time.
"""

__all__: list[str] = []
