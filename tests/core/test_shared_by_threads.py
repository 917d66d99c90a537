"""What threads share in a blocking client, without a lock: whatever comes between two steps, nothing raises and nothing stays."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from interleaving import interleavings

from kvcache_client.core.avoided import Avoided
from kvcache_client.core.breaker import Breaker
from kvcache_client.core.health import Health
from kvcache_client.core.nodes import Nodes
from kvcache_client.core.retry import Backoff
from kvcache_client.protocol.errors import ConnectFailed

GONE = ConnectFailed("gone")


class Known:
    """What a client knows of three nodes: ``out`` can't be reached and its breaker is open, that of ``bad`` is about to open."""

    def __init__(self) -> None:
        self.now = 100.0
        self.nodes = Nodes()
        self.health = Health(lambda: self.now, lambda: 1.0, Backoff(first=1.0, longest=8.0))
        self.breaker = Breaker(lambda: self.now, lambda: 1.0, self.nodes)
        self.avoided = Avoided(self.health.down, self.breaker.opened)
        for node, seconds in (("out", 0.5), ("bad", 0.5), ("well", 0.001)):
            for _ in range(128):
                self.nodes[node].observe(seconds, self.now)
        self.breaker.watch(self.now)
        self.health.failed("out", GONE)
        for node in ("out", "bad", "out", "bad", "out"):
            self.nodes[node].replies = 1
            self.breaker.failed(node, "NodeFault")
        self.now += 2.0  # long enough for each to be tried again


WORKS: dict[str, Callable[[Known], object]] = {
    "a node fails again": lambda it: it.health.failed("out", GONE),
    "a node fails": lambda it: it.health.failed("well", GONE),
    "a node answers": lambda it: it.health.answered("out"),
    "a node fails and answers": lambda it: (it.health.failed("out", GONE), it.health.answered("out")),
    "the topology changes": lambda it: it.health.forget({"well"}),
    "who is due": lambda it: it.health.due(),
    "a breaker opens": lambda it: it.breaker.failed("bad", "NodeFault"),
    "a breaker opens for slowness": lambda it: it.breaker.watch(it.now),
    "a probe is wanted": lambda it: it.breaker.due(["out", "bad"]),
    "a probe is answered": lambda it: it.breaker.probed("out", 0.001),
    "a breaker closes": lambda it: it.breaker.close("out"),
    "all breakers close": lambda it: it.breaker.start_over(),
    "a node is met": lambda it: it.nodes["new"].observe(0.001, it.now),
    "averages decay": lambda it: it.nodes.is_time_to_decay(it.now),
    "somebody looks": lambda it: (repr(it.health), repr(it.breaker), repr(it.avoided), list(it.avoided)),
}

BETWEEN: dict[str, Callable[[Known], object]] = WORKS | {"a node is forgotten": lambda it: it.nodes.pop("bad", None)}


@pytest.mark.parametrize("work", WORKS)
def test_anything_may_come_between(work: str) -> None:
    steps = 0
    for meanwhile in BETWEEN.values():
        known = Known()

        def both(meanwhile: Callable[[Known], object] = meanwhile) -> tuple[Callable[[], object], Callable[[], object]]:
            nonlocal known
            known = Known()
            return lambda: WORKS[work](known), lambda: meanwhile(known)

        for _ in interleavings(both, "kvcache_client"):
            steps += 1
            assert set(known.avoided) == known.health.down.keys() | known.breaker.opened.keys()
            for node in ("out", "bad", "well"):
                known.health.answered(node)
                known.breaker.close(node)
            assert not known.avoided
            assert list(known.avoided) == []
    assert steps >= len(BETWEEN)  # else nothing was tried


def test_a_node_that_answers_is_still_avoided_while_its_breaker_is_open() -> None:
    known = Known()
    known.health.answered("out")
    assert list(known.avoided) == ["out"]
    known.breaker.close("out")
    assert not known.avoided


def test_a_node_that_is_met_twice_at_once_is_one() -> None:
    nodes = Nodes()
    met = []

    def both() -> tuple[Callable[[], object], Callable[[], object]]:
        nonlocal nodes
        nodes = Nodes()
        met.clear()
        return lambda: met.append(nodes["new"]), lambda: met.append(nodes["new"])

    for _ in interleavings(both, "kvcache_client"):
        assert met[0] is met[1] is nodes["new"]
