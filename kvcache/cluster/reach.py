"""Reach: whether this node can reach another one, as far as a decision in its place depends on it.

Here lives asking, and for how long an answer counts. Never here: what follows from it (``service.deputy``).

A node whose process has died is known to be away from its broken connection. One that is merely silent is noticed only by who
asks it, so it is asked (PING) when somebody wants to know, and its silence counts for a moment.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Any, Final

from kvcache.service.deputy import Deputy
from kvcache.service.later import Fields
from kvcache_client.core.effects import Plan, Within
from kvcache_client.core.reading import as_error
from kvcache_client.protocol.errors import ConnectFailed, NotReady
from kvcache_client.protocol.verbs import Status, Verb

__all__ = ["Reach"]

_ASK_SECONDS: Final = 0.05
"""Less than a client gives a node for an answer, which comes only after this one."""

_COUNTS_SECONDS: Final = 0.5


class Reach(Deputy):
    """What one node knows of the others. ``run`` drives plans, ``down`` holds those with which no connection can be made."""

    def __init__(
        self,
        run: Callable[[Plan[Any]], Awaitable[Any]],
        down: Callable[[], Collection[str]],
        clock: Callable[[], float],
    ) -> None:
        self._run = run
        self._down = down
        self._clock = clock
        self._away_until: dict[str, float] = {}

    def is_away(self, node: str) -> bool:
        """Say whether a node is known to be out of reach; asks nobody."""
        return node in self._down() or self._clock() < self._away_until.get(node, 0.0)

    async def ask(self, node: str, then: Callable[[], Fields]) -> Fields:
        """Ask a node for a sign of life, and return what ``then`` returns after that.

        One that has not joined yet decides nothing, and counts as away.
        """
        if await self._run(_is_silent(node)):
            self._away_until[node] = self._clock() + _COUNTS_SECONDS
        return then()

    async def consult(
        self, nodes: Iterable[str], epoch: int, key: bytes, then: Callable[[list[bytes]], Fields]
    ) -> Fields:
        """Ask those that are not known to be away, and return what ``then`` makes of what they hold of ``key``.

        A process that has died, or has not joined yet, decides nothing. One that is merely silent may: it is waited for.
        """
        asked = [node for node in nodes if node not in self._down()]
        records: list[bytes] = []
        answers = await self._run(_views(asked, key)) if asked else []
        for node, view in zip(asked, answers, strict=True):
            if view is None:
                continue
            theirs, record = view
            if theirs < epoch:
                raise NotReady(f"{node} may go by an epoch before {epoch} still, and decide as well", detail=epoch)
            if record:
                records.append(record)
        return then(records)

    def __repr__(self) -> str:
        return f"<Reach away={[node for node in self._away_until if self.is_away(node)]}>"


def _is_silent(node: str) -> Plan[bool]:
    (outcome,) = yield Within([(node, [0, Verb.PING])], _ASK_SECONDS)
    return as_error(outcome, node, Verb.PING) is not None or outcome[2] == 0


def _views(nodes: list[str], key: bytes) -> Plan[list[tuple[int, bytes] | None]]:
    """Return by which epoch each node goes, 0 if it does not say, and then what it holds of ``key``; None if it is gone."""
    asks = [(node, ask) for node in nodes for ask in ([0, Verb.PING], [0, Verb.PEEK, key])]
    outcomes = yield Within(asks, _ASK_SECONDS)
    views: list[tuple[int, bytes] | None] = []
    for node, ping, peek in zip(nodes, outcomes[::2], outcomes[1::2], strict=True):
        failed = as_error(ping, node, Verb.PING) or as_error(peek, node, Verb.PEEK)
        if isinstance(failed, ConnectFailed | NotReady):
            views.append(None)
        else:
            views.append((0, b"") if failed else (ping[2], peek[2] if peek[1] == Status.OK else b""))
    return views
