"""What the operating system says that a store takes: each case fills one in a process of its own.

Each process starts with the environment of a node (``kvcache.memory``); tests/integration/test_node_memory.py asks a real one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kvcache.memory import node_environment

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="this system does not tell the resident memory"),
]

WORKER = Path(__file__).with_name("rss_worker.py")
BUDGET = 16 << 20


def measure(*arguments: str) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, str(WORKER), *arguments],
        env=node_environment(os.environ),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


@pytest.mark.parametrize("kind", ["million", "timed"])
def test_a_record_takes_at_most_200_bytes_beyond_key_and_value_and_the_ledger_knows(kind: str) -> None:
    figures = measure(kind)
    assert figures["overhead"] <= 200
    assert figures["ledger"] == pytest.approx(figures["overhead"], abs=15)


@pytest.mark.parametrize(
    ("sizes", "times", "least_used"),
    [("fixed", 1, 0.7), ("random", 4, 0.9), ("growing", 1.5, 0.4), ("shrinking", 1, 0.5)],
)
def test_a_process_stays_within_a_tenth_of_its_budget_and_uses_most_of_it(
    sizes: str, times: float, least_used: float
) -> None:
    figures = measure(sizes, str(BUDGET), str(times))
    assert figures["peak"] <= 1.1
    assert figures["last"] <= 1.1
    assert figures["used"] >= least_used
