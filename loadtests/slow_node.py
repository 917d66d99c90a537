"""A node that takes a while for every read and write: ``python -m loadtests.slow_node SECONDS node OPTIONS...``.

Here lives that delay and nothing else: the rest is a real node. It sleeps with the event loop in its hands, so requests queue
before it as they do before a node that has too much to do, and how many it can answer in a second does not depend on what else
the machine is doing. Never here: what is measured with it (``tails``).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Final

from kvcache.cli import main as run
from kvcache.service.service import Handler, Reply, Service
from kvcache_client.protocol.verbs import Message, Verb

__all__ = ["main", "slowed"]

_SLOWED: Final = (Verb.GET, Verb.PEEK, Verb.PUT, Verb.HINT)


def slowed(add: Callable[[Service, Mapping[int, Handler]], None], seconds: float) -> Callable[..., None]:
    """Return an ``add`` for services by which reads and writes of single keys take that much longer."""

    def add_slowed(service: Service, handlers: Mapping[int, Handler]) -> None:
        add(service, {verb: _after(seconds, it) if verb in _SLOWED else it for verb, it in handlers.items()})

    return add_slowed


def _after(seconds: float, handler: Handler) -> Handler:
    def handle(message: Message) -> Reply:
        time.sleep(seconds)
        return handler(message)

    return handle


def main() -> None:
    """Be the node that the command line describes."""
    seconds = float(sys.argv.pop(1))
    Service.add = slowed(Service.add, seconds)  # type: ignore[method-assign]
    run()


if __name__ == "__main__":
    main()
