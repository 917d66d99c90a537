"""The node's one port: stream protocol and HTTP.

Here lives everything that touches the node's sockets. Never here: what a verb does (``service``).
"""

__all__: list[str] = []
