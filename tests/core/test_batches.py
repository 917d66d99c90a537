"""Batches: a few frames to each node, each key's own outcome, and the careful path for what failed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from memory_network import CLEAR, MemoryNetwork, Weather

from kvcache_client.protocol.errors import (
    BatchTooLarge,
    InDoubt,
    InvalidKey,
    Unavailable,
    UndecodableValue,
    UnsupportedValue,
)
from kvcache_client.protocol.limits import KEYS_PER_BATCH, KEYS_PER_FRAME
from kvcache_client.protocol.record import make_record
from kvcache_client.protocol.verbs import Verb
from kvcache_client.protocol.version import version_at

KEYS = [f"key-{number}" for number in range(300)]


def asked(network: MemoryNetwork, verb: Verb) -> int:
    return sum(node.asked[verb] for node in network.nodes.values())


def test_what_is_there_what_is_missing_and_what_failed_are_told_apart(network: MemoryNetwork) -> None:
    client = network.client()
    written = client.set_many({key: number for number, key in enumerate(KEYS)}, ttl=60)
    assert set(written) == set(KEYS)
    assert not written.missing
    assert not written.failed
    found = client.get_many([*KEYS, "absent", b"bytes"])
    assert found == {key: number for number, key in enumerate(KEYS)}
    assert found.missing == {"absent", b"bytes"}
    assert not found.failed
    found.raise_failed()
    entry = client.get_entry(KEYS[7])
    assert entry is not None
    assert entry.version == written[KEYS[7]]
    deleted = client.delete_many([*KEYS[:10], "absent"])
    assert dict(deleted) == dict.fromkeys(KEYS[:10], True)
    assert deleted.missing == {"absent"}
    assert client.get_many(KEYS[:11]) == {KEYS[10]: 10}


def test_a_batch_is_one_round_trip(network: MemoryNetwork) -> None:
    client = network.client()
    client.set_many(dict.fromkeys(KEYS, 1))
    client.get_many(KEYS)
    assert asked(network, Verb.PUT_MANY) == len(network.nodes)
    assert asked(network, Verb.GET_MANY) == len(network.nodes)
    assert asked(network, Verb.PUT) == asked(network, Verb.GET) == asked(network, Verb.PEEK) == 0


def test_a_large_batch_is_split_into_frames(make_network: Callable[..., MemoryNetwork]) -> None:
    network = make_network(1, 1)
    client = network.client()
    many = {f"{number}": number for number in range(2 * KEYS_PER_FRAME + 1)}
    assert len(client.set_many(many)) == len(many)
    assert client.get_many(many) == many
    assert asked(network, Verb.GET_MANY) == 3
    large = {f"large-{number}": b"x" * 100_000 for number in range(20)}
    assert len(client.set_many(large)) == 20
    assert asked(network, Verb.PUT_MANY) == 3 + 7  # a frame is closed once it holds 256 KiB


def test_an_empty_batch_asks_nobody(network: MemoryNetwork) -> None:
    client = network.client()
    for result in (client.get_many([]), client.set_many({}), client.delete_many(iter(()))):
        assert (len(result), len(result.missing), len(result.failed)) == (0, 0, 0)
    assert not any(node.asked.total() for node in network.nodes.values())


def test_a_key_given_twice_is_asked_once(network: MemoryNetwork) -> None:
    client = network.client()
    client.set("k", 1)
    assert client.get_many(["k", "k", b"k"]) == {"k": 1, b"k": 1}
    deleted = client.delete_many(["k", "k"])
    assert dict(deleted) == {"k": True}


def test_a_key_written_as_text_and_as_bytes_has_one_version(network: MemoryNetwork) -> None:
    client = network.client()
    written = client.set_many({"k": 1, "other": 2, b"k": 3})
    assert written["k"] == written[b"k"] != written["other"]
    entry = client.get_entry("k")
    assert entry is not None
    assert (entry.value, entry.version) == (3, written["k"])


def test_keys_come_back_as_the_caller_wrote_them(network: MemoryNetwork) -> None:
    client = network.client()
    client.set_many({"text": 1, b"bytes": 2, "ключ": 3})
    assert dict(client.get_many(iter(["text", b"bytes", "ключ"]))) == {"text": 1, b"bytes": 2, "ключ": 3}


@pytest.mark.parametrize("keys", ["abc", b"abc"])
def test_one_key_in_place_of_several_is_refused(network: MemoryNetwork, keys: Any) -> None:
    client = network.client()
    for verb in (client.get_many, client.delete_many):
        with pytest.raises(InvalidKey, match="a batch takes several keys, this is a single one"):
            verb(keys)


@pytest.mark.parametrize("keys", [5, None, object, 10**5000], ids=["int", "None", "a class", "too long to show"])
def test_what_holds_no_keys_is_refused(network: MemoryNetwork, keys: Any) -> None:
    client = network.client()
    for verb in (client.get_many, client.delete_many):
        with pytest.raises(InvalidKey, match=f"a batch takes several keys, not {type(keys).__name__}: "):
            verb(keys)


@pytest.mark.parametrize("key", ["", "x" * 1025, 5, None, ["list"]])
def test_one_bad_key_refuses_the_batch_before_anything_is_sent(network: MemoryNetwork, key: Any) -> None:
    client = network.client()
    with pytest.raises(InvalidKey):
        client.get_many(["good", key])
    with pytest.raises(InvalidKey):
        client.delete_many(["good", key])
    if not isinstance(key, list):
        with pytest.raises(InvalidKey):
            client.set_many({"good": 1, key: 1})
    assert not any(node.asked.total() for node in network.nodes.values())


def test_set_many_takes_a_mapping_of_storable_values_only(network: MemoryNetwork) -> None:
    client = network.client()
    with pytest.raises(UnsupportedValue, match="set_many takes a mapping"):
        client.set_many([("k", 1)])  # type: ignore[arg-type]
    with pytest.raises(UnsupportedValue, match="is a complex"):
        client.set_many({"good": 1, "bad": 1j})
    assert client.get("good") is None


def test_more_keys_than_one_call_may_carry_are_refused(network: MemoryNetwork) -> None:
    client = network.client()
    too_many = [f"{number}" for number in range(KEYS_PER_BATCH + 1)]
    for call in (
        lambda: client.get_many(too_many),
        lambda: client.delete_many(iter(too_many)),
        lambda: client.set_many(dict.fromkeys(too_many, 1)),
    ):
        with pytest.raises(BatchTooLarge, match="over 100000 keys") as caught:
            call()
        assert caught.value.detail == KEYS_PER_BATCH
    assert not any(node.asked.total() for node in network.nodes.values())


@pytest.mark.parametrize("failure", ["kill", "pause"])
def test_a_batch_survives_the_loss_of_a_node(make_network: Callable[..., MemoryNetwork], failure: str) -> None:
    network = make_network(4, 2)
    client = network.client()
    client.set_many(dict.fromkeys(KEYS, "before"))
    getattr(network.nodes["n2"], failure)()
    found = client.get_many([*KEYS, "absent"])
    assert dict(found) == dict.fromkeys(KEYS, "before")
    assert found.missing == {"absent"}
    written = client.set_many(dict.fromkeys(KEYS, "after"))
    assert set(written) == set(KEYS)
    assert dict(client.get_many(KEYS)) == dict.fromkeys(KEYS, "after")
    network.nodes["n3"].kill()
    survivors = network.client().get_many(KEYS)
    assert dict(survivors) == dict.fromkeys(KEYS, "after")
    assert len(client.delete_many(KEYS[:5])) == 5


def test_only_the_keys_of_nodes_that_are_gone_fail_and_each_says_why(
    make_network: Callable[..., MemoryNetwork],
) -> None:
    network = make_network(4, 1)
    client = network.client()
    client.set_many(dict.fromkeys(KEYS, 1))
    network.nodes["n2"].kill()
    lost = {key for key in KEYS if network.owners(key)[0].id == "n2"}
    found = client.get_many(KEYS)
    assert set(found.failed) == lost
    assert set(found) == set(KEYS) - lost
    assert not found.missing
    assert all(isinstance(error, Unavailable) and "n2" in str(error) for error in found.failed.values())
    with pytest.raises(Unavailable):
        found.raise_failed()


def test_writes_that_too_few_hold_fail_key_by_key(make_network: Callable[..., MemoryNetwork]) -> None:
    network = make_network(2, 2)
    client = network.client()
    network.nodes["n1"].kill()
    written = client.set_many(dict.fromkeys(KEYS[:20], 1))
    assert not written
    assert set(written.failed) == set(KEYS[:20])
    assert all(isinstance(error, InDoubt) for error in written.failed.values())


def test_a_value_that_cannot_be_decoded_costs_only_itself(network: MemoryNetwork) -> None:
    client = network.client()
    client.set_many({"good": 1, "bad": 2})
    view = client.brain.require_view()
    record = make_record(version_at(network.wall_ms() + 100), (1 << 48) - 1, 0, b"\xc1")
    for node in network.owners("bad"):
        node.store.put(view.partition(b"bad"), b"bad", record)
    found = client.get_many(["good", "bad", "absent"])
    assert dict(found) == {"good": 1}
    assert isinstance(found.failed["bad"], UndecodableValue)
    assert found.missing == {"absent"}


def test_what_did_not_fit_into_a_reply_is_asked_again(make_network: Callable[..., MemoryNetwork]) -> None:
    network = make_network(1, 1)
    client = network.client()
    large = {f"{number}": bytes([number]) * 1_000_000 for number in range(12)}
    for key, value in large.items():
        client.set(key, value)
    assert dict(client.get_many(large)) == large
    assert asked(network, Verb.GET_MANY) == 1
    assert asked(network, Verb.GET) == 3  # the reply had room for nine


def test_a_slow_clock_loses_no_write_of_a_batch(network: MemoryNetwork) -> None:
    fast, slow = network.client(), network.client()
    slow.get_many(KEYS)
    slow.session.skew_ms = -400
    fast.set_many(dict.fromkeys(KEYS[:30], "first"))
    assert len(slow.set_many(dict.fromkeys(KEYS[:30], "second"))) == 30
    assert dict(fast.get_many(KEYS[:30])) == dict.fromkeys(KEYS[:30], "second")


def test_a_batch_reaches_the_right_nodes_after_the_cluster_has_grown(network: MemoryNetwork) -> None:
    from memory_network import cluster_of

    client = network.client()
    client.set_many(dict.fromkeys(KEYS, 1))
    network.change(cluster_of(5, 2))
    written = client.set_many(dict.fromkeys(KEYS, 2))
    assert set(written) == set(KEYS)
    assert client.brain.require_view().epoch == network.topology.epoch
    for key in KEYS[::17]:
        assert set(network.copies(key)) >= {node.id for node in network.owners(key)}


@pytest.mark.parametrize("seed", range(4))
def test_under_lossy_connections_every_key_has_exactly_one_outcome(
    make_network: Callable[..., MemoryNetwork], seed: int
) -> None:
    network = make_network(4, 2, seed=seed, weather=Weather(drop=0.05, lose=0.05, refuse=0.1))
    client = network.client()
    for _ in range(5):
        for result in (client.set_many(dict.fromkeys(KEYS, 1)), client.get_many(KEYS), client.delete_many(KEYS)):
            parts = (set(result), set(result.missing), set(result.failed))
            assert set.union(*parts) == set(KEYS), f"{network!r}"
            assert sum(map(len, parts)) == len(KEYS), f"{network!r}"
    network.weather = CLEAR
    network.run(seconds=3)
    assert len(client.set_many(dict.fromkeys(KEYS, 2))) == len(KEYS)


def test_a_node_whose_breaker_is_open_is_tried_by_batches_too(network: MemoryNetwork) -> None:
    client = network.client(balancing="primary")
    client.set_many(dict.fromkeys(KEYS, 1))
    client.get_many(KEYS)
    for _ in range(3):
        client.brain.nodes["n2"].replies = client.brain.nodes["n2"].batch = 1
        client.brain.breaker.failed("n2", "it said no")
    assert "n2" in client.brain.avoided
    before = network.nodes["n2"].asked[Verb.GET_MANY]
    assert dict(client.get_many(KEYS)) == dict.fromkeys(KEYS, 1)
    assert network.nodes["n2"].asked[Verb.GET_MANY] == before
    network.run(seconds=1)
    assert dict(client.get_many(KEYS)) == dict.fromkeys(KEYS, 1)
    assert network.nodes["n2"].asked[Verb.GET_MANY] == before + 1
    assert not client.brain.avoided
