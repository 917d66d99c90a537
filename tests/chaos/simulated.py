"""Simulated: the same histories from a whole cluster on virtual time, where a bug can be planted in any node.

Here lives a load over ``memory_network``. Never here: a judgement, or the bugs.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from typing import Any, Final

from memory_network import Call, MemoryClient, MemoryNetwork

from chaos.checkers import FinalState
from chaos.history import History, Operation, Outcome, Verb, unique_value
from chaos.load import delete_versioned
from kvcache_client.core.effects import Plan
from kvcache_client.protocol.errors import NotApplied, UsageError

__all__ = ["COUNTER", "KEYS", "LastingLoad", "final_state", "simulate"]

KEYS: Final = tuple(f"key-{number}" for number in range(8))
COUNTER: Final = "counter"

_VERBS: Final = ("get", "get", "get", "set", "set", "delete", "incr")
_PAUSE_SECONDS: Final = 0.01


class _Client:
    """One client that does one random thing after the other and notes it."""

    def __init__(
        self,
        network: MemoryNetwork,
        client: MemoryClient,
        history: History,
        ids: count[int],
        dice: random.Random,
        keys: Sequence[str] = KEYS,
    ) -> None:
        self.left = 120
        self.busy = False
        self._keys = keys
        self._network = network
        self._client = client
        self._history = history
        self._ids = ids
        self._dice = dice
        self._begin()

    def _begin(self) -> None:
        self.busy = self.left > 0
        if self.busy:
            self.left -= 1
            getattr(self, "_" + self._dice.choice(_VERBS))(self._dice.choice(self._keys))

    def _get(self, key: str) -> None:
        def seen(entry: Any) -> dict[str, Any]:
            if entry is None:
                return {"outcome": Outcome.MISS}
            return {"outcome": Outcome.HIT, "value": entry.value, "version": entry.version}

        self._note(Verb.GET, key, None, lambda later: later.get_entry(key), seen)

    def fill(self, key: str) -> None:
        """Write a key, beside all else."""
        self._write(key, begin=lambda: None)

    def _set(self, key: str) -> None:
        self._write(key, begin=self._begin)

    def _write(self, key: str, begin: Callable[[], None]) -> None:
        value = unique_value(key, self._client.session.name, next(self._ids))
        self._note(
            Verb.SET, key, value, lambda later: later.set(key, value), lambda version: {"version": version}, begin
        )

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
        begin: Callable[[], None] | None = None,
    ) -> None:
        id, now = next(self._ids), self._network.now
        self._history.invoke(Operation(id, self._client.session.name, verb, key, value, now, now))
        call = ask(self._client.later)
        settle = partial(self._settle, id, verb, seen, begin or self._begin)
        if call.done:
            settle(call)
        else:
            call.then = settle

    def _settle(
        self, id: int, verb: Verb, seen: Callable[[Any], dict[str, Any]], begin: Callable[[], None], call: Call
    ) -> None:
        error = call.error
        if error is None:
            found = {"outcome": Outcome.OK} | seen(call.result())
        else:
            known = verb is Verb.GET or isinstance(error, NotApplied | UsageError)
            found = {"outcome": Outcome.FAILED if known else Outcome.IN_DOUBT, "error": str(error)}
        self._history.settle(id, self._network.now, **found)
        self._network.after(self._dice.uniform(0, _PAUSE_SECONDS), begin)


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


class LastingLoad:
    """Clients that work until they are told to stop; each has some ``workers``, who do one thing after the other."""

    def __init__(
        self, network: MemoryNetwork, seed: int, *, clients: int = 4, keys: int = 300, workers: int = 1
    ) -> None:
        dice = random.Random(seed)
        self.keys = tuple(f"key-{number}" for number in range(keys))
        self.history, self.ids = History(), count()
        self._network = network
        self._clients = []
        for _ in range(clients):
            client = network.client(timeout=1.0)
            client.set_many(dict.fromkeys([f"{number}" for number in range(50)], 0))
            for _ in range(workers):
                worker = _Client(network, client, self.history, self.ids, random.Random(dice.random()), self.keys)
                worker.left = 1 << 30
                self._clients.append(worker)
        for number, key in enumerate(self.keys):
            self._clients[number % len(self._clients)].fill(key)
        network.run(seconds=0.1)

    def note(self, verb: Verb, key: str) -> Callable[[], None]:
        """Note that an operation of somebody else begins; what is returned is to be called when it has ended."""
        id, now = next(self.ids), self._network.now
        self.history.invoke(Operation(id, "operator", verb, key, None, now, now))
        return lambda: self.history.settle(id, self._network.now, Outcome.OK)

    def stop(self) -> History:
        """Let what was begun end, and return all that was done."""
        for client in self._clients:
            client.left = 0
        self._network.run(until=lambda: not any(client.busy for client in self._clients))
        return self.history


def final_state(network: MemoryNetwork, keys: Sequence[str] = KEYS) -> FinalState:
    """Return what every node holds."""
    keys = (*keys, COUNTER)
    copies = {key: network.copies(key) for key in keys}
    held = {id: {key: copies[key].get(id) for key in keys} for id, node in network.nodes.items() if node.reachable}
    return FinalState(held, {key: tuple(node.id for node in network.owners(key)) for key in keys}, network.now)
