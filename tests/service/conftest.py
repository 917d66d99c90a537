"""The verbs without a socket: a real store, a clock that a test moves by hand, and topologies of a few nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from scripted_control import ScriptedControl, finished

from kvcache.service.assembly import assemble
from kvcache.service.later import Held, Later
from kvcache.service.ownership import Ownership
from kvcache.service.peers import PeerVerbs
from kvcache.service.service import Identity
from kvcache.store.config import StoreConfig
from kvcache.store.store import Store
from kvcache_client.core.routing import View
from kvcache_client.placement.topology import Member, Topology
from kvcache_client.protocol.errors import KvCacheError
from kvcache_client.protocol.record import NEVER, PayloadType, make_record, tombstone
from kvcache_client.protocol.verbs import Message, Verb
from kvcache_client.protocol.version import HybridClock, version_at

START_MS = 1_790_000_000_000
WRITER = 9
ID = 77


class Core:
    """The node ``n1`` up to its verbs. ``ask`` sends one request and returns its reply without the id."""

    def __init__(self, views: list[View], value_limit: int = 1000) -> None:
        self.views = views
        self.now_ms = START_MS
        self.statistics: dict[str, Any] = {"node": {"id": "n1"}}
        self.store = Store(StoreConfig(8 << 20), self.now_ms)
        clock = HybridClock(lambda: self.now_ms, WRITER)
        self.service = assemble(Identity("n1", "test", value_limit), self.store, clock, lambda: self.statistics)
        self.control = ScriptedControl()
        self.service.add(PeerVerbs(self.service, self.control, self.service.fences).handlers)

    def adopt(self, view: View) -> bool:
        return self.service.adopt(Ownership("n1", view.topology, view.routes, self.service.ownership))

    def join(self, members: int = 1) -> None:
        """Adopt the topology in which ``members`` nodes share the keys; its epoch is one more than that."""
        assert self.adopt(self.views[members - 1])

    @property
    def epoch(self) -> int:
        return self.service.epoch

    def at(self, ms: int) -> None:
        """Let it be ``ms`` after the start."""
        self.now_ms = START_MS + ms
        self.service.tick()

    @staticmethod
    def told(replies: list[Any]) -> Message:
        """Return the reply that was given, () if there is none yet. Raises it if it is an error."""
        (reply,) = replies or [()]
        if isinstance(reply, KvCacheError):
            raise reply
        fields: Message = reply
        return fields

    def ask(self, verb: Verb, *fields: Any, peer: object = None) -> Message:
        try:
            reply = self.service.handlers[verb]((ID, int(verb), *fields))
        except Later as later:
            return later.fields(finished(later.work))
        except Held as held:
            replies: list[Any] = []
            held.take(peer, replies.append)
            return self.told(replies)
        assert reply[0] == ID
        return reply[1:]

    def put(self, key: bytes, record: bytes) -> Message:
        return self.ask(Verb.PUT, self.epoch, key, record)

    def key(self, *, mine: bool) -> bytes:
        """Return a key that ``n1`` owns, or does not, by the topology in use."""
        view = next(view for view in self.views if view.epoch == self.epoch)
        names = (b"key-%d" % number for number in range(10_000))
        return next(name for name in names if ("n1" in view.owners[view.partition(name)]) == mine)


def record_at(
    ms: int, payload: bytes = b"value", *, expiry_ms: int = NEVER, kind: int = PayloadType.BYTES, writer: int = 1
) -> bytes:
    """Return a record that was stamped ``ms`` after the start."""
    return make_record(version_at(START_MS + ms) + writer, expiry_ms, kind, payload)


def tombstone_at(ms: int, *, writer: int = 1) -> bytes:
    """Return a tombstone that was stamped ``ms`` after the start and is kept for a minute."""
    return tombstone(version_at(START_MS + ms) + writer, START_MS + ms + 60_000)


@pytest.fixture(scope="session")
def views() -> list[View]:
    """Topologies of one, two and three nodes, one copy of each key, epochs 2, 3 and 4."""
    topology = Topology.found("test", cluster_id="00c0ffee", seed=7, replication_factor=1)
    made = []
    for number in (1, 2, 3):
        topology = topology.with_member(Member(f"n{number}", f"127.0.0.1:{7700 + number}"))
        made.append(View(topology.settled()))
    return made


@pytest.fixture(scope="session")
def core_type() -> type[Core]:
    """A node for a test that makes many, and looks after their stores itself."""
    return Core


@pytest.fixture
def make_core(views: list[View]) -> Iterator[Callable[..., Core]]:
    """Make nodes that have not joined yet; their stores are recounted at the end."""
    made: list[Core] = []

    def make(**options: Any) -> Core:
        made.append(Core(views, **options))
        return made[-1]

    yield make
    for core in made:
        core.store.check()


@pytest.fixture
def stranger(make_core: Callable[..., Core]) -> Core:
    """A node that has not joined yet."""
    return make_core()


@pytest.fixture
def core(make_core: Callable[..., Core]) -> Core:
    """A node that owns every key."""
    made = make_core()
    made.join()
    return made


@pytest.fixture
def half(make_core: Callable[..., Core]) -> Core:
    """One of two nodes that share the keys."""
    made = make_core()
    made.join(2)
    return made


@pytest.fixture
def record() -> Callable[..., bytes]:
    return record_at


@pytest.fixture
def grave() -> Callable[..., bytes]:
    return tombstone_at
