"""The verbs as a node does them: request in, reply out.

Here lives what a node answers, as plain functions of message, store and time. Never here: sockets or event loops.
"""

__all__: list[str] = []
