"""kvcache's blocking Client under load.

Here lives what the contract needs beyond the Client itself: which node answered. Never here: load.

Gevent switches greenlets only inside socket calls, and after the last of them a call returns without another. So what the
session noted last is what the calling greenlet has just done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kvcache_client import Client, ClientConfig
from kvcache_client.bodies.blocking_session import BlockingSession
from kvcache_client.bodies.surroundings import real_surroundings
from kvcache_client.core.effects import Outcome, Round, Slow
from kvcache_client.protocol.errors import InDoubt, KvCacheError
from kvcache_client.protocol.verbs import Request
from kvcache_client.seeds import parse_seeds
from loadtests import CannotRun
from loadtests.adapters.contract import BatchAnswer, NodeFigures

__all__ = ["KvCacheAdapter", "open_kvcache"]


class _Session(BlockingSession):
    """A session that notes whom it asked last."""

    asked = ""

    def _ask(self, node: str, request: Request) -> Outcome | Slow:
        outcome = super()._ask(node, request)
        self.asked = node
        return outcome

    def _race(self, slow: Sequence[Slow], others: Round) -> list[Outcome | None]:
        first = self.asked
        outcomes = super()._race(slow, others)
        self.asked = others[0][0] if others and outcomes[0] is None else first
        return outcomes

    def _round(self, asks: Round, seconds: float) -> list[Outcome]:
        outcomes = super()._round(asks, seconds)
        self.asked = asks[0][0]  # for a write, the primary
        return outcomes

    def _watched(self, asks: Round) -> list[Outcome | Slow]:
        outcomes = super()._watched(asks)
        self.asked = asks[0][0]
        return outcomes


class _Client(Client):
    """A Client on such a session."""

    def __init__(self, address: str, timeout: float) -> None:
        seeds, _ = parse_seeds(address)
        super().__init__(address, timeout=timeout, config=ClientConfig(name="loadtest"))
        self._session = self.noting = _Session(seeds, self.brain.config, real_surroundings())
        self._space = self.brain.spaces.whole


class KvCacheAdapter:
    """The ``CacheAdapter`` of a Client; the calls that are measured are the Client's own."""

    errors: tuple[type[Exception], ...] = (KvCacheError,)

    def __init__(self, client: _Client) -> None:
        self.client = client
        self.get = client.get
        self.set = client.set
        self.delete = client.delete
        self.touch = client.touch
        self.incr = client.incr
        self.close = client.close

    def in_doubt(self, error: Exception) -> bool:
        """See the contract."""
        return isinstance(error, InDoubt)

    def answered_by(self) -> str:
        """See the contract."""
        return self.client.noting.asked

    def get_many(self, keys: Sequence[str]) -> BatchAnswer:
        """See the contract."""
        result = self.client.get_many(keys)
        return BatchAnswer(result, result.failed)  # type: ignore[arg-type]  # keys come back as they were given

    def set_many(self, values: Mapping[str, bytes], ttl: float | None) -> BatchAnswer:
        """See the contract."""
        result = self.client.set_many(values, ttl)  # type: ignore[arg-type]  # Mapping is invariant in its key
        return BatchAnswer(result, result.failed)  # type: ignore[arg-type]  # keys come back as they were given

    def get_or_compute(self, key: str, load: Callable[[], bytes], ttl: float, stale: float) -> Any:
        """See the contract."""
        return self.client.get_or_compute(key, load, ttl, stale=stale or None)

    def node_figures(self) -> Mapping[str, NodeFigures] | None:
        """See the contract."""
        told = self.client.node_statistics().items()
        return {
            node: NodeFigures(
                *(each["store"][field] for field in ("used_bytes", "budget_bytes", "records", "evictions"))
            )
            for node, each in told
            if not isinstance(each, KvCacheError)
        }

    def __repr__(self) -> str:
        return f"<KvCacheAdapter {self.client!r}>"


def open_kvcache(address: str, timeout: float) -> KvCacheAdapter:
    """Return an adapter that knows the cluster's topology. Raises ``CannotRun`` if no seed answers."""
    client = None
    try:
        client = _Client(address, timeout)
        client.topology()
    except KvCacheError as error:
        if client is not None:
            client.close()
        raise CannotRun(f"no cluster at {address}: {error}") from error
    return KvCacheAdapter(client)
