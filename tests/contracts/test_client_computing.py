"""get_or_compute and cached: what both clients promise alike, over real sockets."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from client_faces import Face
from polling import wait_until

from kvcache_client import AsyncClient, Client, ClientClosed, InvalidOption, InvalidTtl


class Loader:
    """Counts its calls and returns, or raises, what it was given."""

    def __init__(self, result: Any) -> None:
        self.result = result
        self.calls = 0

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        self.calls += 1
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result


@pytest.mark.parametrize("value", [None, 0, "text", b"bytes", {"a": [1, (2, 3)]}, [{1, 2}]], ids=repr)
async def test_a_value_is_computed_once_and_is_the_same_when_it_comes_from_the_cache(cache: Face, value: Any) -> None:
    load = Loader(value)
    for _ in range(3):
        back = await cache.get_or_compute("k", load, ttl="5m")
        assert back == value
        assert type(back) is type(value)
    assert load.calls == 1
    assert await cache.get("k", default="miss") == value


async def test_two_callers_do_not_share_one_object(cache: Face) -> None:
    first = await cache.get_or_compute("k", Loader(made := {"list": []}), 60)
    first["list"].append(1)
    assert made == {"list": []}
    assert await cache.get_or_compute("k", Loader(None), 60) == {"list": []}


async def test_an_error_goes_to_the_caller_and_nothing_is_kept(cache: Face) -> None:
    error = ZeroDivisionError("no")
    with pytest.raises(ZeroDivisionError) as caught:
        await cache.get_or_compute("k", Loader(error), ttl=60)
    assert caught.value is error
    assert await cache.get_or_compute("k", Loader("value"), ttl=60) == "value"


async def test_clients_wait_for_each_other(
    open_client: Callable[..., Face], cluster: Any, request: pytest.FixtureRequest
) -> None:
    """Twelve threads, with a client and a loop of their own, want one key: one of them computes, the others get its value."""
    make = type(open_client(cluster.seeds).client)
    started, loads = threading.Barrier(12), []
    results: list[Any] = []

    def slowly() -> str:
        loads.append(1)
        threading.Event().wait(0.2)
        return "value"

    def run() -> None:
        started.wait()
        key = request.node.name
        if make is Client:
            with Client(cluster.seeds, timeout=5.0) as client:
                results.append(client.get_or_compute(key, slowly, 60))
        else:
            results.append(asyncio.run(run_async(key)))

    async def run_async(key: str) -> Any:
        async with AsyncClient(cluster.seeds, timeout=5.0) as client:
            return await client.get_or_compute(key, slowly, 60)

    threads = [threading.Thread(target=run) for _ in range(12)]
    for thread in threads:
        thread.start()
    await asyncio.to_thread(lambda: [thread.join() for thread in threads])
    assert results == ["value"] * 12
    assert len(loads) == 1


async def test_without_any_node_the_value_is_computed_all_the_same(open_client: Callable[..., Face]) -> None:
    cache = open_client("127.0.0.1:1", timeout=0.3, connect_timeout=0.3)
    load = Loader("value")
    assert await cache.get_or_compute("k", load, ttl=60) == "value"
    assert load.calls == 1
    assert cache.client.brain.counters.computed_alone == 1


@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        ({"stale": 5}, InvalidOption, "stale=5 contradicts ttl=None"),
        ({"ttl": -1}, InvalidTtl, "ttl=-1"),
        ({"ttl": "5 minutes"}, InvalidTtl, "like '2h5m'"),
        ({"ttl": 5, "jitter": 2}, InvalidOption, "jitter=2"),
    ],
)
async def test_options_that_make_no_sense_are_refused_before_anything_is_done(
    cache: Face, options: dict[str, Any], error: type[Exception], named: str
) -> None:
    load = Loader(1)
    with pytest.raises(error, match=named):
        await cache.get_or_compute("k", load, **options)
    with pytest.raises(error, match=named):
        cache.client.cached(key="k", **options)
    assert load.calls == 0


def cached(cache: Face, function: Callable[..., Any], **options: Any) -> Any:
    """Decorate a function, as a coroutine function where the client is an asynchronous one."""
    if isinstance(cache.client, Client):
        return cache.client.cached(**options)(function)

    async def asynchronous(user: int, *, part: str = "name") -> Any:
        """Say who."""
        return function(user, part=part)

    return cache.client.cached(**options)(asynchronous)


async def called(result: Any) -> Any:
    return await result if asyncio.iscoroutine(result) else result


async def test_a_decorated_function_is_called_once_for_each_key(cache: Face) -> None:
    calls: list[tuple[int, str]] = []

    def show(user: int, *, part: str = "name") -> str:
        """Say who."""
        calls.append((user, part))
        return f"{user}'s {part}"

    function = cached(cache, show, key="user:{user}:{part}", ttl="5m")
    for _ in range(2):
        assert await called(function(1)) == "1's name"
        assert await called(function(user=1, part="name")) == "1's name"
        assert await called(function(2, part="age")) == "2's age"
    assert calls == [(1, "name"), (2, "age")]
    assert function.key(1) == "user:1:name"
    assert await cache.get("user:1:name") == "1's name"
    assert await called(function.invalidate(1)) is True
    assert await called(function.invalidate(1)) is False
    assert await called(function(1)) == "1's name"
    assert calls[2:] == [(1, "name")]
    assert function.__doc__ == "Say who."
    assert await called(function.__wrapped__(3)) == "3's name"
    with pytest.raises(TypeError, match="argument"):
        await called(function())


@pytest.mark.parametrize(
    ("template", "complaint"),
    [
        ("user:{id}", "no argument 'id'; it has 'user', 'part'"),
        ("user:{}", "no argument ''"),
        ("user:{0}", "no argument '0'"),
        ("user:{user", "expected '}'"),
        ("user:{user:{width}}", "no argument 'width'"),
        ("", "must be a text"),
        (5, "must be a text"),
    ],
)
async def test_a_template_that_fits_no_argument_is_refused_at_once(cache: Face, template: Any, complaint: str) -> None:
    def show(user: int, *, part: str = "name") -> None: ...

    with pytest.raises(InvalidOption, match="key=") as caught:
        cached(cache, show, key=template, ttl=60)
    assert complaint in str(caught.value)


async def test_methods_can_be_cached(cache: Face) -> None:
    loads = []
    if isinstance(cache.client, Client):

        class Shop:
            name = "one"

            @cache.client.cached(key="{self.name}:{item}", ttl=60)
            def price(self, item: str) -> int:
                loads.append(item)
                return len(item)
    else:

        class Shop:  # type: ignore[no-redef]
            name = "one"

            @cache.client.cached(key="{self.name}:{item}", ttl=60)
            async def price(self, item: str) -> int:
                loads.append(item)
                return len(item)

    for _ in range(2):
        assert await called(Shop().price("book")) == 4
    assert loads == ["book"]


async def test_a_function_is_good_enough_for_the_asynchronous_client(one_node: Any) -> None:
    async with AsyncClient(one_node.seeds, timeout=5.0) as cache:
        load = Loader(7)

        @cache.cached(key="plain:{number}", ttl=60)
        def plain(number: int) -> Any:
            return load()

        assert [await plain(1), await plain(1)] == [7, 7]
        assert load.calls == 1


def test_a_coroutine_function_needs_the_asynchronous_client(one_node: Any) -> None:
    async def load() -> int:
        return 1

    with Client(one_node.seeds, timeout=5.0) as cache:
        with pytest.raises(InvalidOption, match="needs an AsyncClient"):
            cache.get_or_compute("k", load)
        with pytest.raises(InvalidOption, match="needs an AsyncClient"):
            cache.cached(key="k")(load)


async def test_tasks_share_one_computation_and_the_cancelled_leave_it_to_the_others(one_node: Any) -> None:
    async with AsyncClient(one_node.seeds, timeout=5.0) as cache:
        loads, go_on = [], asyncio.Event()

        async def load() -> str:
            loads.append(1)
            await go_on.wait()
            return "value"

        tasks = [asyncio.create_task(cache.get_or_compute("shared", load, 60)) for _ in range(50)]
        while not loads:
            await asyncio.sleep(0)
        for task in tasks[:10]:
            task.cancel()
        await asyncio.wait(tasks[:10])
        go_on.set()
        assert await asyncio.gather(*tasks[10:]) == ["value"] * 40
        assert len(loads) == 1
        assert all(task.cancelled() for task in tasks[:10])
        assert cache.brain.flights == {}


async def test_a_computation_that_nobody_waits_for_is_broken_off_and_its_lease_given_back(one_node: Any) -> None:
    node = one_node.nodes[0].node
    async with (
        AsyncClient(one_node.seeds, timeout=5.0) as one,
        AsyncClient(one_node.seeds, timeout=5.0) as other,
    ):
        loading, cancelled = asyncio.Event(), asyncio.Event()

        async def hang() -> None:
            loading.set()
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

        async def load() -> str:
            return "value"

        task = asyncio.create_task(one.get_or_compute("abandoned", hang, 60))
        await loading.wait()
        waiting = asyncio.create_task(other.get_or_compute("abandoned", load, 60))
        await asyncio.to_thread(wait_until, lambda: node.service.leases.waiting == 1)
        task.cancel()
        await asyncio.wait((task,))
        await cancelled.wait()
        assert await asyncio.wait_for(waiting, 3.0) == "value"
        assert task.cancelled()
        assert not node.service.leases.held


def test_threads_share_one_computation_and_one_error(one_node: Any) -> None:
    with Client(one_node.seeds, timeout=5.0) as cache:
        loads: list[int] = []
        outcomes: list[Any] = []
        begin = threading.Barrier(20)

        def load() -> Any:
            loads.append(1)
            threading.Event().wait(0.2)
            raise ZeroDivisionError

        def call() -> None:
            begin.wait()
            try:
                outcomes.append(cache.get_or_compute("threads", load, 60))
            except ZeroDivisionError as error:
                outcomes.append(error)

        threads = [threading.Thread(target=call) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [type(outcome) for outcome in outcomes] == [ZeroDivisionError] * 20
        assert len(loads) == 1
        assert cache.brain.flights == {}


def test_a_holder_that_is_gone_frees_those_who_wait(one_node: Any) -> None:
    node = one_node.nodes[0].node
    holder, waiter = Client(one_node.seeds, timeout=5.0), Client(one_node.seeds, timeout=5.0)
    results: list[Any] = []
    hanging, end = threading.Event(), threading.Event()

    def hang() -> str:
        hanging.set()
        end.wait()
        return "too late"

    first = threading.Thread(target=lambda: holder.get_or_compute("gone", hang, 60))
    second = threading.Thread(target=lambda: results.append(waiter.get_or_compute("gone", lambda: "value", 60)))
    try:
        first.start()
        hanging.wait()
        second.start()
        wait_until(lambda: node.service.leases.waiting == 1)
        holder.close()
        second.join()
        assert results == ["value"]
    finally:
        end.set()
        first.join()
        waiter.close()


async def test_closing_the_client_ends_a_computation_and_those_who_wait(one_node: Any) -> None:
    cache = AsyncClient(one_node.seeds, timeout=5.0)
    loading, cancelled = asyncio.Event(), asyncio.Event()

    async def hang() -> None:
        loading.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    calls = [asyncio.create_task(cache.get_or_compute("closed", hang, 60)) for _ in range(3)]
    await loading.wait()
    await cache.close()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ClientClosed] * 3
    assert cancelled.is_set()


async def test_a_loader_that_hangs_in_one_process_does_not_keep_another(one_node: Any, make: type[Any]) -> None:
    loading, end = threading.Event(), threading.Event()
    key = f"hung:{make.__name__}"

    def hang() -> str:
        loading.set()
        end.wait()
        return "too late"

    with Client(one_node.seeds, timeout=5.0) as hanging:
        thread = threading.Thread(target=lambda: hanging.get_or_compute(key, hang, 60, lease=0.3))
        thread.start()
        try:
            await asyncio.to_thread(loading.wait)
            other = Face(make(one_node.seeds, timeout=5.0))
            assert await other.get_or_compute(key, Loader("value"), 60) == "value"
            await other.close()
        finally:
            end.set()
            await asyncio.to_thread(thread.join)
        assert hanging.get(key) == "value"
        assert hanging.brain.counters.void_fills == 1
