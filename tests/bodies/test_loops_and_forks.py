"""A client in more than one place: another event loop, another process."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from typing import Any

import pytest
import uvloop
from polling import wait_until

from kvcache_client import AsyncClient, ClientClosed, WrongEventLoop


async def test_a_second_live_event_loop_is_refused(one_node: Any) -> None:
    async with AsyncClient(one_node.seeds, timeout=5.0) as cache:
        await cache.set("loops", 1)
        errors: list[BaseException] = []

        def elsewhere() -> None:
            try:
                asyncio.run(cache.get("loops"))
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=elsewhere)
        thread.start()
        await asyncio.to_thread(thread.join, 20)
        assert [type(error) for error in errors] == [WrongEventLoop]
        assert "two event loops" in str(errors[0])
        assert await cache.get("loops") == 1


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # loops end here without closing the client
def test_a_client_works_again_in_the_next_event_loop(one_node: Any) -> None:
    cache = AsyncClient(one_node.seeds, timeout=5.0)

    async def count() -> int:
        return await cache.incr("next-loop", initial=0)

    first = asyncio.run(count())
    assert [asyncio.run(count()) for _ in range(3)] == [first + 1, first + 2, first + 3]

    async def end() -> None:
        await count()
        await cache.close()

    asyncio.run(end())
    gc.collect()  # what the ended loops left open, while its warnings are ignored


async def test_a_second_live_event_loop_can_neither_close_nor_half_close_a_client(one_node: Any) -> None:
    async with AsyncClient(one_node.seeds, timeout=5.0) as cache:
        await cache.set("closing", 1)
        links = dict(cache.session._links)
        with pytest.raises(WrongEventLoop, match="two event loops"):
            await asyncio.to_thread(asyncio.run, cache.close())
        assert await cache.get("closing") == 1
        assert cache.session._links == links
        assert all(link.connected for link in links.values())
    assert await asyncio.to_thread(asyncio.run, cache.close()) is None  # closed already, so it belongs to no loop


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # the first loop ends without closing the client
@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_client_whose_event_loop_is_gone_is_closed_in_another(
    scripted: Any, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    cache = AsyncClient(scripted.address, timeout=5.0)
    with asyncio.Runner(loop_factory=new_loop) as first:
        first.run(cache.set("closing", 1))
    assert scripted.accepted
    with asyncio.Runner(loop_factory=new_loop) as second:
        second.run(cache.close())
        second.run(cache.close())
        with pytest.raises(ClientClosed):
            second.run(cache.get("closing"))
    gc.collect()
    wait_until(lambda: not scripted.connections)


BLOCKING_FORK = """
    import os, sys
    from kvcache_client import Client

    cache = Client(sys.argv[1].split(","), timeout=10.0)
    cache.set("fork", "before")
    keys = [f"fork-{n}" for n in range(50)]
    cache.set_many({key: key for key in keys})
    before = {id(channel) for pool in cache._session._pools.values() for channel in pool}

    def use(who, rounds):
        for n in range(rounds):
            for key in keys:
                assert cache.get(key) == key, (who, key)
            assert cache.set(f"fork-{who}", n)
            assert cache.get(f"fork-{who}") == n

    child = os.fork()
    if child == 0:
        try:
            use("child", 10)
        except BaseException as error:
            print(f"child: {error!r}", file=sys.stderr)
            os._exit(1)
        os._exit(0)
    use("parent", 10)
    _, status = os.waitpid(child, 0)
    use("parent", 1)
    after = {id(channel) for pool in cache._session._pools.values() for channel in pool}
    assert before == after, "the parent's connections were disturbed"
    assert cache.get("fork-child") == 9
    cache.close()
    sys.exit(os.waitstatus_to_exitcode(status))
"""

ASYNC_FORK = """
    import asyncio, os, sys
    from kvcache_client import AsyncClient

    cache = AsyncClient(sys.argv[1].split(","), timeout=10.0)
    keys = [f"afork-{n}" for n in range(50)]

    async def use(who, rounds):
        for n in range(rounds):
            assert await asyncio.gather(*(cache.get(key) for key in keys)) == keys, who
            await cache.set(f"afork-{who}", n)
            assert await cache.get(f"afork-{who}") == n

    def in_child():
        loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(use("child", 10))
        except BaseException as error:
            print(f"child: {error!r}", file=sys.stderr)
            os._exit(1)
        os._exit(0)

    async def main():
        await cache.set_many({key: key for key in keys})
        await use("parent", 1)
        before = {node: link._connection for node, link in cache._session._links.items()}
        child = os.fork()  # in the middle of a running event loop, with connections open
        if child == 0:
            in_child()
        await use("parent", 10)
        status = await asyncio.to_thread(lambda: os.waitpid(child, 0)[1])
        await use("parent", 1)
        assert before == {node: link._connection for node, link in cache._session._links.items()}
        assert await cache.get("afork-child") == 9
        await cache.close()
        return os.waitstatus_to_exitcode(status)

    sys.exit(asyncio.run(main()))
"""

WRITERS_AFTER_FORK = """
    import os, sys
    from kvcache_client import Client

    cache = Client(sys.argv[1].split(","), timeout=10.0)
    cache.set("writers", 0)
    writers = []
    for _ in range(2):
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(write, b"%d" % (cache.set("writers", 1) & 0xFFF))
            os._exit(0)
        os.waitpid(child, 0)
        writers.append(int(os.read(read, 10)))
    writers.append(cache.set("writers", 1) & 0xFFF)
    cache.close()
    assert len(set(writers)) == 3, "two stamp as the same writer, so two writes could have the same version"
"""


@pytest.mark.parametrize(
    "script", [BLOCKING_FORK, ASYNC_FORK, WRITERS_AFTER_FORK], ids=["blocking", "asyncio", "writers"]
)
def test_parent_and_child_of_a_fork_both_use_the_client(three_nodes: Any, script: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), ",".join(three_nodes.addresses)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
