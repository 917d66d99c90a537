"""Operations on real nodes: locks, moves, purges, repair, snapshots."""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from polling import until

from kvcache.cluster import changes
from kvcache.cluster.admin import Admin, Progress
from kvcache.cluster.restoring import restore_snapshot
from kvcache.cluster.snapshotting import take_snapshot
from kvcache_client import AsyncClient, ClientConfig
from kvcache_client.bodies.surroundings import who_am_i
from kvcache_client.core.locking import ask_any
from kvcache_client.protocol.errors import (
    AdminBusy,
    ControlPlaneUnavailable,
    DeadlineExceeded,
    Forbidden,
    InvalidOption,
    NoAnswer,
    SnapshotDamaged,
    StaleFence,
    Unavailable,
)
from kvcache_client.protocol.record import NEVER, PayloadType, make_record
from kvcache_client.protocol.verbs import Role, Verb

_names = itertools.count()
PATIENCE = 30.0


@pytest.fixture
def coordinator(request: pytest.FixtureRequest) -> str:
    """The server of the whole run: these clusters have names of their own."""
    thread = request.getfixturevalue("loop_thread")
    server: str = request.getfixturevalue("admin_coordinator")
    assert thread
    return server


@pytest.fixture(scope="module")
def admin_coordinator(loop_thread: Any) -> Iterator[str]:
    from kvcache.cluster.embedded import EmbeddedValkey

    valkey = EmbeddedValkey()
    loop_thread.run(valkey.start())
    yield valkey.url
    loop_thread.run(valkey.stop())


class Cluster:
    """Three nodes, a client and an operator."""

    def __init__(self, nodes: list[Any], cache: AsyncClient, admin: Admin) -> None:
        self.nodes = {node.id: node for node in nodes}
        self.cache = cache
        self.admin = admin

    def records(self) -> dict[str, int]:
        return {id: len(node.node.service.store) for id, node in self.nodes.items() if node.node}


@pytest.fixture
async def cluster(start_node: Callable[..., Any], coordinator: str) -> AsyncIterator[Cluster]:
    name = f"admin-{next(_names)}"
    options = {"cluster": name, "coordinator": coordinator, "replication_factor": 2}
    nodes = [await asyncio.to_thread(start_node, id=f"a{number}", **options) for number in (1, 2, 3)]
    seeds = [node.address for node in nodes]
    config = ClientConfig(role=Role.ADMIN, timeout=5.0)
    async with AsyncClient(seeds, timeout=5.0) as cache, AsyncClient(seeds, config=config) as operating:
        admin = Admin(operating, patience=10.0)
        await admin.wait_healthy(PATIENCE)
        await cache.topology()
        yield Cluster(nodes, cache, admin)


async def fill(cluster: Cluster, count: int = 200) -> dict[str, int]:
    values = {f"{'shop' if number % 2 else 'user'}:{number}": number for number in range(count)}
    await cluster.cache.set_many(values)
    return values


async def test_a_purge_hides_at_once_and_what_is_written_later_lives(cluster: Cluster) -> None:
    values = await fill(cluster)
    outcome = await cluster.admin.purge("shop:")
    assert outcome["unconfirmed"] == []
    found = await cluster.cache.get_many(values)
    assert set(found) == {key for key in values if key.startswith("user:")}
    await cluster.cache.set("shop:1", "new")
    assert await cluster.cache.get("shop:1") == "new"
    await cluster.cache.set_many({f"shop:{number}": "new" for number in range(50)})
    assert len(await cluster.cache.get_many([f"shop:{number}" for number in range(50)])) == 50
    await cluster.admin.flush()
    assert len(await cluster.cache.get_many(values)) == 0
    assert await cluster.cache.incr("shop:1") == 1


async def test_a_drained_node_hands_everything_over_and_is_gone(cluster: Cluster) -> None:
    values = await fill(cluster)
    seen: list[Progress] = []
    await cluster.admin.drain("a2", wait=PATIENCE, progress=seen.append)
    topology = await cluster.admin.topology()
    assert topology.member("a2") is None
    assert topology.layout.ids == {"a1", "a3"}
    assert len(await cluster.cache.get_many(values)) == len(values)
    held = cluster.records()
    assert held["a1"] == held["a3"] == len(values)
    with pytest.raises(InvalidOption, match="is no member"):
        await cluster.admin.drain("a2")
    await cluster.admin.remove("a3", wait=PATIENCE)
    with pytest.raises(InvalidOption, match="last owner"):
        await cluster.admin.remove("a1", force=True)
    assert len(await cluster.cache.get_many(values)) == len(values)


async def test_weights_and_copies_take_effect_without_a_miss(cluster: Cluster) -> None:
    values = await fill(cluster)
    await cluster.admin.replicas(3, wait=PATIENCE)
    assert set(cluster.records().values()) == {len(values)}
    await cluster.admin.replicas(1, wait=PATIENCE)
    await cluster.admin.reweight("a1", 4, wait=PATIENCE)
    assert len(await cluster.cache.get_many(values)) == len(values)
    status = await cluster.admin.status()
    shares = {member["id"]: member["copies"] for member in status["members"]}
    assert shares["a1"] > 3 * shares["a2"]
    assert (status["replication_factor"], status["healthy"]) == (1, True)


async def test_a_dry_run_tells_what_would_move_and_moves_nothing(cluster: Cluster) -> None:
    await fill(cluster)
    before = (await cluster.admin.topology()).epoch
    assert (await cluster.admin.dry_run())["partitions"] == 0
    outcome = await cluster.admin.dry_run(lambda topology: changes.drain(topology, "a2"))
    assert outcome["partitions"] == sum(row["partitions"] for row in outcome["moves"]) > 5000
    assert outcome["records"] > 0
    assert "a2" not in {row["to"] for row in outcome["moves"]}
    assert (await cluster.admin.topology()).epoch == before


async def test_repair_copies_what_one_owner_lacks_and_nothing_else(cluster: Cluster) -> None:
    await fill(cluster)
    # The pass in the background that follows the last join would copy what is planted before the operator's repair comes there.
    await until(lambda: not any(node.node.repairer.waiting for node in cluster.nodes.values()))
    assert (await cluster.admin.repair())["copied"] == 0
    view = cluster.cache.brain.require_view()
    key = b"planted"
    first, second = view.owners_of(key)
    record = make_record(cluster.cache.brain.hlc.stamp(), NEVER, PayloadType.TEXT, b"here only")
    cluster.nodes[second].node.service.take(key, record)
    outcome = await cluster.admin.repair()
    assert outcome["copied"] == 1
    assert cluster.nodes[first].node.service.store.peek(view.partition(key), key) == record
    with pytest.raises(InvalidOption, match="partition"):
        await cluster.admin.repair([16384])


async def test_a_snapshot_brings_back_what_a_flush_took_and_never_what_is_older(
    cluster: Cluster, tmp_path: Path
) -> None:
    values = await fill(cluster)
    await cluster.cache.set("short", 1, ttl=3600)
    await cluster.cache.delete("user:0")
    taken = await take_snapshot(cluster.admin, tmp_path / "one")
    assert taken["records"] >= len(values)
    await cluster.cache.set("user:2", "newer")
    again = await restore_snapshot(cluster.admin, tmp_path / "one")
    assert again["restored"] == len(values)  # the same once more, but the one that is newer there
    assert await cluster.cache.get("user:2") == "newer"
    await cluster.admin.flush()
    await cluster.cache.set("user:4", "newest")
    seen: list[Progress] = []
    await restore_snapshot(cluster.admin, tmp_path / "one", seen.append)
    found = await cluster.cache.get_many(values)
    assert dict(found) == {key: values[key] for key in values if key != "user:0"} | {"user:4": "newest"}
    entry = await cluster.cache.get_entry("short")
    assert entry is not None
    assert 3000 < entry.ttl <= 3600
    assert seen[-1].done == seen[-1].total == taken["records"]


@pytest.mark.parametrize("order", [(1, 2), (2, 1), (1, 2, 1)])
async def test_of_two_snapshots_the_newer_value_stays_in_whatever_order_they_are_restored(
    cluster: Cluster, tmp_path: Path, order: tuple[int, ...]
) -> None:
    keys = [f"user:{number}" for number in range(100)]
    for number, value in enumerate(("old", "new"), 1):
        await cluster.cache.set_many(dict.fromkeys(keys, value * (3 - number)))  # the older is the larger
        await cluster.cache.set("counter", number)
        await take_snapshot(cluster.admin, tmp_path / str(number))
    await cluster.admin.flush()
    await cluster.admin.purge("user:")
    await cluster.cache.set("user:0", "newest")
    for number in order:
        await restore_snapshot(cluster.admin, tmp_path / str(number))
    assert dict(await cluster.cache.get_many(keys)) == dict.fromkeys(keys, "new") | {"user:0": "newest"}
    assert await cluster.cache.incr("counter") == 3
    assert (await cluster.admin.repair())["copied"] == 0
    await take_snapshot(cluster.admin, tmp_path / "again")
    await cluster.admin.flush()
    assert not await cluster.cache.get_many(keys)
    await restore_snapshot(cluster.admin, tmp_path / "again")
    assert (await cluster.cache.get("user:0"), await cluster.cache.get("user:1")) == ("newest", "new")


async def test_bad_directories_and_damaged_files_change_nothing(cluster: Cluster, tmp_path: Path) -> None:
    await fill(cluster, 50)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    with pytest.raises(InvalidOption, match="not empty"):
        await take_snapshot(cluster.admin, tmp_path / "full")
    with pytest.raises(InvalidOption, match="no directory"):
        await restore_snapshot(cluster.admin, tmp_path / "nothing")
    await take_snapshot(cluster.admin, tmp_path / "good")
    segment = next((tmp_path / "good").glob("segment-*"))
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)
    await cluster.admin.flush()
    with pytest.raises(SnapshotDamaged, match=segment.name):
        await restore_snapshot(cluster.admin, tmp_path / "good")
    assert len(await cluster.cache.get_many([f"user:{number}" for number in range(50)])) == 0
    assert {each["resource"] for each in await cluster.admin.locks()} <= {"controller"}


async def test_the_second_at_once_is_told_who_is_at_it(cluster: Cluster) -> None:
    hasty = Admin(cluster.admin.client, patience=0.0)
    async with cluster.admin.lock("topology", "a long change"), cluster.admin.lock("job", "a long repair"):
        with pytest.raises(AdminBusy, match="a long change"):
            await hasty.purge("x")
        with pytest.raises(AdminBusy, match="a long repair"):
            await hasty.repair()
        assert {"topology", "job"} <= {each["resource"] for each in await cluster.admin.locks()}


async def test_a_fence_of_the_past_changes_nothing(cluster: Cluster) -> None:
    client = cluster.admin.client
    async with cluster.admin.lock("topology", "first") as lock:
        stale = lock.fence
    await cluster.admin.purge("x:")
    wish = b'{"change": "drain", "id": "a1"}'
    for _ in range(6):  # whichever node is asked
        with pytest.raises(StaleFence):
            await client.run(ask_any(client.brain, [0, Verb.CHANGE, stale, wish]))
    assert not (await cluster.admin.topology()).member("a1").leaving  # type: ignore[union-attr]


async def test_an_audit_line_says_who_did_what_under_which_fence_and_what_came_of_it(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="kvcache.audit"):
        done = await cluster.admin.purge("x:")
        with pytest.raises(InvalidOption):
            await cluster.admin.reweight("nobody", 2)
    who = re.escape(who_am_i(""))
    assert re.search(rf'{who}: .*"purge".*"x:".*, fence {done["fence"]}: done, epoch {done["epoch"]}', caplog.text)
    assert re.search(rf'{who}: .*"reweight".*"nobody".*, fence \d+: refused: .*is no member', caplog.text)


async def test_a_passing_error_does_not_end_the_wait_for_a_move(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = cluster.admin._look
    failures = [Unavailable("nobody answers"), NoAnswer("silent")]

    async def look() -> Any:
        if failures:
            raise failures.pop()
        return await looked()

    monkeypatch.setattr(cluster.admin, "_look", look)
    await cluster.admin.wait_settled(PATIENCE)
    assert not failures
    failures[:] = [Unavailable("nobody answers")] * 1000
    with pytest.raises(DeadlineExceeded, match="nobody answers"):
        await cluster.admin.wait_settled(0.01)
    failures[:] = [Forbidden("not yours")]  # type: ignore[list-item]
    with pytest.raises(Forbidden):
        await cluster.admin.wait_settled(PATIENCE)


async def test_repair_counts_what_it_could_not_compare(cluster: Cluster) -> None:
    await asyncio.to_thread(cluster.nodes["a3"].stop)
    await until(lambda: _is_down(cluster, "a3"))
    outcome = await cluster.admin.repair(list(range(300)))
    assert set(outcome["skipped"]) == {"a3"}
    assert 100 < outcome["skipped"]["a3"] < 300
    assert outcome["partitions"] == 300


def _is_down(cluster: Cluster, id: str) -> bool:
    member = cluster.nodes["a1"].node.topology().member(id)
    return member is not None and member.state == "down"


async def test_what_is_not_healthy_is_told(cluster: Cluster) -> None:
    await asyncio.to_thread(cluster.nodes["a3"].stop)
    with pytest.raises(DeadlineExceeded, match="a3"):
        await cluster.admin.wait_healthy(0.2)
    status = await cluster.admin.status()
    assert not status["healthy"]
    assert any("a3" in problem for problem in status["waiting_for"])


async def test_without_a_coordinator_operations_are_refused_and_data_is_served(start_node: Callable[..., Any]) -> None:
    node = await asyncio.to_thread(start_node, cluster="alone-admin")
    config = ClientConfig(role=Role.ADMIN, timeout=5.0)
    async with AsyncClient([node.address], config=config) as client:
        admin = Admin(client)
        for operation in (admin.flush, admin.repair, admin.locks):
            with pytest.raises(ControlPlaneUnavailable, match="without a coordinator"):
                await operation()
        await client.set("k", 1)
        assert await client.get("k") == 1
        assert (await admin.status())["healthy"]
