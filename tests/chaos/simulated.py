"""Simulated: the same histories from a whole cluster on virtual time, where a bug can be planted in any node.

Here lives a load over ``memory_network``. Never here: a judgement, or the bugs.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any, Final

from memory_network import Call, MemoryClient, MemoryNetwork

from chaos.checkers import FinalState
from chaos.history import History, Operation, Outcome, Verb, unique_value
from chaos.load import delete_versioned
from kvcache_client.core.effects import Plan
from kvcache_client.protocol.errors import NotApplied, UsageError

__all__ = ["COUNTER", "KEYS", "final_state", "simulate"]

KEYS: Final = tuple(f"key-{number}" for number in range(8))
COUNTER: Final = "counter"

_VERBS: Final = ("get", "get", "get", "set", "set", "delete", "incr")
_PAUSE_SECONDS: Final = 0.01


class _Client:
    """One client that does one random thing after the other and notes it."""

    def __init__(
        self, network: MemoryNetwork, client: MemoryClient, history: History, ids: count[int], dice: random.Random
    ) -> None:
        self.left = 120
        self._network = network
        self._client = client
        self._history = history
        self._ids = ids
        self._dice = dice
        self._begin()

    def _begin(self) -> None:
        if self.left:
            self.left -= 1
            getattr(self, "_" + self._dice.choice(_VERBS))(self._dice.choice(KEYS))

    def _get(self, key: str) -> None:
        def seen(entry: Any) -> dict[str, Any]:
            if entry is None:
                return {"outcome": Outcome.MISS}
            return {"outcome": Outcome.HIT, "value": entry.value, "version": entry.version}

        self._note(Verb.GET, key, None, lambda later: later.get_entry(key), seen)

    def _set(self, key: str) -> None:
        value = unique_value(key, self._client.session.name, self.left)
        self._note(Verb.SET, key, value, lambda later: later.set(key, value), lambda version: {"version": version})

    def _delete(self, key: str) -> None:
        plan: Plan[int] = delete_versioned(self._client.brain, key)
        self._note(Verb.DELETE, key, None, lambda later: later.run(plan), lambda version: {"version": version})

    def _incr(self, key: str) -> None:
        self._note(Verb.INCR, COUNTER, 1, lambda later: later.incr(COUNTER), lambda value: {})

    def _note(
        self,
        verb: Verb,
        key: str,
        value: Any,
        ask: Callable[[Any], Call],
        seen: Callable[[Any], dict[str, Any]],
    ) -> None:
        id, now = next(self._ids), self._network.now
        self._history.invoke(Operation(id, self._client.session.name, verb, key, value, now, now))
        call = ask(self._client.later)
        settle = partial(self._settle, id, verb, seen)
        if call.done:
            settle(call)
        else:
            call.then = settle

    def _settle(self, id: int, verb: Verb, seen: Callable[[Any], dict[str, Any]], call: Call) -> None:
        error = call.error
        if error is None:
            found = {"outcome": Outcome.OK} | seen(call.result())
        else:
            known = verb is Verb.GET or isinstance(error, NotApplied | UsageError)
            found = {"outcome": Outcome.FAILED if known else Outcome.IN_DOUBT, "error": str(error)}
        self._history.settle(id, self._network.now, **found)
        self._network.after(self._dice.uniform(0, _PAUSE_SECONDS), self._begin)


def simulate(network: MemoryNetwork, seed: int, *, skew_ms: int = 200) -> History:
    """Let three clients, whose clocks differ by up to ``skew_ms`` either way, work until they are done."""
    dice = random.Random(seed)
    history, ids = History(), count()
    clients = []
    for _ in range(3):
        client = network.client()
        client.get_many([f"{number}" for number in range(50)])
        client.session.skew_ms = dice.randrange(-skew_ms, skew_ms)  # after the greeting, which would have healed it
        clients.append(_Client(network, client, history, ids, random.Random(dice.random())))
    network.run(until=lambda: not any(client.left for client in clients))
    network.run()
    return history


def final_state(network: MemoryNetwork) -> FinalState:
    """Return what every node holds."""
    keys = (*KEYS, COUNTER)
    copies = {key: network.copies(key) for key in keys}
    held = {id: {key: copies[key].get(id) for key in keys} for id, node in network.nodes.items() if node.reachable}
    return FinalState(held, {key: tuple(node.id for node in network.owners(key)) for key in keys}, network.now)
