"""The registry against a real server: compare-and-set under races, outages and damage."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
from contextlib import suppress
from dataclasses import replace

import pytest

from kvcache.cluster.embedded import EmbeddedValkey
from kvcache.cluster.registry import Registry
from kvcache_client.placement.topology import DOCUMENT_BYTES, Member
from kvcache_client.protocol.errors import ControlPlaneUnavailable, InvalidOption, TopologyError


async def test_an_empty_server_has_no_document(registry):
    assert await registry.load() is None


async def test_the_first_member_founds_the_cluster(registry, founding, member):
    document = await registry.register(member(1), founding)
    assert document.members == (member(1),)
    assert await registry.load() == document


async def test_a_later_member_joins_what_the_first_founded(registry, founding, member):
    first = await registry.register(member(1), founding)
    second = await registry.register(member(2), founding)
    assert second.cluster_id == first.cluster_id
    assert second.epoch == first.epoch + 1
    assert [(each.id, each.state) for each in second.members] == [("node-1", "up"), ("node-2", "joining")]
    assert second.layout == first.layout


async def test_a_member_that_is_registered_already_makes_no_new_epoch(registry, founding, member):
    first = await registry.register(member(1), founding)
    assert await registry.register(member(1), founding) == first
    assert (await registry.load()).epoch == first.epoch


async def test_a_new_incarnation_takes_the_place_of_the_old_one(registry, founding, member):
    first = await registry.register(member(1), founding)
    second = await registry.register(member(1, "second"), founding)
    assert second.epoch == first.epoch + 1
    assert second.members == (replace(member(1, "second"), state="syncing"),)


async def test_a_founding_document_that_lists_the_member_is_stored_as_it_is(registry, founding, member):
    complete = founding().with_member(member(1)).settled()
    assert await registry.register(member(1), lambda: complete) == complete


async def test_registrations_at_once_lose_no_member_and_skip_no_epoch(valkey, registries, founding, member):
    many = [registries(valkey.url) for _ in range(24)]
    documents = await asyncio.gather(*(each.register(member(number), founding) for number, each in enumerate(many, 1)))
    epochs = sorted(document.epoch for document in documents)
    assert epochs == list(range(epochs[0], epochs[0] + 24))
    final = await many[0].load()
    assert {each.id for each in final.members} == {f"node-{number}" for number in range(1, 25)}
    assert {document.cluster_id for document in documents} == {final.cluster_id}


async def test_a_commit_on_another_epoch_changes_nothing(registry, founding, member):
    stored = await registry.register(member(1), founding)
    later = replace(stored, epoch=stored.epoch + 9)
    assert not await registry.commit(later, stored.epoch + 1)
    assert not await registry.commit(later, stored.epoch - 1)
    assert not await registry.commit(later, 0)
    assert await registry.load() == stored


async def test_a_commit_on_the_stored_epoch_is_kept(registry, founding, member):
    stored = await registry.register(member(1), founding)
    assert await registry.commit(stored.with_member(member(2)), stored.epoch)
    assert (await registry.load()).members == (member(1), member(2))


async def test_a_commit_that_expects_a_document_where_none_is_changes_nothing(registry, founding):
    assert not await registry.commit(replace(founding(), epoch=8), 7)
    assert await registry.load() is None


async def test_a_document_that_does_not_advance_is_refused_before_it_is_sent(registry, founding):
    document = replace(founding(), epoch=7)
    with pytest.raises(TopologyError, match="cannot follow epoch 7"):
        await registry.commit(document, 7)


async def test_a_document_of_another_cluster_name_is_refused_before_it_is_sent(registry, founding):
    with pytest.raises(TopologyError, match="'other'"):
        await registry.commit(founding("other"), 0)


async def test_a_document_of_another_cluster_id_is_never_overwritten(registry, founding, member):
    stored = await registry.register(member(1), founding)
    with pytest.raises(TopologyError, match="foreign"):
        await registry.commit(replace(founding(), epoch=stored.epoch + 1), stored.epoch)
    assert await registry.load() == stored


DAMAGED = [
    b"",
    b"no json",
    b"[]",
    b'"text"',
    b'{"epoch": 1}',
    b'{"epoch": "1"}',
    b"\xff\xfe",
    b" " * (DOCUMENT_BYTES + 1),
]


@pytest.mark.parametrize("damaged", DAMAGED, ids=[repr(each[:16]) for each in DAMAGED])
async def test_a_damaged_document_is_reported_and_left_alone(registry, server, founding, member, damaged):
    await server("SET", registry.key, damaged)
    with pytest.raises(TopologyError, match="damaged"):
        await registry.load()
    with pytest.raises(TopologyError, match="damaged"):
        await registry.register(member(1), founding)
    with suppress(TopologyError):
        assert not await registry.commit(founding(), 0)
    with suppress(TopologyError):
        assert not await registry.commit(replace(founding(), epoch=2), 1)
    assert await server("GET", registry.key) == damaged


async def test_a_key_that_is_no_string_is_reported_and_left_alone(registry, server, founding, member):
    await server("RPUSH", registry.key, "entry")
    for attempt in (registry.load(), registry.register(member(1), founding), registry.commit(founding(), 0)):
        with pytest.raises(TopologyError, match="WRONGTYPE"):
            await attempt
    assert await server("LRANGE", registry.key, 0, -1) == [b"entry"]


async def test_the_document_of_another_cluster_under_our_key_is_refused(registry, server, founding):
    await server("SET", registry.key, founding("other").to_json())
    with pytest.raises(TopologyError, match="'other'"):
        await registry.load()


async def test_clusters_on_one_server_do_not_see_each_other(valkey, registries, founding, member):
    one, two = registries(valkey.url, "one"), registries(valkey.url, "two")
    await one.register(member(1), lambda: founding("one"))
    assert await two.load() is None
    await two.register(member(2), lambda: founding("two"))
    assert (await one.load()).members == (member(1),)


async def test_no_server_is_a_typed_error_that_names_it(registries, founding, member):
    async with EmbeddedValkey() as gone:
        url = gone.url
    registry = registries(url)
    for attempt in (registry.load(), registry.register(member(1), founding), registry.commit(founding(), 0)):
        with pytest.raises(ControlPlaneUnavailable, match=f"{url} does not answer"):
            await attempt


async def test_a_server_that_accepts_and_never_answers_is_given_up(valkey, registries):
    registry = registries(valkey.url, timeout=0.2)
    await registry.load()
    os.kill(valkey.pid, signal.SIGSTOP)
    try:
        with pytest.raises(ControlPlaneUnavailable):
            await registry.load()
    finally:
        os.kill(valkey.pid, signal.SIGCONT)
    assert await registry.load() is None


async def test_a_server_that_refuses_writes_is_unavailable_and_unchanged(registry, server, founding, member):
    stored = await registry.register(member(1), founding)
    await server("CONFIG", "SET", "min-replicas-to-write", "1")
    with pytest.raises(ControlPlaneUnavailable, match="refused: NOREPLICAS"):
        await registry.register(member(2), founding)
    assert await registry.load() == stored


async def test_a_server_that_wants_a_password_is_unavailable_and_the_error_keeps_ours(valkey, registries, server):
    await server("CONFIG", "SET", "requirepass", "right")
    with pytest.raises(ControlPlaneUnavailable):
        await registries(valkey.url).load()
    wrong = registries(f"redis://user:secret@127.0.0.1:{valkey.port}")
    with pytest.raises(ControlPlaneUnavailable) as caught:
        await wrong.load()
    assert "secret" not in str(caught.value) + repr(wrong)
    assert await registries(f"redis://:right@127.0.0.1:{valkey.port}").load() is None


async def test_a_cancelled_call_does_not_hand_its_answer_to_the_next(registry, founding, member):
    stored = await registry.register(member(1), founding)
    dice = random.Random(4711)
    for _ in range(60):
        call = asyncio.ensure_future(registry.load())
        for _ in range(dice.randrange(12)):
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        assert not await registry.commit(replace(stored, epoch=99), 98)
    assert await registry.load() == stored


async def test_a_restarted_server_is_used_again_without_a_new_registry(valkey, registry, founding, member):
    await registry.register(member(1), founding)
    await valkey.stop()
    with pytest.raises(ControlPlaneUnavailable):
        await registry.load()
    async with EmbeddedValkey(valkey.port):
        assert await registry.load() is None
        await registry.register(member(2), founding)


async def test_joining_waits_for_the_server_and_says_so_once(registries, founding, member, until, caplog):
    caplog.set_level(logging.INFO, "kvcache.cluster")
    async with EmbeddedValkey() as probe:
        port, url = probe.port, probe.url
    joining = asyncio.ensure_future(registries(url).join(member(1), founding))
    await until(lambda: "cannot register node-1" in caplog.text)
    assert not joining.done()
    async with EmbeddedValkey(port):
        document = await joining
    assert document.members == (member(1),)
    assert caplog.text.count("cannot register node-1") == 1
    assert "answers again" in caplog.text


async def test_joining_a_damaged_cluster_fails_at_once(registry, server, founding, member):
    await server("SET", registry.key, b"no json")
    with pytest.raises(TopologyError):
        await registry.join(member(1), founding)


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a/b", "x" * 65, "*", "naïve", None, 5])
def test_a_bad_cluster_name_is_refused(name):
    with pytest.raises(InvalidOption, match="cluster"):
        Registry("redis://127.0.0.1:1", name)


@pytest.mark.parametrize("url", ["", "http://127.0.0.1", "127.0.0.1:6379", "redis://127.0.0.1:port", None])
def test_a_bad_url_is_refused(url):
    with pytest.raises(InvalidOption, match="coordinator"):
        Registry(url, "test")


async def test_a_valkey_url_means_the_same(valkey, registries):
    assert await registries(valkey.url.replace("redis://", "valkey://")).load() is None


async def test_closing_twice_is_fine(registry):
    await registry.load()
    await registry.close()
    await registry.close()


def test_the_members_of_a_document_stay_in_order(founding, member):
    document = founding().with_member(member(2)).with_member(member(1))
    assert [each.id for each in document.members] == ["node-1", "node-2"]
    assert isinstance(document.members[0], Member)
