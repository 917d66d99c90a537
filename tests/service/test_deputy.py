"""The second owner decides only when it can't reach the first either."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from kvcache.service.assembly import assemble
from kvcache.service.deputy import Deputy
from kvcache.service.later import Fields, Later
from kvcache.service.ownership import Ownership
from kvcache.service.service import Identity, Service
from kvcache.store import Store, StoreConfig
from kvcache_client.core.routing import View
from kvcache_client.placement.topology import Member, Topology
from kvcache_client.protocol.errors import NotReady
from kvcache_client.protocol.record import NEVER, PayloadType, make_record, payload_of
from kvcache_client.protocol.verbs import ABSENT, Status, Verb
from kvcache_client.protocol.version import HybridClock

NOW = 1_790_000_000_000


class ScriptedDeputy(Deputy):
    """Knows nothing before it is asked; then what the test says."""

    def __init__(self) -> None:
        self.away: set[str] = set()
        self.found_away: set[str] = set()
        self.asked: list[str] = []

    def is_away(self, node: str) -> bool:
        return node in self.away

    async def ask(self, node: str, then: Callable[[], Fields]) -> Fields:
        self.asked.append(node)
        self.away |= self.found_away
        return then()


@pytest.fixture
def deputy() -> ScriptedDeputy:
    return ScriptedDeputy()


@pytest.fixture
def service(deputy: ScriptedDeputy) -> Service:
    topology = Topology.found("test", cluster_id="00c0ffee", seed=7, replication_factor=2)
    for number in (1, 2):
        topology = topology.with_member(Member(f"n{number}", f"127.0.0.1:770{number}"))
    clock = HybridClock(lambda: NOW, 1)
    made = assemble(Identity("n1", "test", 1 << 20), Store(StoreConfig(16 << 20), NOW), clock, dict, deputy)
    view = View(topology.settled())
    made.adopt(Ownership("n1", view.topology, view.routes, None))
    return made


def key_of(service: Service, first: str) -> bytes:
    view = View(service.ownership.topology)  # type: ignore[union-attr]
    return next(key for key in (b"key-%d" % at for at in range(1000)) if view.owners_of(key)[0] == first)


def incr(service: Service, key: bytes) -> Any:
    return service.handlers[Verb.INCR]((1, Verb.INCR, service.epoch, key, 1, 0, NEVER, 5))


async def reply_to(ask: Any) -> Any:
    try:
        return ask()
    except Later as later:
        return (1, *later.fields(await later.work))


async def test_the_first_owner_asks_nobody(service: Service, deputy: ScriptedDeputy) -> None:
    assert payload_of(incr(service, key_of(service, "n1"))[2]) == b"1"
    assert deputy.asked == []


async def test_the_second_asks_whether_the_first_is_there_and_leaves_it_to_it(
    service: Service, deputy: ScriptedDeputy
) -> None:
    key = key_of(service, "n2")
    record = make_record(0, NEVER, PayloadType.BYTES, b"x")
    requests = [
        (1, Verb.INCR, service.epoch, key, 1, 0, NEVER, 5),
        (1, Verb.SWAP, service.epoch, key, ABSENT, record, 6),
        (1, Verb.TOUCH, service.epoch, key, NEVER, 7),
    ]
    for request in requests:
        with pytest.raises(NotReady, match="n2 is in reach and decides first"):
            await reply_to(lambda request=request: service.handlers[request[1]](request))
    assert deputy.asked == ["n2"] * 3
    assert service.standing(service._partition(key), key) is None


async def test_the_second_decides_when_it_does_not_reach_the_first_either(
    service: Service, deputy: ScriptedDeputy
) -> None:
    key = key_of(service, "n2")
    deputy.found_away = {"n2"}
    reply = await reply_to(lambda: incr(service, key))
    assert (reply[1], payload_of(reply[2])) == (Status.OK, b"1")
    deputy.asked.clear()
    again = service.handlers[Verb.INCR]((1, Verb.INCR, service.epoch, key, 1, 0, NEVER, 6))
    assert payload_of(again[2]) == b"2"
    assert deputy.asked == [], "an answer counts for a while"


async def test_many_at_once_are_each_counted_once(service: Service, deputy: ScriptedDeputy) -> None:
    key = key_of(service, "n2")
    deputy.found_away = {"n2"}

    def ask(operation: int) -> Any:
        return service.handlers[Verb.INCR]((1, Verb.INCR, service.epoch, key, 1, 0, NEVER, operation))

    await asyncio.gather(*(reply_to(lambda number=number: ask(number + 10)) for number in range(20)))
    assert payload_of(service.live(service._partition(key), key) or b"") == b"20"
