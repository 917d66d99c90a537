"""Following the document: nothing old, nothing twice, nothing lost, whatever happens to the server."""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import pytest

from kvcache.cluster import registry as registry_module
from kvcache.cluster.embedded import EmbeddedValkey


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(registry_module, "POLL_SECONDS", 0.2)


@asynccontextmanager
async def watching(registry, known=None):
    """Collect what a watch yields while the block runs."""
    seen = []

    async def collect():
        async for document in registry.watch(known):
            seen.append(document)  # noqa: PERF401  the test reads it while it grows

    task = asyncio.ensure_future(collect())
    try:
        yield seen
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_a_watch_begins_with_the_present_document(registry, founding, member, until):
    stored = await registry.register(member(1), founding)
    async with watching(registry) as seen:
        await until(lambda: seen)
    assert seen == [stored]


async def test_a_watch_waits_for_the_first_document(registry, founding, member, until):
    async with watching(registry) as seen:
        stored = await registry.register(member(1), founding)
        await until(lambda: seen)
    assert seen == [stored]


async def test_a_known_document_is_not_yielded_again(registry, founding, member, until):
    stored = await registry.register(member(1), founding)
    async with watching(registry, stored) as seen:
        later = await registry.register(member(2), founding)
        await until(lambda: seen)
    assert seen == [later]


async def test_every_watch_sees_the_last_of_many_changes_and_only_rising_epochs(
    valkey, registries, founding, member, until
):
    watcher, *writers = (registries(valkey.url) for _ in range(9))
    async with watching(watcher) as one, watching(writers[0]) as two:
        await asyncio.gather(*(each.register(member(number), founding) for number, each in enumerate(writers)))
        last = await watcher.load()
        await until(lambda: one[-1:] == [last] == two[-1:])
    for seen in (one, two):
        epochs = [document.epoch for document in seen]
        assert epochs == sorted(set(epochs))


async def test_a_change_whose_event_was_lost_is_found_by_the_poll(registry, server, founding, member, until):
    stored = await registry.register(member(1), founding)
    async with watching(registry) as seen:
        await until(lambda: seen)
        later = stored.with_member(member(2))
        await server("SET", registry.key, later.to_json())
        await until(lambda: len(seen) == 2)
    assert seen == [stored, later]


async def test_noise_on_the_channel_changes_nothing(registry, server, founding, member, until):
    stored = await registry.register(member(1), founding)
    async with watching(registry) as seen:
        await until(lambda: seen)
        for noise in (b"", b"\xff", b"999", b"-1"):
            await server("PUBLISH", registry.channel, noise)
        later = await registry.register(member(2), founding)
        await until(lambda: len(seen) > 1)
    assert seen == [stored, later]


async def test_a_rolled_back_document_is_refused_and_logged_once(registry, server, founding, member, until, caplog):
    old = await registry.register(member(1), founding)
    new = await registry.register(member(2), founding)
    async with watching(registry) as seen:
        await until(lambda: seen)
        await server("SET", registry.key, old.to_json())
        await server("PUBLISH", registry.channel, b"1")
        await until(lambda: "refused a foreign or older document" in caplog.text)
        await server("PUBLISH", registry.channel, b"1")
        await server("SET", registry.key, new.with_member(member(3)).to_json())
        await until(lambda: len(seen) == 2)
    assert [len(document.members) for document in seen] == [2, 3]
    assert caplog.text.count("refused a foreign or older document") == 1


async def test_another_content_under_the_same_epoch_is_refused(registry, server, founding, member, until, caplog):
    stored = await registry.register(member(1), founding)
    async with watching(registry) as seen:
        await until(lambda: seen)
        await server("SET", registry.key, replace(stored, replication_factor=3).to_json())
        await until(lambda: "refused a foreign or older document" in caplog.text)
    assert seen == [stored]


async def test_another_cluster_with_a_higher_epoch_is_refused(registry, server, founding, member, until, caplog):
    stored = await registry.register(member(1), founding)
    async with watching(registry) as seen:
        await until(lambda: seen)
        await server("SET", registry.key, replace(founding(), epoch=99).to_json())
        await until(lambda: "refused a foreign or older document" in caplog.text)
    assert seen == [stored]


async def test_a_damaged_document_is_passed_over_until_it_is_whole_again(
    registry, server, founding, member, until, caplog
):
    stored = await registry.register(member(1), founding)
    async with watching(registry) as seen:
        await until(lambda: seen)
        await server("SET", registry.key, b"no json")
        await until(lambda: "damaged" in caplog.text)
        later = stored.with_member(member(2))
        await server("SET", registry.key, later.to_json())
        await until(lambda: len(seen) == 2)
    assert seen == [stored, later]


async def test_a_server_that_comes_back_empty_shrinks_nothing_and_is_followed_again(
    valkey, registry, founding, member, until, caplog
):
    caplog.set_level(logging.INFO, "kvcache.cluster")
    stored = await registry.register(member(1), founding)
    async with watching(registry) as seen:
        await until(lambda: seen)
        await valkey.stop()
        await until(lambda: "does not hear of changes" in caplog.text)
        async with EmbeddedValkey(valkey.port):
            await until(lambda: "is gone" in caplog.text)
            assert caplog.text.count("does not hear of changes") == 1
            assert seen == [stored]
            later = stored.with_member(member(2))
            assert await registry.commit(later, 0)
            await until(lambda: len(seen) == 2)
    assert seen == [stored, later]


async def test_a_watch_that_begins_before_the_server_waits_for_it(registries, founding, member, until, caplog):
    async with EmbeddedValkey() as probe:
        port, url = probe.port, probe.url
    registry = registries(url)
    async with watching(registry) as seen:
        await until(lambda: "does not hear of changes" in caplog.text)
        async with EmbeddedValkey(port):
            stored = await registry.register(member(1), founding)
            await until(lambda: seen)
    assert seen == [stored]


async def test_a_watch_ends_whenever_it_is_cancelled(registry):
    dice = random.Random(4711)
    for _ in range(80):
        task = asyncio.ensure_future(anext(registry.watch()))
        for _ in range(dice.randrange(50)):
            await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=10)
        assert done
        assert task.cancelled()
