"""Large batches: they end in time with an outcome for each key, storm nobody, and blame nobody for their own haste."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from memory_network import MemoryClient, MemoryNetwork, Weather

from kvcache_client.core import plans
from kvcache_client.core.effects import Pause, Within
from kvcache_client.core.results import BatchResult
from kvcache_client.core.slices import BREATH, LONG, record_slices
from kvcache_client.protocol.errors import DeadlineExceeded, InDoubt, KvCacheError, NotApplied
from kvcache_client.protocol.limits import KEYS_PER_BATCH, KEYS_PER_FRAME
from kvcache_client.protocol.verbs import Verb

TIMEOUT = 0.25
SLACK = 0.02
"""Seconds: a pause before rerouting and the least time that a round gets."""

MANY = [f"key-{number}" for number in range(20_000)]
TOGETHER = 64
"""Requests of one connection that a node holds back at most (``stream.delayed_replies``)."""

CALLS: dict[str, Callable[[Any, list[str]], Any]] = {
    "get_many": lambda client, keys: client.get_many(keys),
    "set_many": lambda client, keys: client.set_many(dict.fromkeys(keys, 1)),
    "delete_many": lambda client, keys: client.delete_many(keys),
}


def ready(network: MemoryNetwork, **options: Any) -> MemoryClient:
    """Return a client that has a connection to every node already."""
    client = network.client(timeout=TIMEOUT, **options)
    client.get_many(MANY[:100])
    assert len(client.session.wires) == len(network.nodes)
    return client


def run(network: MemoryNetwork, client: MemoryClient, verb: str, keys: list[str]) -> BatchResult[Any]:
    """Carry a batch out; it must end in time, with one outcome for each key."""
    call = CALLS[verb](client.later, keys)
    network.run(until=lambda: call.done)
    assert call.took <= TIMEOUT + SLACK
    result: BatchResult[Any] = call.result()
    parts = (set(result), set(result.missing), set(result.failed))
    assert set.union(*parts) == set(keys)
    assert sum(map(len, parts)) == len(keys)
    return result


def largest_volley(network: MemoryNetwork) -> Counter[str]:
    """Count, from now on, the most single requests that each node gets at a time."""
    most: Counter[str] = Counter()
    for node in network.nodes.values():
        execute, at = node.answer, Counter[float]()

        def answer(message: Any, execute: Any = execute, at: Counter[float] = at, id: str = node.id) -> Any:
            if message[1] in (Verb.PUT, Verb.HINT, Verb.GET, Verb.PEEK):
                at[network.now] += 1
                most[id] = max(most[id], at[network.now])
            return execute(message)

        node.answer = answer  # type: ignore[method-assign]
    return most


@pytest.mark.parametrize("verb", CALLS)
def test_what_there_is_no_time_for_is_not_begun(make_network: Callable[..., MemoryNetwork], verb: str) -> None:
    network = make_network(3, 2)
    client = ready(network)
    client.set_many(dict.fromkeys(MANY[:9000], 0))
    network.weather = Weather(one_way=(0.01, 0.01))
    for node in network.nodes.values():
        node.asked.clear()
    result = run(network, client, verb, MANY)
    assert len(result) >= 5 * KEYS_PER_FRAME
    assert len(result.failed) >= 5 * KEYS_PER_FRAME
    assert all(isinstance(error, DeadlineExceeded) and error.retryable for error in result.failed.values())
    assert set(result.failed) == set(MANY[len(result) + len(result.missing) :])  # the first come first
    assert not client.brain.avoided
    singles = sum(node.asked[verb] for node in network.nodes.values() for verb in (Verb.GET, Verb.PUT, Verb.HINT))
    assert singles == 0
    if verb == "set_many":
        assert all(len(network.copies(key)) == 2 for key in list(result)[::97])
        assert not any(network.copies(key) for key in list(result.failed)[::97] if key not in MANY[:9000])
    network.weather = Weather()
    assert client.set("k", 1)
    assert client.get("k") == 1


def test_a_batch_of_any_legal_size_succeeds_where_there_is_time(make_network: Callable[..., MemoryNetwork]) -> None:
    network = make_network(1, 1)
    client = ready(network)
    keys = [f"{number}" for number in range(KEYS_PER_BATCH)]
    assert len(client.set_many(dict.fromkeys(keys, 1))) == KEYS_PER_BATCH
    assert len(client.get_many(iter(keys))) == KEYS_PER_BATCH


@pytest.mark.parametrize("verb", CALLS)
def test_when_all_nodes_fall_silent_only_what_was_sent_is_in_doubt(
    make_network: Callable[..., MemoryNetwork], verb: str
) -> None:
    network = make_network(3, 2)
    client = ready(network)
    network.weather = Weather(one_way=(0.004, 0.004))
    network.after(0.06, lambda: [node.pause() for node in network.nodes.values()])
    result = run(network, client, verb, MANY)
    kinds = Counter(type(error) for error in result.failed.values())
    assert len(result) + len(result.missing) >= KEYS_PER_FRAME
    if verb == "get_many":
        assert not any(isinstance(error, InDoubt) for error in result.failed.values())
    else:
        assert 0 < kinds[InDoubt] <= KEYS_PER_FRAME
    assert all(isinstance(error, InDoubt | NotApplied) for error in result.failed.values())


@pytest.mark.parametrize("failure", ["kill", "pause"])
@pytest.mark.parametrize("verb", CALLS)
def test_while_a_node_is_away_a_large_batch_asks_the_others_for_a_few_keys_at_a_time(
    make_network: Callable[..., MemoryNetwork], verb: str, failure: str
) -> None:
    network = make_network(4, 2)
    client = ready(network)
    keys = MANY[:3000]
    client.set_many(dict.fromkeys(keys, 0))
    getattr(network.nodes["n2"], failure)()
    most = largest_volley(network)
    result = run(network, client, verb, keys)
    assert not result.failed
    assert set(result) == set(keys)
    assert max(most.values(), default=0) <= (KEYS_PER_FRAME if verb == "get_many" else TOGETHER)
    assert set(client.brain.down) <= {"n2"}
    if verb == "set_many":  # whatever was acknowledged lies on two nodes that live
        newest = {key: max(network.copies(key).values()) for key in keys}
        assert all(
            sum(record == newest[key] for id, record in network.copies(key).items() if id != "n2") >= 2 for key in keys
        )


@pytest.mark.parametrize("level", ["quorum", "all"])
def test_several_copies_of_many_keys_are_read_a_few_keys_at_a_time(
    make_network: Callable[..., MemoryNetwork], level: str
) -> None:
    network = make_network(3, 3)
    client = ready(network)
    client.set_many(dict.fromkeys(MANY[:2000], 1))
    most = largest_volley(network)
    assert len(client.get_many(MANY[:2000], consistency=level)) == 2000
    assert 0 < max(most.values()) <= TOGETHER
    network.weather = Weather(one_way=(0.02, 0.02))
    call = client.later.get_many(MANY, consistency=level)
    network.run(until=lambda: call.done)
    assert call.took <= TIMEOUT + SLACK
    assert len(call.result()) + len(call.result().failed) + len(call.result().missing) == len(MANY)


def test_haste_at_the_end_of_a_call_says_nothing_of_a_node(make_network: Callable[..., MemoryNetwork]) -> None:
    network = make_network(3, 2)
    client = ready(network)
    node = next(iter(network.nodes))
    network.weather = Weather(one_way=(0.02, 0.02))

    def hasty() -> Any:
        return (yield Within([(node, [0, Verb.PING])], 0.01))

    (outcome,) = client.session.run(hasty())
    assert isinstance(outcome, KvCacheError)
    assert not client.brain.down
    assert client.brain.tells_silence(client.brain.attempt)


def large(count: int) -> Mapping[bytes, bytes]:
    return {b"%d" % number: b"x" * 1_000_000 for number in range(count)}


def test_slices_are_bounded_by_keys_and_by_bytes() -> None:
    assert [len(part) for part in record_slices(large(7))] == [2, 2, 2, 1]
    many = {b"%d" % number: b"x" for number in range(2 * KEYS_PER_FRAME + 1)}
    parts = list(record_slices(many))
    assert [len(part) for part in parts] == [KEYS_PER_FRAME, KEYS_PER_FRAME, 1]
    assert {name: record for part in parts for name, record in part.items()} == many
    huge = {b"a": b"x" * 5_000_000, b"b": b"y", b"c": b"z" * 5_000_000}
    assert [list(part) for part in record_slices(huge)] == [[b"a"], [b"b"], [b"c"]]


@pytest.mark.parametrize("verb", CALLS)
def test_while_many_keys_are_named_and_encoded_others_have_their_turn(network: MemoryNetwork, verb: str) -> None:
    client = ready(network)
    keys = dict.fromkeys(MANY, 1)
    brain = client.brain
    plan: Any = {
        "get_many": lambda: plans.get_many(brain, brain.spaces.whole, keys),
        "set_many": lambda: plans.set_many(brain, brain.spaces.whole, keys, None),
        "delete_many": lambda: plans.delete_many(brain, brain.spaces.whole, keys),
    }[verb]()
    breaths = 0
    effect = plan.send(None)
    while isinstance(effect, Pause):
        assert effect is BREATH
        breaths += 1
        keys.clear()  # by whoever has his turn
        effect = plan.send(None)
    assert breaths >= len(MANY) // LONG
    plan.close()


def test_a_short_batch_asks_at_once(network: MemoryNetwork) -> None:
    client = ready(network)
    brain = client.brain
    plan = plans.set_many(brain, brain.spaces.whole, dict.fromkeys(MANY[:100], 1), None)
    assert isinstance(plan.send(None), list)
    plan.close()
