"""Deputy: when the second owner of a key may decide in place of the first.

Here lives the rule. Never here: how another node is asked (``cluster.reach``), or a decision itself (``deciding``).

Clients with different views of who can be reached would let two owners decide at once. So a second owner decides cas, incr and
touch only if it, too, can't reach the first; otherwise it says NotReady, and the client comes back to the first. The first owner,
which decides nearly always, is asked nothing. Two sides of a real partition may still decide both; then the newer outcome stays.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from kvcache.service.later import Fields, Later
from kvcache.service.service import Handler, Reply
from kvcache_client.protocol.errors import NotReady
from kvcache_client.protocol.verbs import Message

__all__ = ["Deputy", "FirstOwnerDecides", "asking"]


class FirstOwnerDecides(Exception):
    """The first owner decides, as far as it is known; never leaves this module's ``asking``."""

    def __init__(self, first: str) -> None:
        super().__init__(f"{first} is in reach and decides first")
        self.first = first


class Deputy:
    """Knows which nodes can't be reached. This one takes all others for away: who is asked decides."""

    def is_away(self, node: str) -> bool:
        """Say whether a node is known to be out of reach; asks nobody."""
        return True

    def ask(self, node: str, then: Callable[[], Fields]) -> Awaitable[Fields]:
        """Find out whether a node can be reached, for ``is_away`` to know, and return what ``then`` returns after that."""
        raise NotReady(f"nobody here can ask {node}")


def asking(handler: Handler, deputy: Deputy) -> Handler:
    """Return ``handler`` with a second chance: who can't decide because of another node asks that one, and tries again."""

    def handle(message: Message) -> Reply:
        try:
            return handler(message)
        except FirstOwnerDecides as doubt:
            raise Later(deputy.ask(doubt.first, partial(_again, handler, message)), _as_they_are) from None

    return handle


def _again(handler: Handler, message: Message) -> Fields:
    try:
        return handler(message)[1:]
    except FirstOwnerDecides as refusal:
        raise NotReady(str(refusal)) from None


def _as_they_are(fields: Fields) -> Fields:
    return fields
