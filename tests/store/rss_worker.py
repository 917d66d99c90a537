"""Fills a store in a process of its own and prints what that took, as JSON. Run by test_store_rss.py."""

from __future__ import annotations

import gc
import json
import random
import sys
from collections.abc import Callable, Iterator

from kvcache.memory import resident_bytes, return_free_pages
from kvcache.store import MIN_BUDGET_BYTES, Store, StoreConfig
from kvcache.store.governor import MemoryGovernor
from kvcache_client.protocol.record import NEVER, make_record

NOW = 1_800_000_000_000
OBSERVE_EVERY = 64  # times per budget written: as often as a node looks while it takes 50 MB of writes a second


def resident() -> int:
    found = resident_bytes()
    if found is None:
        sys.exit("this system does not tell the resident memory")
    return found


def million(timed: bool) -> dict[str, float]:
    """Bytes per record beyond the 16 bytes of key and the 100 bytes of value; each with a time to live, or none."""
    dice = random.Random(5)
    store = Store(StoreConfig(1 << 30), NOW)
    before = resident()
    for number in range(1_000_000):
        key = b"%016d" % number
        expiry = NOW + dice.randint(1, 10**8) if timed else NEVER
        store.put(hash(key) & 16383, key, make_record(number, expiry, 1, bytes(100)))
    return {"overhead": (resident() - before) / 1_000_000 - 116, "ledger": store.used_bytes / 1_000_000 - 116}


def sizes(kind: str) -> Callable[[float], int]:
    dice = random.Random(7)
    table: dict[str, Callable[[float], int]] = {
        "fixed": lambda done: 100,
        "random": lambda done: dice.randint(10, 4096),
        "growing": lambda done: int(100 * 10**done * dice.uniform(0.5, 1.5)),
        "shrinking": lambda done: int(1000 / 10**done * dice.uniform(0.5, 1.5)),
    }
    return table[kind]


def writes(size: Callable[[float], int], total: int) -> Iterator[tuple[int, bytes]]:
    written = number = 0
    while written < total:
        payload = bytes(size(written / total))
        yield number, payload
        number += 1
        written += 16 + len(payload)


def overwritten(kind: str, budget: int, times: float) -> dict[str, float]:
    """Resident memory over the empty process, in budgets, after writing ``times`` budgets; some keys are read again."""
    dice = random.Random(11)
    # As many partitions as make each as full as one of 16384 is with 256 MiB.
    partitions = budget >> 14
    store = Store(StoreConfig(budget, partitions=partitions), NOW)
    base = resident()
    governor = MemoryGovernor(budget, base, MIN_BUDGET_BYTES)
    peak, observe_at, written = 0, 0, 0
    for number, payload in writes(sizes(kind), int(times * budget)):
        key = b"%016d" % number
        expiry = NEVER if number & 1 else NOW + dice.randint(10**7, 2 * 10**7)
        store.put(hash(key) % partitions, key, make_record(number, expiry, 1, payload))
        other = b"%016d" % (number - number % 50 if number & 2 else int(number * dice.random()))
        store.get(hash(other) % partitions, other)
        written += len(key) + len(payload)
        if written >= observe_at:
            observe_at = written + budget // OBSERVE_EVERY
            now = resident()
            peak = max(peak, now)
            advice = governor.observe(now)
            if advice.trim:
                return_free_pages()
            store.resize(advice.budget_bytes)
            store.advance(NOW)
    last = resident()
    store.check()
    return {"peak": (peak - base) / budget, "last": (last - base) / budget, "used": store.used_bytes / budget}


if __name__ == "__main__":
    gc.disable()
    if sys.argv[1] in ("million", "timed"):
        print(json.dumps(million(sys.argv[1] == "timed")))
    else:
        print(json.dumps(overwritten(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))))
