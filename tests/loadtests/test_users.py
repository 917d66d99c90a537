"""Users under Locust: they wait side by side, and they notice when a cache lies."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from locust_process import run_script
from polling import wait_until
from serving import LoopThread, ServingNode

from loadtests.proxy import Proxy
from loadtests.server_process import free_ports


def test_200_users_of_one_process_overlap_their_waits(
    loop_thread: LoopThread, start_node: Callable[..., ServingNode]
) -> None:
    """Nothing gets to the node any more: if one user's wait held up another, fewer than 200 requests would stand before it."""
    (port,) = free_ports(1)
    proxy = Proxy("127.0.0.1", port)
    loop_thread.run(proxy.__aenter__())
    try:
        start_node(listen=f"127.0.0.1:{port}", advertise=proxy.address)
        with ThreadPoolExecutor(1) as beside:
            ran = beside.submit(run_script, "overlap.py", f"kvcache://{proxy.address}", "200", "3000")
            try:
                wait_until(lambda: proxy.connections > 5 or ran.done(), 60.0)  # the users have begun
                loop_thread.call(lambda: proxy.delay(2.0, direction="up"))
                wait_until(lambda: proxy.connections >= 200 or ran.done(), 60.0)  # nobody need say HELLO any more
                loop_thread.call(lambda: proxy.cut(direction="up"))
                wait_until(lambda: proxy.held("up") >= 200 or ran.done(), 60.0)
                held = proxy.held("up")
            finally:
                loop_thread.call(proxy.heal)
            ended = ran.result()
    finally:
        loop_thread.run(proxy.__aexit__())
    assert held >= 200, ended.output
    assert ended.code == 0, ended.output


def _found(*words: str) -> dict[str, Any]:
    ran = run_script("lying_cache.py", *words)
    lines = [line for line in ran.output.splitlines() if line.startswith("FOUND ")]
    assert ran.code == 0, ran.output
    assert lines, ran.output
    found: dict[str, Any] = json.loads(lines[0].removeprefix("FOUND "))
    return found


def test_an_honest_cache_is_found_honest() -> None:
    found = _found("nothing", "WriteHeavy")
    facts = found["facts"]
    assert found["lies"] == found["locust failures"] == found["failed"] == found["in doubt"] == 0
    assert facts["checked"] > 10
    assert not {name for name in ("lost", "old", "wrong", "unreadable") if facts.get(name)}
    assert {"get hit n1", "get miss n1", "set ok n1", "delete ok n1"} == set(found["locust rows"])


@pytest.mark.parametrize("options", [("--zipf", "10"), ("--keys", "1"), ("--keys", "4")])
def test_many_writers_of_few_keys_go_on(options: tuple[str, ...]) -> None:
    """Nearly all draws meet a key that is being written; or there are fewer keys than writers."""
    found = _found("nothing", "WriteHeavy", *options)
    assert found["failed"] == found["in doubt"] == found["locust failures"] == 0
    assert not {name for name in ("lost", "old", "wrong", "unreadable") if found["facts"].get(name)}


@pytest.mark.parametrize(
    ("lie", "fact"), [("old", "old"), ("wrong", "wrong"), ("damaged", "wrong"), ("forgets", "lost")]
)
def test_each_lie_is_counted_as_what_it_is(lie: str, fact: str) -> None:
    found = _found(lie, "ReadWrite")
    assert found["lies"] > 20
    assert found["facts"][fact] == found["lies"]
    others = {"old", "wrong", "lost"} - {fact}
    assert not {name for name in others if found["facts"].get(name)}
    if fact != "lost":
        assert found["locust failures"] == found["lies"]


def test_an_acknowledged_write_that_was_dropped_is_lost_until_the_key_is_written_again() -> None:
    found = _found("drops", "ReadWrite")
    assert found["lies"] > 20
    assert found["facts"]["lost"] > 0
    assert not found["facts"].get("wrong")


def test_what_nodes_have_evicted_is_not_lost_also_where_it_is_missed_again_when_none_evicts_any_more() -> None:
    """The last reading misses what was evicted during the run, and makes nobody evict."""
    found = _found("evicts", "ReadWrite", "--keys", "2000")
    assert found["reasons"] >= found["lies"] > 20
    assert not {name for name in ("lost", "unexplained", "old", "wrong") if found["facts"].get(name)}


def test_counters_that_several_users_begin_to_use_at_once_are_found_honest() -> None:
    found = _found("nothing", "Counter")
    assert found["locust failures"] == 0
    assert not {name for name in ("lost", "old", "wrong", "unreadable") if found["facts"].get(name)}
    assert found["facts"]["checked"] == 3


def test_a_counter_that_forgets_an_increment_is_noticed() -> None:
    found = _found("miscounts", "Counter")
    assert found["lies"] > 20
    assert found["facts"]["old"] > 0
    assert found["facts"]["lost"] == found["lies"]


def test_whoever_had_to_compute_a_value_has_missed() -> None:
    found = _found("nothing", "Stampede")
    assert found["misses"] == found["facts"]["computed"] > 0
    assert {"get_or_compute hit n1", "get_or_compute miss n1"} <= set(found["locust rows"])
    assert found["locust failures"] == 0


def test_failed_reads_and_writes_in_doubt_are_told_apart() -> None:
    failing, silent = _found("fails", "ReadWrite"), _found("silent", "ReadWrite")
    assert (failing["failed"], failing["in doubt"]) == (failing["lies"], 0)
    assert (silent["failed"], silent["in doubt"]) == (0, silent["lies"])
    assert "get failed n1" in failing["locust rows"]
    assert "set in doubt n1" in silent["locust rows"]
    assert not silent["facts"].get("lost")


def _late(*words: str) -> float:
    ran = run_script("stall.py", *words)
    lines = [line for line in ran.output.splitlines() if line.startswith("LATE ")]
    assert ran.code == 0, ran.output
    assert lines, ran.output
    return float(lines[0].removeprefix("LATE "))


def test_open_arrivals_show_all_that_a_stall_holds_up_where_closed_users_show_one_operation_each() -> None:
    """A cache stands still for 1 s. At 200/s, 133 operations are due that will wait for more than a third of it."""
    closed, opened = _late(), _late("--rate", "200")
    assert closed < 20
    assert opened > 80


def test_damage_of_a_trace_that_all_workers_read_is_counted_once(tmp_path: Path) -> None:
    """Half a file, with a line that is no request and one whose value is larger than a node takes."""
    path = tmp_path / "sick.csv.gz"
    lines = b"".join(b"%d,%d\n" % (number * 7919 % 100_003, number % 1000) for number in range(50_000))
    whole = gzip.compress(b"key,size\n1,10\nwhat\n2,40000000\n" + lines)
    path.write_bytes(whole[: len(whole) // 2])
    ran = run_script("sick_trace.py", str(path))
    assert 'FACTS [{"damaged lines": 2, "cut traces": 1}, {}]' in ran.output, ran.output
