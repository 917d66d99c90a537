"""Deputy: when an owner of a key may decide that another one might decide as well.

Here lives the rule. Never here: how another node is asked (``cluster.reach``), or a decision itself (``deciding``).

Clients with different views of who can be reached would let two owners decide at once. So a second owner decides cas, incr and
touch only if it, too, can't reach the first; otherwise it says NotReady, and the client comes back to the first. The first owner,
which decides nearly always, is asked nothing. Two sides of a real partition may still decide both; then the newer outcome stays.

When a move is switched, the first owner of some keys changes, and nodes hear of it one after the other. Until all are known to
have heard, the new decider asks the former owners each time: whether they go by the switch, after which they decide no more,
and what they hold of the key, so that it goes on from their last decision even if the copy of that is still on its way.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import partial

from kvcache.service.later import Fields, Later
from kvcache.service.service import Handler, Reply
from kvcache_client.protocol.errors import NotReady
from kvcache_client.protocol.verbs import Message

__all__ = ["DeciderChanges", "Deputy", "FirstOwnerDecides", "asking"]


class FirstOwnerDecides(Exception):
    """The first owner decides, as far as it is known; never leaves this module's ``asking``."""

    def __init__(self, first: str) -> None:
        super().__init__(f"{first} is in reach and decides first")
        self.first = first


class DeciderChanges(Exception):
    """Others decided before, as far as they know still; never leaves this module's ``asking``."""

    def __init__(self, before: tuple[str, ...], epoch: int, key: bytes) -> None:
        super().__init__(f"who decides is just changing: {', '.join(before)} decided before epoch {epoch}")
        self.before = before
        self.epoch = epoch
        self.key = key


class Deputy:
    """Knows which nodes can't be reached. This one takes all others for away: who is asked decides."""

    def is_away(self, node: str) -> bool:
        """Say whether a node is known to be out of reach; asks nobody."""
        return True

    def ask(self, node: str, then: Callable[[], Fields]) -> Awaitable[Fields]:
        """Find out whether a node can be reached, for ``is_away`` to know, and return what ``then`` returns after that."""
        raise NotReady(f"nobody here can ask {node}")

    def consult(
        self, nodes: Iterable[str], epoch: int, key: bytes, then: Callable[[list[bytes]], Fields]
    ) -> Awaitable[Fields]:
        """Return what ``then`` makes of the records of ``key`` that ``nodes`` hold; those out of reach are passed over.

        The awaitable raises ``NotReady`` if one of them goes by an epoch before ``epoch``.
        """
        raise NotReady(f"nobody here can ask {', '.join(nodes)}")


def asking(
    handler: Handler, deputy: Deputy, settle: Callable[[DeciderChanges, list[bytes], Callable[[], Fields]], Fields]
) -> Handler:
    """Return ``handler`` with a second chance: who can't decide because of another node asks that one, and tries again.

    ``settle`` takes up what those hold who decided before, and runs the second try.
    """

    def handle(message: Message) -> Reply:
        try:
            return handler(message)
        except FirstOwnerDecides as doubt:
            raise Later(deputy.ask(doubt.first, partial(_again, handler, message)), _as_they_are) from None
        except DeciderChanges as doubt:
            change, again = doubt, partial(_again, handler, message)
            work = deputy.consult(
                change.before, change.epoch, change.key, lambda records: settle(change, records, again)
            )
            raise Later(work, _as_they_are) from None

    return handle


def _again(handler: Handler, message: Message) -> Fields:
    try:
        return handler(message)[1:]
    except (FirstOwnerDecides, DeciderChanges) as refusal:
        raise NotReady(str(refusal)) from None


def _as_they_are(fields: Fields) -> Fields:
    return fields
