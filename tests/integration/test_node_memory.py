"""A real node, started as its users start it, stays within its budget while the sizes of its values shift tenfold."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from polling import wait_until

from kvcache_client import Client
from loadtests.server_process import free_ports

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system does not tell the resident memory"),
]

BUDGET = 64 << 20
BATCH = 400
SMALL, LARGE = 100, 1024
# Bytes of keys and values, in budgets. A small record takes 2.4 times its key and value: both fill the store more than once.
SMALL_TIMES, LARGE_TIMES = 0.45, 1.2


def get(port: int, path: str) -> bytes | None:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as reply:
            return bytes(reply.read())
    except (OSError, urllib.error.URLError):
        return None


@pytest.fixture
def node() -> Iterator[tuple[int, int]]:
    """A node's process id and port."""
    [port] = free_ports(1)
    words = ("--listen", f"127.0.0.1:{port}", "--memory", str(BUDGET), "--log-level", "error")
    given = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHONMALLOC", "KVCACHE_"))}
    process = subprocess.Popen([sys.executable, "-m", "kvcache", "node", *words], env=given)
    try:
        wait_until(lambda: get(port, "/readyz") is not None)
        yield process.pid, port
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(20)


def memory(pid: int, field: str) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    [line] = [line for line in status if line.startswith(field + ":")]
    return int(line.split()[1]) * 1024


def write(client: Client, first: int, size: int, times: float) -> int:
    """Write new keys until they and their values add up to ``times`` budgets; return the next number."""
    end = first + int(times * BUDGET) // (16 + size)
    for start in range(first, end, BATCH):
        keys = [f"key:{number:012d}" for number in range(start, min(start + BATCH, end))]
        client.set_many({key: key.encode().ljust(size, b".") for key in keys})
    return end


@pytest.mark.parametrize(
    "phases",
    [((SMALL, SMALL_TIMES), (LARGE, LARGE_TIMES)), ((LARGE, LARGE_TIMES), (SMALL, SMALL_TIMES))],
    ids=["growing", "shrinking"],
)
def test_a_node_whose_values_change_tenfold_never_exceeds_its_budget_by_a_tenth(
    node: tuple[int, int], phases: tuple[tuple[int, float], ...]
) -> None:
    pid, port = node
    with Client(f"127.0.0.1:{port}", timeout=20) as client:
        client.get("nothing")
        empty = memory(pid, "VmRSS")
        number = 0
        for size, times in phases:
            number = write(client, number, size, times)
        assert memory(pid, "VmHWM") - empty <= 1.1 * BUDGET  # the highest of all moments
    store = json.loads(get(port, "/v1/stats") or b"{}")["store"]
    assert store["evictions"] > 0
    assert store["used_bytes"] >= BUDGET // 3
