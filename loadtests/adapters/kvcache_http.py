"""kvcache's HTTP API under load: any node is asked for any key, one after the other.

Here lives requests and what their statuses mean. Never here: load. Of the contract's calls it has get, set and delete.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

from geventhttpclient import HTTPClient
from geventhttpclient.response import HTTPSocketPoolResponse

from kvcache_client.protocol.errors import InvalidOption
from kvcache_client.seeds import parse_seeds
from loadtests import CannotRun
from loadtests.adapters.contract import BatchAnswer, NodeFigures, NoSuchCall

__all__ = ["HttpFailed", "HttpInDoubt", "KvCacheHttpAdapter", "open_kvcache_http"]

_HEADERS: Final = {"Content-Type": "application/octet-stream"}
_CONNECTIONS: Final = 1000
_IN_DOUBT_STATUS: Final = 504


class HttpFailed(Exception):
    """The request was surely not done; the message has the status, or why there was none."""


class HttpInDoubt(Exception):
    """A write was sent, and its outcome is not known."""


class KvCacheHttpAdapter:
    """The ``CacheAdapter`` of the HTTP API; ``nodes`` are id -> address."""

    errors: tuple[type[Exception], ...] = (HttpFailed, HttpInDoubt)

    def __init__(self, nodes: Mapping[str, str], timeout: float) -> None:
        self._clients = [(node, _client(address, timeout)) for node, address in nodes.items()]
        self._turn = 0
        self._asked = ""

    def in_doubt(self, error: Exception) -> bool:
        """See the contract."""
        return isinstance(error, HttpInDoubt)

    def answered_by(self) -> str:
        """See the contract."""
        return self._asked

    def get(self, key: str) -> bytes | None:
        """See the contract."""
        status, body = self._ask("GET", key, write=False)
        return body if status == 200 else None

    def set(self, key: str, value: bytes, ttl: float | None) -> None:
        """See the contract."""
        self._ask("PUT", key, value, f"?ttl={ttl:.3f}" if ttl is not None else "", write=True)

    def delete(self, key: str) -> bool:
        """See the contract."""
        return self._ask("DELETE", key, write=True)[0] != 404

    def touch(self, key: str, ttl: float | None) -> bool:
        """See the contract."""
        raise NoSuchCall("the HTTP API has no touch")

    def incr(self, key: str, by: int) -> int:
        """See the contract."""
        raise NoSuchCall("the HTTP API has no incr")

    def get_many(self, keys: Sequence[str]) -> BatchAnswer:
        """See the contract."""
        raise NoSuchCall("this adapter asks the HTTP API for one key at a time")

    def set_many(self, values: Mapping[str, bytes], ttl: float | None) -> BatchAnswer:
        """See the contract; one after the other, for what is written before a run."""
        found: dict[str, Any] = {}
        failed: dict[str, Exception] = {}
        for key, value in values.items():
            try:
                self.set(key, value, ttl)
                found[key] = True
            except self.errors as error:
                failed[key] = error
        return BatchAnswer(found, failed)

    def get_or_compute(self, key: str, load: Callable[[], bytes], ttl: float, stale: float) -> Any:
        """See the contract."""
        raise NoSuchCall("the HTTP API has no get_or_compute")

    def node_figures(self) -> Mapping[str, NodeFigures] | None:
        """See the contract; the Client's adapter tells it."""
        return None

    def close(self) -> None:
        """See the contract."""
        for _, client in self._clients:
            client.close()

    def _ask(self, method: str, key: str, body: bytes = b"", query: str = "", *, write: bool) -> tuple[int, bytes]:
        """Ask one node after the other until one answers; a write that was sent is not sent again."""
        path = f"/v1/kv/{quote(key, safe='')}{query}"
        why: Exception | None = None
        for _ in self._clients:
            self._turn += 1
            node, client = self._clients[self._turn % len(self._clients)]
            try:
                answer = client.request(method, path, body, _HEADERS)
                content = bytes(answer.read())
            except ConnectionRefusedError as error:
                why = error
                continue
            except (OSError, ValueError, EOFError) as error:  # the last two: an answer that breaks off
                self._asked = node
                if write:
                    raise HttpInDoubt(f"{method}: {type(error).__name__}") from error
                why = error
                continue
            self._asked = node
            return self._status(method, answer, write), content
        raise HttpFailed(f"{method}: no node answered: {type(why).__name__}") from why

    def _status(self, method: str, answer: HTTPSocketPoolResponse, write: bool) -> int:
        status = int(answer.status_code)
        if status < 300 or status == 404:
            return status
        if write and status == _IN_DOUBT_STATUS:
            raise HttpInDoubt(f"{method}: status {status}")
        raise HttpFailed(f"{method}: status {status}")

    def __repr__(self) -> str:
        return f"<KvCacheHttpAdapter {[node for node, _ in self._clients]}>"


def open_kvcache_http(address: str, timeout: float) -> KvCacheHttpAdapter:
    """Return an adapter that asks every member. Raises ``CannotRun`` if no seed answers."""
    try:
        seeds, _ = parse_seeds(address.replace("http://", "", 1))
    except InvalidOption as error:
        raise CannotRun(str(error)) from error
    why: Exception | None = None
    for seed in seeds:
        client = _client(seed, timeout)
        try:
            answer = client.request("GET", "/v1/topology")
            members = json.loads(bytes(answer.read()))["members"]
        except (OSError, ValueError, LookupError, TypeError) as error:
            why = error
            continue
        finally:
            client.close()
        return KvCacheHttpAdapter({member["id"]: member["address"] for member in members}, timeout)
    raise CannotRun(f"no cluster answers HTTP at {address}: {why}") from why


def _client(address: str, timeout: float) -> HTTPClient:
    host, _, port = address.rpartition(":")
    return HTTPClient(
        host.strip("[]"),
        int(port),
        connection_timeout=timeout,
        network_timeout=timeout,
        concurrency=_CONNECTIONS,
    )
