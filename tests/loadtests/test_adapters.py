"""One contract, three caches: each adapter against real servers. A cache whose server is missing is skipped with one line."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator

import pytest
from polling import wait_until

from loadtests import CannotRun
from loadtests.adapters import CacheAdapter, NoSuchCall, open_adapter
from loadtests.local_cluster import ClusterOptions, LocalCluster
from loadtests.peer_clusters import memcached_servers, redis_cluster
from loadtests.server_process import free_ports

pytestmark = pytest.mark.slow


@contextlib.contextmanager
def kvcache_cluster() -> Iterator[str]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    cluster = LocalCluster(ClusterOptions(nodes=3, replicas=2, memory="16MiB"))
    try:
        asyncio.run_coroutine_threadsafe(cluster.__aenter__(), loop).result(60)
        yield cluster.seeds
    finally:
        asyncio.run_coroutine_threadsafe(cluster.__aexit__(None, None, None), loop).result(60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


SYSTEMS: dict[str, Callable[[], contextlib.AbstractContextManager[str]]] = {
    "kvcache": kvcache_cluster,
    "redis": lambda: redis_cluster(3, 16),
    "memcached": lambda: memcached_servers(3, 16),
}


@pytest.fixture(scope="module", params=SYSTEMS)
def cache(request: pytest.FixtureRequest) -> Iterator[CacheAdapter]:
    with contextlib.ExitStack() as stack:
        try:
            address = stack.enter_context(SYSTEMS[request.param]())
            adapter = open_adapter(request.param, address, 5.0)
        except CannotRun as reason:
            pytest.skip(str(reason))
        stack.callback(adapter.close)
        yield adapter


def test_what_is_set_is_read_back_byte_for_byte_until_it_is_deleted(cache: CacheAdapter) -> None:
    value = bytes(range(256))
    cache.set("bytes", value, None)
    assert cache.get("bytes") == value
    cache.set("bytes", b"", None)
    assert cache.get("bytes") == b""
    cache.delete("bytes")
    assert cache.get("bytes") is None


def test_a_key_that_never_was_is_none_and_can_be_deleted(cache: CacheAdapter) -> None:
    assert cache.get("never") is None
    cache.delete("never")
    assert not cache.touch("never", 10)


def test_a_value_lives_as_long_as_its_ttl_and_a_touch_gives_it_another(cache: CacheAdapter) -> None:
    cache.set("short", b"x", 1.0)
    cache.set("touched", b"x", 1.0)
    assert cache.get("short") == b"x"
    assert cache.touch("touched", 3600)
    wait_until(lambda: cache.get("short") is None)
    assert cache.get("touched") == b"x"


def test_a_number_starts_at_what_is_first_added(cache: CacheAdapter) -> None:
    cache.delete("count")
    assert [cache.incr("count", 1), cache.incr("count", 5)] == [1, 6]


def test_a_batch_tells_what_was_there_whichever_server_holds_it(cache: CacheAdapter) -> None:
    values = {f"batch:{number}": b"%d" % number for number in range(100)}
    stored = cache.set_many(values, None)
    assert set(stored.found) == set(values)
    assert not stored.failed
    answer = cache.get_many([*values, "batch:none"])
    assert dict(answer.found) == values
    assert not answer.failed


def test_a_batch_may_expire(cache: CacheAdapter) -> None:
    cache.set_many({"gone:1": b"1", "gone:2": b"2"}, 1.0)
    assert len(cache.get_many(["gone:1", "gone:2"]).found) == 2
    wait_until(lambda: not cache.get_many(["gone:1", "gone:2"]).found)


def test_each_server_tells_its_figures(cache: CacheAdapter) -> None:
    told = cache.node_figures()
    assert told is not None
    assert [it.evictions for it in told.values()] == [0, 0, 0]
    assert all(0 < it.used_bytes < it.budget_bytes for it in told.values())


def test_an_error_is_one_of_those_that_are_named_and_a_lost_answer_is_in_doubt(cache: CacheAdapter) -> None:
    class Unheard(Exception):
        pass

    assert cache.errors
    assert not issubclass(Unheard, cache.errors)
    key = "x" * 2000  # too long for kvcache and memcached; Redis takes it
    with contextlib.suppress(*cache.errors):
        cache.set(key, b"1", None)
        assert cache.get(key) == b"1"


def test_what_a_client_has_not_is_said(cache: CacheAdapter) -> None:
    try:
        assert cache.get_or_compute("computed", lambda: b"7", 60, 0) == b"7"
    except NoSuchCall as reason:
        assert "get_or_compute" in str(reason)  # noqa: PT017  # either is the contract


@pytest.mark.parametrize("name", SYSTEMS)
def test_where_nothing_answers_one_line_says_so(name: str) -> None:
    [port] = free_ports(1)
    with pytest.raises(CannotRun, match=f"127.0.0.1:{port}") as caught:
        open_adapter(name, f"{name}://127.0.0.1:{port}", 0.5)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("address", ["redis://nowhere", "memcached://127.0.0.1", "memcached://127.0.0.1:x"])
def test_an_address_that_is_none_is_named(address: str) -> None:
    with pytest.raises(CannotRun, match=address):
        open_adapter(address.partition(":")[0], address, 0.5)
