"""Reach: whether this node can reach another one, as far as a decision in its place depends on it.

Here lives asking, and for how long an answer counts. Never here: what follows from it (``service.deputy``).

A node whose process has died is known to be away from its broken connection. One that is merely silent is noticed only by who
asks it, so it is asked (PING) when somebody wants to know, and its silence counts for a moment.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Any, Final

from kvcache.service.deputy import Deputy
from kvcache.service.later import Fields
from kvcache_client.core.effects import Plan, Within
from kvcache_client.core.reading import as_error
from kvcache_client.protocol.verbs import Verb

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

    def __repr__(self) -> str:
        return f"<Reach away={[node for node in self._away_until if self.is_away(node)]}>"


def _is_silent(node: str) -> Plan[bool]:
    (outcome,) = yield Within([(node, [0, Verb.PING])], _ASK_SECONDS)
    return as_error(outcome, node, Verb.PING) is not None or outcome[2] == 0
